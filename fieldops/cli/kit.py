"""`fieldops kit ...`: what a device without internet installs its agent from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import tell
from fieldops.cli.options import Json
from fieldops.cli.output import document, pairs

app = group()


@app.command()
def build(
    context: typer.Context,
    platform: Annotated[str, typer.Option("--platform", help="linux-x86_64, linux-aarch64, ...: see `device show`.")],
    python: Annotated[str, typer.Option("--python", metavar="X.Y", help="The device's Python, as `python3 --version` says.")],
    dest: Annotated[Path | None, typer.Option("--dest", metavar="DIR", help="Where to. Default: kit-PLATFORM-PYTHON.")] = None,
    json: Json = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds for all downloads.")] = 900.0,
) -> None:
    """Gather the agent and all it needs, by hash, while online. Refused when a wheel does not exist for that device."""
    from fieldops.cli.documents.office import BuiltKit
    from fieldops.ports import Progress

    call = Call.of(context, json=json, timeout=timeout)
    folder = (dest or Path(f"kit-{platform}-{python}")).absolute()

    def said(progress: Progress) -> None:
        tell(f"{progress.phase}: {progress.done} of {progress.total}")

    made = call.run(lambda: call.laptop.office.build_kit(platform, python, folder, call.deadline(), said))
    kit = made.kit
    if json:
        document(
            BuiltKit(
                folder=str(made.folder),
                version=kit.version,
                platform=kit.platform,
                python=kit.python,
                files=len(kit.files),
                size_bytes=kit.size_bytes,
            )
        )
        return
    pairs(
        [
            ("kit", str(made.folder)),
            ("fieldops", kit.version),
            ("for", f"{kit.platform}, Python {kit.python}"),
            ("wheels", str(len(kit.files))),
            ("size", f"{kit.size_bytes / 1e6:.0f} MB"),
        ]
    )


@app.command()
def check(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    json: Json = False,
) -> None:
    """Compare every file of a kit with what was built."""
    from fieldops.cli.documents.office import BuiltKit

    made = Call.of(context, json=json).laptop.office.read_kit(folder.absolute())
    kit = made.kit
    if json:
        document(
            BuiltKit(
                folder=str(made.folder),
                version=kit.version,
                platform=kit.platform,
                python=kit.python,
                files=len(kit.files),
                size_bytes=kit.size_bytes,
            )
        )
        return
    pairs([("kit", str(made.folder)), ("for", f"{kit.platform}, Python {kit.python}"), ("wheels", f"{len(kit.files)} as built")])

"""`fieldops demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldops.cli.call import single
from fieldops.cli.options import Json

app = single()


@app.command()
def demo(
    tour: Annotated[bool, typer.Option("--tour", help="Do the whole main job without a screen, telling each step.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Keep the fleet running without a screen until SIGTERM.")] = False,
    devices: Annotated[int | None, typer.Option("--devices", min=1, help="How many devices.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where it lives. Default: a folder that goes away.")
    ] = None,
    json: Json = False,
) -> int:
    """A sample fleet on this machine: real agents, real SSH, real inference, scripted faults; then the console."""
    from fieldops.demo import run

    return run(tour=tour, serve=serve, devices=devices, dir=folder, json=json)

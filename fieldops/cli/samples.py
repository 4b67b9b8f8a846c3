"""`fieldops samples pull|label|keygen|open`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, group, only_failure
from fieldops.cli.documents.changes import Labelled, Pulled
from fieldops.cli.options import DeviceArg, Json, Timeout
from fieldops.cli.output import document, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fieldops.deadline import Deadline
    from fieldops.ports import Device
    from fieldops.wire import Sample

app = group()

ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help="As `fieldops models DEVICE` names it.")]
SHADES = " .:-=+*#%@"
MOST_SHOWN = 64  # values a side


@app.command()
def pull(context: typer.Context, device: DeviceArg, model: ModelArg, json: Json = False, timeout: Timeout = 60.0) -> int:
    """Copy the inputs that a device kept to this laptop, readable by you alone. They may show people."""
    from fieldops.operations import samples

    call = Call.of(context, json=json, timeout=timeout)
    entry = call.laptop.inventory().find(device)

    def work(connected: Device, deadline: Deadline) -> tuple[int, int]:
        return samples.pull(connected, call.laptop.samples, model, deadline)

    outcomes = call.on_each([entry], work)
    only_failure(outcomes)
    new, unreadable = outcomes[0].value or (0, 0)
    waiting = len(samples.unlabelled(call.laptop.samples, entry, model))
    if json:
        document(Pulled(device=entry.name, model=model, new=new, unreadable=unreadable, unlabelled=waiting))
    else:
        lost = f"; {unreadable} could not be opened on the device" if unreadable else ""
        line(f"{entry.name}: {new} new inputs of {model}, {waiting} without a label{lost}")
    return call.finish(outcomes)


@app.command()
def label(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Lines `id,label`, instead of being asked.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the inputs without a label; ask nothing.")] = False,
    json: Json = False,
) -> int:
    """Say what pulled inputs were. Nothing is sent; `fieldops models recalibrate` uses the labels."""
    from fieldops.errors import UsageFault
    from fieldops.operations import samples

    call = Call.of(context, json=json)
    entry, folder = call.laptop.inventory().find(device), call.laptop.samples
    waiting = samples.unlabelled(folder, entry, model)
    if listed:
        for sample in waiting:
            line(f"{sample.id}\t{sample.reason}\t{sample.label}\t{_share(sample)}")
        return 0
    if csv is not None:
        new = folder.read_csv(csv)
    elif json:
        raise UsageFault("--json asks nobody", reason="usage", next_step="give the labels with --csv FILE")
    else:
        new = dict(_asked(waiting))
    there, path = samples.label(folder, entry, model, new)
    if json:
        document(Labelled(device=entry.name, model=model, new=len(new), labelled=there, file=str(path)))
    else:
        line(f"{entry.name}: {there} labelled inputs of {model} in {path}")
    return 0


@app.command()
def keygen(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; keep it offline.")],
    json: Json = False,
) -> None:
    """Make a key for which devices seal kept inputs; its public half goes into the policy (`sample_recipients`)."""
    from fieldops.cli.documents.visit import SampleKey

    call = Call.of(context, json=json)
    public = call.laptop.office.new_sample_key(file)
    if json:
        document(SampleKey(file=str(file), public_key=public))
        return
    line(public)
    line(f"next: into `sample_recipients` of policy.json, and sign it; the private key is in {file}")


@app.command("open")
def open_export(
    context: typer.Context,
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="As `fieldops visit close` wrote it.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key of `samples keygen`.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where the opened inputs go, a JSON text a line.")],
    json: Json = False,
) -> None:
    """Open sealed inputs away from the device, with the key that the policy named. They may show people."""
    from fieldops.cli.documents.visit import SamplesOpened

    call = Call.of(context, json=json)
    opened, unreadable = call.laptop.office.open_samples(export, key, to)
    if json:
        document(SamplesOpened(file=str(to), samples=opened, unreadable=unreadable))
    else:
        lost = f"; {unreadable} are sealed for other keys or damaged" if unreadable else ""
        line(f"{opened} inputs in {to}{lost}")


def _share(sample: Sample) -> str:
    return f"{sample.confidence:.3f}" if sample.confidence is not None else "-"


def _asked(waiting: list[Sample]) -> Iterator[tuple[int, int]]:
    """One at a time on the terminal. Enter skips, `q` ends; what was said before counts."""
    from fieldops.cli.diagnostics import tell

    for number, sample in enumerate(waiting, 1):
        for row in picture(sample):
            tell(f"  {row}")
        tell(
            f"{number} of {len(waiting)}: input {sample.id}, {sample.reason}; answered {sample.label}, confidence {_share(sample)}"
        )
        while True:
            said = typer.prompt("what was it (a number; Enter skips, q ends)", default="", show_default=False, err=True).strip()
            if said == "q":
                return
            if not said:
                break
            if said.isascii() and said.isdigit():
                yield sample.id, int(said)
                break


def picture(sample: Sample) -> list[str]:
    """The first input as shades, where its values make a square; nothing where they do not."""
    import json
    from math import isqrt

    from fieldops.wire import unb64

    try:
        data = [float(value) for value in json.loads(unb64(sample.request))["inputs"][0]["data"]]
    except (ValueError, KeyError, IndexError, TypeError):
        return []
    side = isqrt(len(data))
    if not 2 <= side <= MOST_SHOWN or side * side != len(data):
        return []
    low, high = min(data), max(data)
    shade = [SHADES[round((value - low) / (high - low or 1.0) * (len(SHADES) - 1))] * 2 for value in data]
    return ["".join(shade[at : at + side]) for at in range(0, len(data), side)]

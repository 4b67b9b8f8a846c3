"""`fieldops logs DEVICE...`"""

from __future__ import annotations

from typing import Annotated

import typer

from fieldops.cli.call import Call, Outcome, only_failure, single
from fieldops.cli.diagnostics import tell
from fieldops.cli.documents.readings import DeviceLogs, Logs
from fieldops.cli.options import DevicesArg, Json, Timeout
from fieldops.cli.output import document, instant, line, table
from fieldops.deadline import Deadline
from fieldops.ports import Device
from fieldops.wire import JournalEntry

app = single()

Read = tuple[list[str] | None, list[JournalEntry] | None]


@app.command()
def logs(
    context: typer.Context,
    devices: DevicesArg,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000, help="At most this many, the newest.")] = 100,
    journal: Annotated[bool, typer.Option("--journal", help="What the device did and decided, instead of its log.")] = False,
    json: Json = False,
    timeout: Timeout = 20.0,
) -> int:
    """What the agent logged, newest last. Times are the device's own."""
    call = Call.of(context, json=json, timeout=timeout)

    def read(device: Device, deadline: Deadline) -> Read:
        if not journal:
            return device.logs(lines, deadline), None
        newest = device.journal(0, deadline).newest
        return None, device.journal(max(0, newest - lines), deadline).entries

    outcomes = call.on_each(call.entries(devices), read)
    only_failure(outcomes)
    if json:
        document(Logs(devices=[_item(outcome) for outcome in outcomes]))
    else:
        _print(outcomes)
    return call.finish(outcomes)


def _item(outcome: Outcome[Read]) -> DeviceLogs:
    text, journal = outcome.value or (None, None)
    return DeviceLogs(device=outcome.entry.name, lines=text, journal=journal, error=outcome.error_doc)


def _print(outcomes: list[Outcome[Read]]) -> None:
    for outcome in outcomes:
        text, journal = outcome.value or (None, None)
        prefix = f"{outcome.entry.name}: " if len(outcomes) > 1 else ""
        if text == []:
            tell(f"{outcome.entry.name}: its log is empty; `--journal` shows what it did")
        for each in text or ():
            line(f"{prefix}{each}")
        if journal is not None:
            table(
                ("TIME", "WHO", "DID", "MODEL", "VERSION", "WHY", "DETAIL"),
                [
                    (instant(each.time), _who(each.actor), each.action, each.model, each.version, each.reason, each.detail)
                    for each in journal
                ],
                empty=f"{prefix}the journal is empty",
            )


def _who(actor: str) -> str:
    kind, _, name = actor.partition(":")
    return f"{kind} {name.removeprefix('SHA256:')[:8]}" if kind in {"device", "person"} else actor

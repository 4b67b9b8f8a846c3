"""`fieldops visit prepare|close`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.options import AllDevices, Json, Reason, SomeDevicesArg, Ticket, Timeout
from fieldops.cli.output import document, line, table
from fieldops.errors import CheckFailed, FieldopsError, UsageFault, gravest

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.readiness import Finding

app = group()


@app.command()
def prepare(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    days: Annotated[
        float, typer.Option("--days", metavar="DAYS", min=0.0, help="How long keys and signatures must still hold.")
    ] = 7.0,
    source: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="A stick or folder, instead of what is plugged in.")
    ] = None,
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """What is missing for a visit while it can still be fetched; without DEVICE, of all of them. Asks no device. Exit 7 when not ready."""
    from fieldops.operations.readiness import DAY_S

    call = Call.of(context, json=json, timeout=timeout)
    entries = call.entries(devices, everyone=not devices)
    until = call.laptop.clock.now() + days * DAY_S
    findings = call.run(lambda: _findings(call, entries, source, until))
    ready = all(finding.ok for finding in findings)
    if json:
        from fieldops.cli.documents.visit import VisitReadiness

        document(VisitReadiness(ready=ready, until=until, findings=findings))
    else:
        table(
            ("", "WHAT", "", "NEXT"),
            [("ok" if each.ok else "MISSING", each.what, each.detail, each.next) for each in findings],
        )
    return 0 if ready else CheckFailed.exit_code


def _findings(call: Call, entries: list[DeviceEntry], source: str | None, until: float) -> list[Finding]:
    from fieldops.operations import readiness, sync

    laptop = call.laptop
    now = laptop.clock.now()
    found = readiness.of_trust(laptop.trust.facts(), laptop.trust.policy(), laptop.technician.actor(), now, until)
    found += readiness.of_devices(entries, [entry.id for entry in entries if entry.id and laptop.pins.of(entry.id)])
    sticks = [laptop.media.at(source)] if source is not None else laptop.media.find()
    usable: list[str] = []
    for stick in sticks:
        try:
            usable += [offer.ref for offer in laptop.trust.candidates(stick, call.deadline()) if not offer.reason]
        except FieldopsError as error:
            found.append(readiness.Finding(what="stick", ok=False, detail=str(error), next=error.next_step or ""))
    found.append(readiness.of_sticks([stick.name for stick in sticks], usable))
    state = sync.status(laptop.journal)
    found.append(readiness.of_log(state.queued, laptop.telemetry.queue().records, laptop.config.store_url))
    found.append(readiness.of_disk(laptop.free_bytes()))
    return found


@app.command()
def close(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Instead of a new folder under visits/.")] = None,
    then_sync: Annotated[bool, typer.Option("--sync", help="Then bring it all to the central store.")] = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """Take along what devices know: acts of their own, telemetry, sealed inputs; warn of what is not over; write a report."""
    from fieldops.cli.diagnostics import tell
    from fieldops.operations import visit
    from fieldops.operations.gate import Words

    call = Call.of(context, json=json, timeout=timeout)
    laptop = call.laptop
    entries = call.entries(devices, everyone=everyone)
    folder, gate = laptop.visit_folder(out), laptop.gate()
    outcomes = call.on_each(
        entries, lambda device, deadline: visit.leave(gate, device, laptop.telemetry, folder, laptop.clock, deadline)
    )
    lefts = [outcome.value or visit.unreached(outcome.entry.name, outcome.error or _silent()) for outcome in outcomes]
    push = (lambda: _sync(call)) if then_sync else None
    report = visit.close(gate, lefts, laptop.telemetry, folder, laptop.clock, Words(reason, ticket), push)
    errors = [error for error in (*(left.error for left in lefts), report.sync_error) if error is not None]
    if json:
        document(report)
    else:
        for words in visit.text_of(report).splitlines():
            line(words)
        tell(f"report: {folder.path / 'report.txt'}")
    return gravest(error.exit for error in errors)


def _silent() -> FieldopsError:
    return UsageFault("it gave neither answer nor error", next_step="report this")


def _sync(call: Call) -> object:
    from fieldops.operations import sync

    laptop = call.laptop
    store = laptop.store()
    with laptop.exclusive("sync"):
        return call.run(lambda: sync.push(laptop.journal, store, laptop.clock, call.deadline(), shelf=laptop.telemetry))

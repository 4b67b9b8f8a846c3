"""`fieldops models DEVICE...`"""

from __future__ import annotations

import typer

from fieldops.cli.call import AllDevices, Call, Json, Outcome, SomeDevicesArg, Timeout, only_failure, single
from fieldops.cli.documents import DeviceModels, ModelsReport
from fieldops.cli.output import document, line, size, table
from fieldops.wire import ModelsReport as Report
from fieldops.wire import SlotStatus

app = single()


@app.command()
def models(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    json: Json = False,
    timeout: Timeout = 20.0,
) -> int:
    """Which versions answer, which are held, what a rollback would bring back, and the last validation."""
    from fieldops.operations import observe

    call = Call.of(context, json=json, timeout=timeout)
    entries = call.entries(devices, everyone=everyone)
    outcomes = call.on_each(entries, observe.models)
    only_failure(outcomes)
    if json:
        document(ModelsReport(devices=[_item(outcome) for outcome in outcomes]))
        return call.finish(outcomes)
    read = [(outcome.entry.name, outcome.value) for outcome in outcomes if outcome.value is not None]
    rows = [_row(name, slot) for name, report in read for slot in report.slots]
    table(("DEVICE", "MODEL", "STATE", "ANSWERS", "LAST-GOOD", "CANDIDATE", "WHY"), rows, empty="no models")
    if len(entries) == 1:
        for _, report in read:
            _details(report)
    return call.finish(outcomes)


def _item(outcome: Outcome[Report]) -> DeviceModels:
    report = outcome.value
    return DeviceModels(
        device=outcome.entry.name,
        models=report.slots if report else None,
        lease_holder=report.lease_holder if report else None,
        error=outcome.error_doc,
    )


def _row(device: str, slot: SlotStatus) -> tuple[object, ...]:
    state = slot.state.replace("_", " ")
    if slot.deadline_s is not None:
        state += f", {slot.deadline_s:.0f} s left"
    answers = slot.candidate if slot.state == "trial" else slot.active
    return device, slot.model, state, answers or "the rule only", slot.last_good, slot.candidate, slot.reason


def _details(report: Report) -> None:
    versions = [(slot, each) for slot in report.slots for each in slot.versions]
    if versions:
        line()
        table(
            ("MODEL", "VERSION", "ROLE", "SIGNED BY", "SIZE"),
            [
                (slot.model, each.version, each.role.replace("_", "-"), each.signed_by or "nobody", size(each.size_bytes))
                for slot, each in versions
            ],
        )
    checks = [(slot, check) for slot in report.slots for check in slot.checks]
    if checks:
        line()
        table(
            ("LAST VALIDATION", "CHECK", "RESULT", "MEASURED", "LIMIT", "NOTE"),
            [
                (slot.model, check.name, "ok" if check.ok else "FAILED", check.measured, check.limit, check.note)
                for slot, check in checks
            ],
        )
    if report.lease_holder:
        line()
        until = f" for {report.lease_s:.0f} s more" if report.lease_s is not None else ""
        line(f"held by laptop {report.lease_holder[:8]}{until}: no other one can change it meanwhile")

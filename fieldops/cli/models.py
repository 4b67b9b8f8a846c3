"""`fieldops models DEVICE...`, and what looks after models on a device: `models prune|tiers|recalibrate|disarm|tune`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import (
    AllDevices,
    Call,
    DeviceArg,
    DryRun,
    Json,
    Outcome,
    Reason,
    SomeDevicesArg,
    Ticket,
    Timeout,
    Yes,
    group,
    only_failure,
)
from fieldops.cli.documents.readings import DeviceModels, ModelsReport
from fieldops.cli.output import document, line, size, table
from fieldops.wire import ModelsReport as Report
from fieldops.wire import SlotStatus

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.ports import Device
    from fieldops.steps import Care
    from fieldops.wire import StepRecord

app = group()

ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help="As `fieldops models DEVICE` names it.")]


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
    if slot.armed_until is not None:
        state += ", armed"
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


@app.command()
def prune(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    versions: Annotated[
        list[str] | None,
        typer.Argument(metavar="VERSION...", help="Default: all that are stored or quarantined.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """Remove versions from a device's disk. Never the active one, nor the one it would go back to."""
    from fieldops.steps import Prune

    step = Prune(model=model, versions=versions or [])
    call = Call.of(context, json=json, timeout=timeout)
    return care(call, device, lambda _: step, dry_run=dry_run, yes=yes, reason=reason, ticket=ticket)


@app.command()
def tiers(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    large: Annotated[str, typer.Option("--large", help="auto or never.")] = "auto",
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Confidence (0 to 1) below which the large model is asked.")
    ] = None,
    hottest: Annotated[float | None, typer.Option("--hottest", metavar="CELSIUS", help="From here on it rests.")] = None,
    battery: Annotated[
        float | None, typer.Option("--battery", metavar="PERCENT", help="Below this charge it rests, unless charging.")
    ] = None,
    power: Annotated[
        float | None, typer.Option("--power", metavar="WATTS", help="From this power of the device on it rests.")
    ] = None,
    queue: Annotated[int, typer.Option("--queue", help="From so many waiting requests on it rests.")] = 8,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """When the large model of a cascade may run on a device. Without options: as signed."""
    from fieldops.errors import UsageFault
    from fieldops.steps import SetTiers
    from fieldops.tiers import TierSettings

    if large not in {"auto", "never"}:
        raise UsageFault(f"--large {large}", reason="usage", next_step="give auto or never")
    settings = TierSettings(
        large="never" if large == "never" else "auto",
        threshold=threshold,
        hottest_c=hottest,
        battery_pct=battery,
        power_w=power,
        queue=queue,
    )
    if settings.fault:
        raise UsageFault(settings.fault, reason="usage", next_step="see `fieldops models tiers --help`")
    step = SetTiers(model=model, settings=settings)
    call = Call.of(context, json=json, timeout=timeout)
    return care(call, device, lambda _: step, dry_run=dry_run, yes=yes, reason=reason, ticket=ticket)


@app.command()
def recalibrate(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    undo: Annotated[bool, typer.Option("--undo", help="Back to the temperatures before the last fit.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 180.0,
) -> int:
    """Fit a model's confidence to inputs labelled with `fieldops samples label`; kept only if it improves."""
    from fieldops.operations.samples import labels_for
    from fieldops.steps import Recalibrate

    call = Call.of(context, json=json, timeout=timeout)
    labels = {} if undo else labels_for(call.laptop.samples, call.laptop.inventory().find(device), model)
    step = Recalibrate(model=model, labels=labels, undo=undo)
    return care(call, device, lambda _: step, dry_run=dry_run, yes=yes, reason=reason, ticket=ticket)


@app.command()
def disarm(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """Take back a `sideload --arm`. The version stays staged; a trial that has begun ends in a revert."""
    from fieldops.steps import Disarm

    step = Disarm(model=model)
    call = Call.of(context, json=json, timeout=timeout)
    return care(call, device, lambda _: step, dry_run=dry_run, yes=yes, reason=reason, ticket=ticket)


@app.command()
def tune(
    context: typer.Context,
    device: DeviceArg,
    model: ModelArg,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 300.0,
) -> int:
    """Measure which execution provider and number of threads is fastest on a device, and keep them with its baseline."""
    from fieldops.steps import Bench

    step = Bench(model=model, save_baseline=True, tune=True)
    call = Call.of(context, json=json, timeout=timeout)
    return care(call, device, lambda _: step, dry_run=dry_run, yes=yes, reason=reason, ticket=ticket)


def care(call: Call, device: str, make: Callable[[Report], Care], *, dry_run: bool, yes: bool, reason: str, ticket: str) -> int:
    """One step through the gate. make: the step, from what the device says it holds."""
    from fieldops.cli.diagnostics import agreed, need_person, progress_of, tell
    from fieldops.cli.documents.changes import Changed, DeviceChange
    from fieldops.operations.gate import Words
    from fieldops.steps import describe, undo_of

    need_person(yes=yes, dry_run=dry_run)
    entry, words, gate = call.laptop.inventory().find(device), Words(reason, ticket), call.laptop.gate()

    def plan(connected: Device, deadline: Deadline) -> tuple[Care, str | None, str]:
        report = connected.models(deadline)
        step = make(report)
        active = next((slot.active for slot in report.slots if slot.model == step.model), None)
        return step, active, gate.dry_run(connected, step, words=words) if dry_run else describe(step)

    plans = call.on_each([entry], plan)
    only_failure(plans)
    assert plans[0].value is not None
    step, active, told = plans[0].value
    if dry_run:
        return _shown(call, entry.name, step.model, active, told)
    if not yes:
        tell(f"{entry.name}: {told}")
        tell(f"  undo: {undo_of(step, previous=active)}")
        agreed(f"change {entry.name}?")

    def run(connected: Device, deadline: Deadline) -> StepRecord:
        return gate.perform(connected, step, deadline, words=words, progress=progress_of(entry.name))

    outcomes = call.on_each([entry], run)
    only_failure(outcomes)
    record = outcomes[0].value
    assert record is not None
    if call.json:
        changed = DeviceChange(
            device=entry.name, model=step.model, from_version=active, to_version=active, records=[record], error=None
        )
        document(Changed(devices=[changed]))
    else:
        line(f"{entry.name}: {step.model}: {record.message}")
    return call.finish(outcomes)


def _shown(call: Call, device: str, model: str, active: str | None, told: str) -> int:
    """A dry run's answer."""
    from fieldops.cli.documents.changes import DevicePlan, Plan

    if call.json:
        planned = DevicePlan(
            device=device, model=model, from_version=active, to_version=active, steps=[told], warnings=[], error=None
        )
        document(Plan(devices=[planned]))
    else:
        line(f"{device}: {told}")
    return 0

"""`fieldops models DEVICE...`, and what looks after models on a device: `models prune|tiers|recalibrate|disarm|tune`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.asked import Asked, changes
from fieldops.cli.call import Call, Outcome, group, only_failure
from fieldops.cli.documents.readings import DeviceModels, ModelsReport
from fieldops.cli.options import AllDevices, DeviceArg, Json, ModelArg, SomeDevicesArg, Timeout
from fieldops.cli.output import document, line, size, table
from fieldops.slots import why
from fieldops.wire import ModelsReport as Report
from fieldops.wire import SlotStatus

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.steps import Care

app = group()


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
    return device, slot.model, state, answers or "the rule only", slot.last_good, slot.candidate, why(slot.reason)


def _details(report: Report) -> None:
    versions = [(slot, each) for slot in report.slots for each in slot.versions]
    if versions:
        line()
        table(
            ("MODEL", "VERSION", "ROLE", "SIGNED", "SIZE"),
            [
                (slot.model, each.version, each.role.replace("_", "-"), each.signed_by or "unsigned", size(each.size_bytes))
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
@changes(60.0)
def prune(
    asked: Asked,
    device: DeviceArg,
    model: ModelArg,
    versions: Annotated[
        list[str] | None,
        typer.Argument(metavar="VERSION...", help="Default: all that are stored or quarantined.", show_default=False),
    ] = None,
) -> int:
    """Remove versions from a device's disk. Never the active one, nor the one it would go back to."""
    from fieldops.steps import Prune

    step = Prune(model=model, versions=versions or [])
    return _care(asked, device, lambda _: step)


@app.command()
@changes(60.0)
def tiers(
    asked: Asked,
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
    return _care(asked, device, lambda _: step)


@app.command()
@changes(180.0)
def recalibrate(
    asked: Asked,
    device: DeviceArg,
    model: ModelArg,
    undo: Annotated[bool, typer.Option("--undo", help="Back to the temperatures before the last fit.")] = False,
) -> int:
    """Fit a model's confidence to inputs labelled with `fieldops samples label`; kept only if it improves."""
    from fieldops.operations.samples import labels_for
    from fieldops.steps import Recalibrate

    def step(entry: DeviceEntry) -> Recalibrate:
        labels = {} if undo else labels_for(asked.call.laptop.samples, entry, model)
        return Recalibrate(model=model, labels=labels, undo=undo)

    return _care(asked, device, step)


@app.command()
@changes(60.0)
def disarm(
    asked: Asked,
    device: DeviceArg,
    model: ModelArg,
) -> int:
    """Take back a `sideload --arm`. The version stays staged; a trial that has begun ends in a revert."""
    from fieldops.steps import Disarm

    step = Disarm(model=model)
    return _care(asked, device, lambda _: step)


@app.command()
@changes(300.0)
def tune(
    asked: Asked,
    device: DeviceArg,
    model: ModelArg,
) -> int:
    """Measure which execution provider and number of threads is fastest on a device, and keep them with its baseline."""
    from fieldops.steps import Bench

    step = Bench(model=model, save_baseline=True, tune=True)
    return _care(asked, device, lambda _: step)


def _care(asked: Asked, device: str, make: Callable[[DeviceEntry], Care]) -> int:
    """make: the step, for a device that is in the inventory."""
    from fieldops.cli.changes import carry_out
    from fieldops.operations import care

    asked.need_person()
    entry = asked.call.laptop.inventory().find(device)
    step = make(entry)
    return carry_out(asked, [entry], lambda connected, deadline: care.plan(connected, step, deadline))

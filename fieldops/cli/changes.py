"""How sideload, rollback and the care of models go: plan for each device, show or ask, run, say what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fieldops.cli.asked import Asked
from fieldops.cli.call import Outcome, only_failure
from fieldops.cli.diagnostics import agreed, progress_of, tell
from fieldops.cli.documents.changes import Changed, DeviceChange, DevicePlan, Plan
from fieldops.cli.output import document, line
from fieldops.deadline import Deadline
from fieldops.fleet import DeviceEntry
from fieldops.operations import plans
from fieldops.operations.gate import Gate
from fieldops.operations.plans import ChangePlan
from fieldops.ports import Device
from fieldops.steps import undo_of
from fieldops.wire import StepRecord

Records = tuple[StepRecord, ...]


def carry_out(
    asked: Asked,
    entries: Sequence[DeviceEntry],
    plan: Callable[[Device, Deadline], ChangePlan],
    *,
    trial_left: bool = False,
    run: Callable[[Device, ChangePlan, Deadline], Records] | None = None,
) -> int:
    """The exit code. trial_left: somebody else ends the trial. run: None: each step through the gate, in order."""
    call, words = asked.call, asked.words
    gate = call.laptop.gate()

    def planned(device: Device, deadline: Deadline) -> ChangePlan:
        made = plan(device, deadline)
        if asked.dry_run:
            plans.note_dry_run(gate, device, made, words=words)
        return made

    made = call.on_each(entries, planned)
    only_failure(made)
    if asked.dry_run:
        if call.json:
            document(Plan(devices=[_plan_document(gate, outcome) for outcome in made]))
        else:
            for text in _plan_lines(gate, made):
                line(text)
        return call.finish(made)
    if not asked.yes:
        _agree_to(gate, made)
    by_name = {outcome.entry.name: outcome.value for outcome in made if outcome.value is not None}

    def carried_out(device: Device, deadline: Deadline) -> Records:
        name = device.entry.name
        if run is not None:
            return run(device, by_name[name], deadline)
        return plans.run(gate, device, by_name[name], deadline, words=words, progress=progress_of(name))

    ready = [outcome.entry for outcome in made if outcome.value is not None]
    outcomes = [
        *call.on_each(ready, carried_out),
        *(Outcome(each.entry, error=each.error) for each in made if each.error is not None),
    ]
    only_failure(outcomes)
    if call.json:
        document(Changed(devices=[_change_document(outcome, by_name) for outcome in outcomes]))
    else:
        _print_changes(outcomes, by_name, trial_left=trial_left)
    return call.finish(outcomes)


def _plan_document(gate: Gate, outcome: Outcome[ChangePlan]) -> DevicePlan:
    plan = outcome.value
    return DevicePlan(
        device=outcome.entry.name,
        model=plan.model if plan else "",
        from_version=plan.from_version if plan else None,
        to_version=plan.to_version if plan else None,
        steps=plans.in_words(gate, plan) if plan else [],
        warnings=list(plan.warnings) if plan else [],
        error=outcome.error_doc,
    )


def _change_document(outcome: Outcome[Records], by_name: Mapping[str, ChangePlan]) -> DeviceChange:
    plan = by_name.get(outcome.entry.name)
    return DeviceChange(
        device=outcome.entry.name,
        model=plan.model if plan else "",
        from_version=plan.from_version if plan else None,
        to_version=plan.to_version if plan else None,
        records=list(outcome.value or ()),
        error=outcome.error_doc,
    )


def _heading(plan: ChangePlan) -> str:
    if plan.from_version == plan.to_version:
        return f"{plan.device}: {plan.model} {plan.from_version or ''}".rstrip()
    return f"{plan.device}: {plan.model} {plan.from_version or 'none'} -> {plan.to_version}"


def _plan_lines(gate: Gate, made: Iterable[Outcome[ChangePlan]]) -> list[str]:
    lines: list[str] = []
    for outcome in made:
        plan = outcome.value
        if plan is None:
            continue
        lines.append(_heading(plan))
        lines += [f"  {number}. {text}" for number, text in enumerate(plans.in_words(gate, plan), 1)]
        if not plan.steps:
            lines.append("  nothing to do: it runs this version")
        lines += [f"  note: {warning}" for warning in plan.warnings]
        if plan.steps:
            lines.append(f"  undo: {undo_of(plan.steps[-1].step, previous=plan.from_version)}")
    return lines


def _agree_to(gate: Gate, made: Sequence[Outcome[ChangePlan]]) -> None:
    """Show the plans and ask. Raises Cancelled."""
    for text in _plan_lines(gate, made):
        tell(text)
    changing = [outcome.entry.name for outcome in made if outcome.value is not None and outcome.value.steps]
    if changing:
        agreed(f"change {', '.join(changing)}?")


def _print_changes(outcomes: Iterable[Outcome[Records]], by_name: Mapping[str, ChangePlan], *, trial_left: bool) -> None:
    for outcome in outcomes:
        if outcome.value is None:
            continue
        plan = by_name[outcome.entry.name]
        if not outcome.value:
            line(f"{plan.device}: {plan.model} {plan.to_version} runs there already; nothing was done")
            continue
        checks = [check for record in outcome.value for check in record.checks]
        for check in checks:
            note = f"; {check.note}" if check.note else ""
            line(f"  {plan.device}: {check.name} {'ok' if check.ok else 'FAILED'}: {check.measured} (limit: {check.limit}){note}")
        trial = f" on trial; `fieldops models {plan.device}` shows the time left" if trial_left else ""
        said = f": {outcome.value[-1].message or 'done'}" if plan.from_version == plan.to_version else ""
        line(f"{_heading(plan)}{said}{trial}")

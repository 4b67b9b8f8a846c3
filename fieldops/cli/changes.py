"""What sideload and rollback show of several devices: the plans before, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from fieldops.cli.call import Outcome
from fieldops.cli.diagnostics import agreed, tell
from fieldops.cli.documents.changes import DeviceChange, DevicePlan
from fieldops.cli.output import line
from fieldops.operations.gate import Gate
from fieldops.operations.rollback import RollbackPlan
from fieldops.operations.sideload import SideloadPlan
from fieldops.steps import Step, describe, undo_of
from fieldops.wire import StepRecord

Plan = SideloadPlan | RollbackPlan
P = TypeVar("P", SideloadPlan, RollbackPlan)


def steps_of(plan: Plan) -> tuple[Step, ...]:
    return (plan.step,) if isinstance(plan, RollbackPlan) else tuple(each.step for each in plan.steps)


def warnings_of(plan: Plan) -> tuple[str, ...]:
    return () if isinstance(plan, RollbackPlan) else plan.warnings


def step_lines(gate: Gate, plan: Plan) -> list[str]:
    """Each step in words, with what this laptop's policy would say to it."""
    lines = []
    for step in steps_of(plan):
        decision = gate.decide(step)
        lines.append(f"{describe(step)}{'' if decision.allowed else f'  [refused: {decision.text}]'}")
    return lines


def plan_documents(gate: Gate, plans: Iterable[Outcome[P]]) -> list[DevicePlan]:
    return [
        DevicePlan(
            device=outcome.entry.name,
            model=outcome.value.model if outcome.value else "",
            from_version=outcome.value.from_version if outcome.value else None,
            to_version=outcome.value.to_version if outcome.value else None,
            steps=step_lines(gate, outcome.value) if outcome.value else [],
            warnings=list(warnings_of(outcome.value)) if outcome.value else [],
            error=outcome.error_doc,
        )
        for outcome in plans
    ]


def plan_lines(gate: Gate, plans: Iterable[Outcome[P]]) -> list[str]:
    lines: list[str] = []
    for outcome in plans:
        plan = outcome.value
        if plan is None:
            continue
        lines.append(f"{plan.device}: {plan.model} {plan.from_version or 'none'} -> {plan.to_version}")
        steps = step_lines(gate, plan)
        lines += [f"  {number}. {text}" for number, text in enumerate(steps, 1)]
        if not steps:
            lines.append("  nothing to do: it runs this version")
        lines += [f"  note: {warning}" for warning in warnings_of(plan)]
        if steps:
            lines.append(f"  undo: {undo_of(steps_of(plan)[-1], previous=plan.from_version)}")
    return lines


def print_plans(gate: Gate, plans: Sequence[Outcome[P]]) -> None:
    for text in plan_lines(gate, plans):
        line(text)


def agree_to(gate: Gate, plans: Sequence[Outcome[P]]) -> None:
    """Show the plans and ask. Raises Cancelled."""
    for text in plan_lines(gate, plans):
        tell(text)
    changing = [outcome.entry.name for outcome in plans if outcome.value is not None and steps_of(outcome.value)]
    if changing:
        agreed(f"change {', '.join(changing)}?")


def change_documents(outcomes: Iterable[Outcome[tuple[StepRecord, ...]]], plans: Mapping[str, Plan]) -> list[DeviceChange]:
    found = []
    for outcome in outcomes:
        plan = plans.get(outcome.entry.name)
        found.append(
            DeviceChange(
                device=outcome.entry.name,
                model=plan.model if plan else "",
                from_version=plan.from_version if plan else None,
                to_version=plan.to_version if plan else None,
                records=list(outcome.value or ()),
                error=outcome.error_doc,
            )
        )
    return found


def print_changes(
    outcomes: Iterable[Outcome[tuple[StepRecord, ...]]], plans: Mapping[str, Plan], *, trial_left: bool = False
) -> None:
    for outcome in outcomes:
        if outcome.value is None:
            continue
        plan = plans[outcome.entry.name]
        if not outcome.value:
            line(f"{plan.device}: {plan.model} {plan.to_version} runs there already; nothing was done")
            continue
        checks = [check for record in outcome.value for check in record.checks]
        for check in checks:
            note = f"; {check.note}" if check.note else ""
            line(f"  {plan.device}: {check.name} {'ok' if check.ok else 'FAILED'}: {check.measured} (limit: {check.limit}){note}")
        trial = f" on trial; `fieldops models {plan.device}` shows the time left" if trial_left else ""
        line(f"{plan.device}: {plan.model} {plan.from_version or 'none'} -> {plan.to_version}{trial}")

"""A runbook's run as a generator: it yields what to do next and is sent what came of it. No I/O, no clock.

Because it depends only on the runbook, the parameters and the facts sent in, a run is resumed by sending the recorded facts
again and going on from there.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from fieldops.errors import UsageFault
from fieldops.runbooks.format import Runbook, RunbookStep, Undo, substitute

Outcome = Literal["committed", "reverted", "undo_failed", "refused", "cancelled"]


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next. kind: require, do or undo. attempt counts from 1."""

    kind: Literal["require", "do", "undo"]
    id: str
    what: str
    arguments: dict[str, str]
    explain: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Fact:
    """What came of an action. values are saved under the step's id (`previous`, `version`, `p50_ms`, ...).

    reason: as of errors.py when not ok; `cancelled` ends the run with the undos.
    """

    ok: bool
    values: dict[str, str]
    reason: str = ""
    message: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """failed: the fact that ended the run early; None when it went through."""

    outcome: Outcome
    failed: Fact | None = None
    at: str = ""


Run = Generator[Action, Fact, Ending]


def resolve(runbook: Runbook, given: dict[str, str]) -> dict[str, str]:
    """Parameters with defaults. Raises UsageFault that names all that is wrong."""
    known = {param.name: param for param in runbook.params}
    faults = [f"unknown parameter {name!r}" for name in given.keys() - known.keys()]
    values: dict[str, str] = {}
    for name, param in known.items():
        value = given.get(name, param.default)
        if value is None:
            if param.required:
                faults.append(f"{name} ({param.type}) is needed")
            continue
        if param.values and value not in param.values:
            faults.append(f"{name} {value!r} is none of {', '.join(param.values)}")
        values[name] = value
    if faults:
        raise UsageFault(
            f"runbook {runbook.id}: {'; '.join(sorted(faults))}",
            reason="bad_parameters",
            next_step=f"see `fieldops runbook check {runbook.id}` for its parameters",
        )
    return values


def run(runbook: Runbook, params: dict[str, str]) -> Run:
    """params: as `resolve` gave them. All requirements are shown and judged before the first effect."""
    values = dict(params)
    for requirement in runbook.requires:
        arguments = _arguments(requirement.arguments, values)
        if isinstance(arguments, Fact):
            return Ending("refused", arguments, requirement.check)
        fact = yield Action("require", requirement.check, requirement.check, arguments)
        if not fact.ok:
            return Ending("cancelled" if fact.reason == "cancelled" else "refused", fact, requirement.check)
    done: list[tuple[RunbookStep, Undo]] = []
    for step in runbook.steps:
        fact = yield from _attempts(step, values)
        values |= {f"{step.id}.{name}": value for name, value in fact.values.items()}
        if fact.ok:
            if step.undo is not None:
                done.append((step, step.undo))
            continue
        if runbook.on_fail == "stop":
            return Ending("refused" if not done else "undo_failed", fact, step.id)
        return (yield from _undo_all(done, values, fact, step.id))
    return Ending("committed")


def _attempts(step: RunbookStep, values: dict[str, str]) -> Generator[Action, Fact, Fact]:
    attempt = 1
    while True:
        arguments = _arguments(step.arguments, values)
        if isinstance(arguments, Fact):
            return arguments
        fact = yield Action("do", step.id, step.do, arguments, step.explain, attempt)
        if fact.ok or attempt > step.retries or fact.reason not in step.retry_on:
            return fact
        attempt += 1


def _undo_all(done: list[tuple[RunbookStep, Undo]], values: dict[str, str], failed: Fact, at: str) -> Run:
    for step, undo in reversed(done):
        arguments = _arguments(undo.arguments, values)
        if isinstance(arguments, Fact):
            return Ending("undo_failed", arguments, step.id)
        fact = yield Action("undo", step.id, undo.do, arguments, f"undo of {step.id}")
        if not fact.ok:
            return Ending("undo_failed", fact, step.id)
    if failed.reason == "cancelled":
        return Ending("cancelled", failed, at)
    return Ending("reverted" if done else "refused", failed, at)


def _arguments(pairs: tuple[tuple[str, str], ...], values: dict[str, str]) -> dict[str, str] | Fact:
    """The arguments with every `${x}` replaced, or the fact that a value an earlier step should have saved is not there."""
    try:
        return {name: substitute(text, values) for name, text in pairs}
    except KeyError as error:
        return Fact(False, {}, "missing_value", f"no value for {error.args[0]}", UsageFault.exit_code)

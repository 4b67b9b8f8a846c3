"""Run a signed runbook: each action is on disk before it begins, each fact before the next. Resume sends the facts again.

The engine decides what comes next; runbook_actions turns an action into an operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from fieldops.audit.entry import Result, Status, Subject
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.errors import PolicyRefused, TrustRefused, UsageFault
from fieldops.operations.gate import Gate, Words
from fieldops.operations.runbook_actions import Connect, Memory, perform
from fieldops.policy import role_of
from fieldops.ports import RunRecord, Trust
from fieldops.runbooks.engine import Action, Ending, Fact, Outcome, resolve
from fieldops.runbooks.engine import run as engine
from fieldops.runbooks.format import Runbook, parse

OnAction = Callable[[Action, Fact | None], None]

TARGET = "policy/runbooks/{id}/runbook.yaml"


class _Begin(Struct, frozen=True, kw_only=True, tag="begin"):
    runbook: str  # exact YAML text: a run stays pinned to it
    sha256: str
    params: dict[str, str]
    reason: str = ""
    ticket: str = ""


class _Found(Struct, frozen=True, kw_only=True, tag="found"):
    """What a changing action met, on disk before it sends anything: after a cut the device no longer shows it."""

    number: int
    values: dict[str, str]


class _Action(Struct, frozen=True, kw_only=True, tag="action"):
    number: int
    id: str
    what: str
    kind: str


class _Fact(Struct, frozen=True, kw_only=True, tag="fact"):
    number: int
    ok: bool
    values: dict[str, str]
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class _End(Struct, frozen=True, kw_only=True, tag="end"):
    outcome: Outcome
    at: str = ""
    message: str = ""


_Line = _Begin | _Action | _Found | _Fact | _End


@dataclass(frozen=True, slots=True)
class RunReport:
    """outcome None: the run is not over; resume it. steps: (id, what, ok) in order; ok None: begun, outcome unknown."""

    run: str
    runbook: str
    params: dict[str, str]
    outcome: Outcome | None
    steps: tuple[tuple[str, str, bool | None], ...]
    failed: Fact | None = None
    at: str = ""

    @property
    def exit_code(self) -> int:
        if self.outcome == "committed":
            return 0
        if self.outcome == "undo_failed":
            return 10
        if self.outcome == "cancelled":
            return 130
        if self.outcome == "refused" and self.failed is not None and self.failed.exit_code:
            return self.failed.exit_code
        return 6


def available(trust: Trust) -> list[str]:
    """Ids of the runbooks that the policy role signed."""
    found = [name.split("/") for name in trust.policy_targets()]
    return sorted(parts[2] for parts in found if len(parts) == 4 and parts[1] == "runbooks" and parts[3] == "runbook.yaml")


def load(trust: Trust, runbook: str) -> tuple[Runbook, bytes]:
    """A signed runbook and its exact bytes. Raises UsageFault for an unknown id, TrustRefused."""
    try:
        data = trust.policy_target(TARGET.format(id=runbook))
    except TrustRefused as error:
        if error.reason != "unknown_target":
            raise
        raise UsageFault(
            f"no signed runbook {runbook!r}",
            reason="unknown_runbook",
            next_step=f"signed runbooks: {', '.join(available(trust)) or 'none; refresh trust from a stick first'}",
        ) from error
    return parse(data, f"{runbook}/runbook.yaml"), data


def begin(gate: Gate, runbook: Runbook, data: bytes, given: dict[str, str], record: RunRecord, *, words: Words) -> None:
    """Pin the runbook and its parameters to a new run. Raises UsageFault, PolicyRefused."""
    params = resolve(runbook, given)
    actor = gate.technician.actor()
    role = role_of(gate.policy, actor, gate.clock.now())
    if runbook.roles and role not in runbook.roles:
        gate.note("runbook.run", subject=_subject(runbook), result=Result(status="refused", code=4, reason="roles"), words=words)
        raise PolicyRefused(
            f"runbook {runbook.id} is for {', '.join(runbook.roles)}; {actor} is {role or 'without a role'}",
            reason="policy",
            next_step="ask somebody with that role, or roll back to last-good, which is always allowed",
        )
    record.append(
        msgspec.json.encode(
            _Begin(runbook=data.decode("utf-8"), sha256=runbook.sha256, params=params, reason=words.reason, ticket=words.ticket)
        )
    )
    gate.note("runbook.begin", subject=_subject(runbook), words=words)


def run(
    gate: Gate,
    record: RunRecord,
    connect: Connect,
    deadline: Deadline,
    *,
    words: Words = Words(),
    on_action: OnAction | None = None,
) -> RunReport:
    """Run or resume: what the record holds is sent to the engine again, then it goes on. words: empty ones are those it began with."""
    lines = [decoder(_Line).decode(line) for line in record.lines()]
    report = status(record)
    if report.outcome is not None:
        return report
    first = lines[0]
    assert isinstance(first, _Begin)  # status() refused anything else
    runbook = parse(first.runbook.encode("utf-8"), "runbook.yaml")
    facts = {line.number: line for line in lines if isinstance(line, _Fact)}
    announced = {line.number for line in lines if isinstance(line, _Action)}
    found = {line.number: line.values for line in lines if isinstance(line, _Found)}
    words = Words(words.reason or first.reason, words.ticket or first.ticket)
    deadline = deadline.within(runbook.timeout_s)
    steps = engine(runbook, first.params)
    number = 0
    try:
        action = next(steps)
        while True:
            number += 1
            known = facts.get(number)
            if known is not None:
                fact = Fact(known.ok, known.values, known.reason, known.message, known.exit_code)
            else:
                if number not in announced:
                    record.append(msgspec.json.encode(_Action(number=number, id=action.id, what=action.what, kind=action.kind)))
                if on_action is not None:
                    on_action(action, None)
                fact = perform(gate, action, connect, deadline, words, _memory(record, number, found.get(number)))
                record.append(
                    msgspec.json.encode(
                        _Fact(
                            number=number,
                            ok=fact.ok,
                            values=fact.values,
                            reason=fact.reason,
                            message=fact.message,
                            exit_code=fact.exit_code,
                        )
                    )
                )
                if on_action is not None:
                    on_action(action, fact)
            action = steps.send(fact)
    except StopIteration as stop:
        ending: Ending = stop.value
    record.append(
        msgspec.json.encode(
            _End(outcome=ending.outcome, at=ending.at, message=ending.failed.message if ending.failed is not None else "")
        )
    )
    states: dict[str, Status] = {"committed": "done", "reverted": "reverted", "undo_failed": "needs_human", "refused": "refused"}
    gate.note(
        "runbook.end",
        subject=_subject(runbook),
        result=Result(status=states.get(ending.outcome, "failed"), reason=ending.outcome, detail=ending.at),
        words=words,
    )
    return status(record)


def _memory(record: RunRecord, number: int, before: dict[str, str] | None) -> Memory:
    """What one action found before it changed anything: from the record of a run that was cut off, else into it."""
    return Memory(before, lambda values: record.append(msgspec.json.encode(_Found(number=number, values=values))))


def status(record: RunRecord) -> RunReport:
    """What a run did so far. Raises UsageFault when the record is no run."""
    try:
        lines = [decoder(_Line).decode(line) for line in record.lines()]
    except msgspec.DecodeError as error:
        raise UsageFault(f"run {record.id}: {error}", reason="bad_file", next_step="begin a new run") from error
    if not lines or not isinstance(lines[0], _Begin):
        raise UsageFault(f"run {record.id} never began", reason="bad_file", next_step="begin a new run")
    first = lines[0]
    facts = {line.number: line for line in lines if isinstance(line, _Fact)}
    actions = [line for line in lines if isinstance(line, _Action)]
    end = next((line for line in lines if isinstance(line, _End)), None)
    failing = next((fact for fact in facts.values() if not fact.ok), None)
    return RunReport(
        run=record.id,
        runbook=parse(first.runbook.encode("utf-8"), "runbook.yaml").id,
        params=first.params,
        outcome=end.outcome if end is not None else None,
        steps=tuple((each.id, each.what, facts[each.number].ok if each.number in facts else None) for each in actions),
        failed=Fact(False, failing.values, failing.reason, failing.message, failing.exit_code) if failing is not None else None,
        at=end.at if end is not None else "",
    )


def _subject(runbook: Runbook) -> Subject:
    return Subject(kind="runbook", name=runbook.id, digest=runbook.sha256)

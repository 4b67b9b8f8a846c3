"""Sticks and other sources, judged: what they offer, and every byte of it. What is refused leaves a note in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.kit import is_agent
from fieldops.deadline import Deadline
from fieldops.errors import TrustRefused, UsageFault
from fieldops.operations import sideload, upgrade
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Candidate, OnProgress, Source, Trust


@dataclass(frozen=True, slots=True)
class Checked:
    """reason "": every byte of it is as signed."""

    candidate: Candidate
    reason: str = ""
    message: str = ""


def offered(gate: Callable[[], Gate], trust: Trust, source: Source, deadline: Deadline) -> list[Candidate]:
    """What a source offers. One that is refused as a whole, without even a claim, is noted and rises as TrustRefused."""
    try:
        return trust.candidates(source, deadline)
    except TrustRefused as error:
        _note(gate(), Subject(kind="stick", name=source.name), error.reason, error.message)
        raise


def check(
    gate: Callable[[], Gate],
    trust: Trust,
    source: Source,
    deadline: Callable[[], Deadline],
    *,
    ref: str | None = None,
    progress: Callable[[str], OnProgress | None] = lambda _: None,
) -> list[Checked]:
    """Read everything of the bundles it offers, or of one. Raises TrustRefused, UsageFault (unknown_bundle)."""
    found = offered(gate, trust, source, deadline())
    wanted = [each for each in found if ref in {None, each.ref}]
    if ref is not None and not wanted:
        raise UsageFault(
            f"{source.name} does not offer {ref}",
            reason="unknown_bundle",
            next_step=f"it offers: {', '.join(sorted({each.ref for each in found})) or 'nothing'}",
        )
    noting = gate()
    return [_checked(noting, trust, source, each, deadline(), progress(each.ref)) for each in wanted]


def _checked(
    gate: Gate, trust: Trust, source: Source, each: Candidate, deadline: Deadline, progress: OnProgress | None
) -> Checked:
    if each.reason:
        kind = "agent" if is_agent(each.model) else "model"
        _note(gate, Subject(kind=kind, name=each.model, to=each.version), each.reason, each.message)
        return Checked(each, each.reason, each.message)
    fetch = upgrade.fetch if is_agent(each.model) else sideload.fetch
    try:
        fetch(gate, trust, source, each.ref, deadline, channel=each.channel, progress=progress, reread=True)
    except TrustRefused as error:
        return Checked(each, error.reason, error.message)
    return Checked(each)


def _note(gate: Gate, subject: Subject, reason: str, message: str) -> None:
    result = Result(status="refused", code=TrustRefused.exit_code, reason=reason, detail=message)
    gate.note("stick.verify", subject=subject, result=result, words=Words())

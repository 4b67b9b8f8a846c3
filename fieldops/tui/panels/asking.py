"""What is asked before anything is changed: everything a person needs to say yes or no, as one value that a dialog shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from textual.content import Content

from fieldops.operations.rollback import RollbackPlan
from fieldops.operations.sideload import SideloadPlan
from fieldops.policy import Decision
from fieldops.ports import Candidate
from fieldops.steps import Arm, Bench, Step, describe, undo_of
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import Tone, page, wrapped
from fieldops.wire import SlotStatus


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to type. note: beside its name, in a few words."""

    name: str
    note: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a person needs to say yes or no. verb: on the button. unlock: the word to type first; "": none is asked.

    reason_asked: the answer's words go to the audit log. no: on the button that changes nothing; third: on one between the two.
    loud: in the colour of failures: what the rules refuse is asked for. unlock_note: what the word to type is, where it is not shown.
    """

    title: str
    verb: str
    rows: tuple[tuple[str, str], ...]
    decision: Decision | None = None
    unlock: str = ""
    reason_asked: bool = True
    no: str = "Cancel"
    third: str = ""
    fields: tuple[Field, ...] = ()
    loud: bool = False
    unlock_note: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """third: the button between yes and no was pressed. fields: what was typed, by the field's name."""

    reason: str
    third: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


def rollback_question(planned: RollbackPlan, serving: str, decision: Decision, glyphs: Glyphs) -> Question:
    """serving: what stops meanwhile, in words."""
    return Question(
        title=f"ROLL BACK {planned.device}",
        unlock=planned.device,
        verb="Roll back",
        rows=(
            ("model", f"{planned.model}   {planned.from_version or 'nothing'} {glyphs.arrow} {planned.to_version}"),
            ("does", describe(planned.step)),
            ("impact", serving),
            ("undo", undo_of(planned.step, previous=planned.from_version)),
        ),
        decision=decision,
    )


def step_question(device: str, step: Step, verb: str, impact: str, decision: Decision, active: str | None) -> Question:
    """One step by itself."""
    return Question(
        title=f"{verb.upper()} on {device}",
        verb=verb,
        unlock=device,
        rows=(("does", describe(step)), ("impact", impact), ("undo", undo_of(step, previous=active))),
        decision=decision,
    )


def bench_question(device: str, step: Bench, serving: str, decision: Decision) -> Question:
    """It changes nothing on the device unless the result is kept there, but it loads the device."""
    keeps = (
        "the device keeps the result: it is what later runs are compared with"
        if step.save_baseline
        else "the result is kept here"
    )
    return Question(
        title=f"BENCHMARK on {device}",
        verb="Measure",
        rows=(
            ("does", f"measures {step.model} one request after another, beside a calibration kernel"),
            ("impact", f"it loads the device while it answers: {serving}"),
            ("then", keeps),
        ),
        decision=decision,
        fields=(Field("samples", "p90 needs 64, p99 needs 662", str(step.samples)),),
    )


def sideload_question(planned: SideloadPlan, decision: Decision | None, glyphs: Glyphs, *, broken: bool = False) -> Question:
    """broken: its metadata has expired, and people signed for it."""
    armed = next((each.step for each in planned.steps if isinstance(each.step, Arm)), None)
    if armed is not None:
        after = "disarm it (D on the device) until its window opens; a trial of its own ends in a commit or goes back"
    else:
        after = f"the device goes back to {planned.from_version or 'no model'} by itself unless committed"
    return Question(
        title=f"{'BREAK GLASS: ' * broken}{'ARM' if armed else 'SIDELOAD to'} {planned.device}",
        unlock=planned.device,
        verb="Arm" if armed else "Sideload",
        loud=broken,
        rows=(
            *((("EXPIRED", "its signed metadata is too old; the log says BREAK-GLASS and who approved"),) if broken else ()),
            ("model", f"{planned.model}   {planned.from_version or 'nothing'} {glyphs.arrow} {planned.to_version}"),
            ("does", f"{len(planned.steps)} steps: " + ", ".join(type(each.step).__name__ for each in planned.steps)),
            ("impact", "the old model answers until the new one has passed its checks; no reboot"),
            ("undo", after),
        ),
        decision=decision,
    )


def arm_question(device: str, window: str) -> Question:
    return Question(
        title=f"ARM on {device}: when may it try?",
        verb="Plan it",
        rows=(
            (
                "does",
                "the version is staged now; inside the window the device tries it, and commits or goes back, with nobody there",
            ),
            ("window", "22:00-04:00 by this laptop's clock (tonight's, or the one that runs), or +8h: from now on"),
        ),
        reason_asked=False,
        fields=(Field("window", "HH:MM-HH:MM, or +8h", window or "22:00-04:00"),),
    )


def glass_question(device: str, candidate: Candidate, statement: str) -> Question:
    return Question(
        title=f"BREAK GLASS for {device}",
        verb="Use it expired",
        unlock=device,
        loud=True,
        reason_asked=False,
        third="Write statement",
        rows=(
            ("EXPIRED", f"{candidate.ref}: {candidate.message}"),
            ("risk", "a version withdrawn since then would not be known here"),
            ("needs", "two people's signatures on the same statement; first write it, have it signed, then come back"),
            ("record", "the log says BREAK-GLASS with their names; the device judges the signatures again"),
        ),
        fields=(
            Field("first", "approval file of one person"),
            Field("second", "approval file of another"),
            Field("statement", "or: where to write what they must sign", statement),
            Field("why", "for the statement"),
        ),
    )


_UNKNOWN_UNTIL = "the device ends this step or goes back by itself; the log says `unknown` until then"


def stop_question(title: str, doing: str) -> Question:
    """While a step runs on a device. The laptop can stop waiting; it cannot call the step back."""
    return Question(
        title=title,
        verb="Stop waiting",
        no="Keep waiting",
        third="Leave it running",
        reason_asked=False,
        rows=(
            ("running", doing),
            ("keep", "go on looking at it here"),
            ("leave", "back to where you were; the step goes on, and J lists it"),
            ("stop", f"no further step is sent; {_UNKNOWN_UNTIL}"),
        ),
    )


def quit_question(running: Sequence[str]) -> Question:
    return Question(
        title="QUIT while a change runs",
        verb="Quit",
        rows=(("running", ", ".join(running)), ("then", _UNKNOWN_UNTIL)),
        reason_asked=False,
    )


def commit_question(device: str, slot: SlotStatus, step: Step, glyphs: Glyphs) -> Question:
    return Question(
        title=f"COMMIT on {device}",
        verb="Commit",
        unlock=device,
        rows=(
            ("model", f"{slot.model}   {slot.active or 'nothing'} {glyphs.arrow} {slot.candidate}"),
            ("does", describe(step)),
            ("impact", "the trial ends; the device no longer goes back by itself"),
            ("undo", undo_of(step, previous=slot.active)),
        ),
    )


def question(asked: Question, width: int) -> Content:
    lines = [each for label, text in asked.rows for each in wrapped(label, [figures.clean(text)], width, 9)]
    if asked.decision is not None:
        tone: Tone = "plain" if asked.decision.allowed else "fail"
        lines += wrapped("policy", [figures.clean(asked.decision.text)], width, 9, tone)
    return page(lines)

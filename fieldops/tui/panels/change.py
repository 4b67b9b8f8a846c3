"""What is shown before, while and after a device is changed: candidates, verification, plan, steps, trial, outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from fieldops.errors import FieldopsError, next_step_of
from fieldops.operations.sideload import SideloadPlan
from fieldops.policy import Decision
from fieldops.ports import Candidate, Progress
from fieldops.steps import Arm, Step, describe, undo_of
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.checks import checks
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Part, Tone, heading, line, page, wrapped
from fieldops.tui.panels.progress import progress_bar
from fieldops.wire import SlotStatus, StepRecord

STAGES = ("pick", "verify", "plan", "apply", "trial")

CANDIDATE_COLUMNS = (
    Column("VERDICT", 8),
    Column("MODEL", 12, grows=1),
    Column("VERSION", 10),
    Column("CHANNEL", 8),
    Column("SIZE", 9, right=True),
    Column("WHY NOT, OR FROM WHERE", 24, grows=4),
)


def candidate_cells(candidate: Candidate) -> tuple[Cell, ...]:
    usable = not candidate.reason
    why = medium(candidate.source) if usable else f"{candidate.reason.replace('_', ' ')}: {candidate.message}"
    return (
        Cell("usable", "ok") if usable else Cell("REFUSED", "fail"),
        Cell(figures.clean(candidate.model), "strong"),
        Cell(figures.clean(candidate.version)),
        Cell(figures.clean(candidate.channel)),
        Cell(figures.size(candidate.size_bytes)),
        Cell(figures.clean(why), "muted" if usable else "plain"),
    )


def medium(source: str) -> str:
    """Where the stick is mounted: what a person knows it by, without the folder that all of them have."""
    return source.removesuffix("/FIELDOPS").removesuffix("\\FIELDOPS") or source


def candidate_key(candidate: Candidate) -> str:
    return f"{candidate.source}|{candidate.channel}|{candidate.ref}"


def candidate_order(candidate: Candidate) -> tuple[bool, str, int]:
    """Usable ones first, the newest of a model on top."""
    return bool(candidate.reason), candidate.model, -candidate.counter


def stages(current: str, width: int, glyphs: Glyphs) -> Content:
    """`1 pick > [2 verify] > 3 plan > 4 apply > 5 trial`"""
    parts: list[Part] = [" "]
    at = STAGES.index(current)
    for number, name in enumerate(STAGES):
        if number:
            parts.append((f" {glyphs.arrow} ", "muted"))
        text = f"{number + 1} {name}"
        parts.append((f"[{text}]", "accent") if number == at else (text, "ok" if number < at else "muted"))
    return line(*parts).truncate(width)


def refusal(error: FieldopsError, width: int) -> list[Content]:
    """A fault in three lines: what, reason and exit code, next step. There is no "continue anyway"."""
    word = {3: "REFUSED BY TRUST", 4: "REFUSED BY POLICY", 5: "LINK", 6: "DEVICE SAYS NO", 10: "NEEDS A PERSON", 130: "CANCELLED"}
    return [
        line((word.get(error.exit_code, "FAILED"), "fail"), (f"   {error.reason.replace('_', ' ')}", "muted")),
        *wrapped("", [figures.clean(text) for text in error.message.splitlines()], width, 2),
        *wrapped("next", [figures.clean(next_step_of(error))], width, 6),
    ]


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a plan as it goes. state: wait, run, ok, FAIL; hold: until the person says so; skip: never begun; retry: failed, may be asked again."""

    step: Step
    state: str = "wait"
    record: StepRecord | None = None
    seconds: float | None = None


_STEP_TONES: dict[str, Tone] = {"wait": "muted", "run": "accent", "ok": "ok", "FAIL": "fail", "hold": "warn", "retry": "fail"}


def steps(
    views: Sequence[StepView], width: int, glyphs: Glyphs, progress: Progress | None = None, elapsed_s: float | None = None
) -> list[Content]:
    """The plan as a list; the running step has its progress below, an ended one the checks that decided."""
    lines: list[Content] = []
    for number, view in enumerate(views, 1):
        pointer = glyphs.pointer if view.state == "run" else " "
        took = f"{view.seconds:.1f} s" if view.seconds is not None else ""
        text = figures.clip(figures.clean(describe(view.step)), width - 22, glyphs)
        lines.append(
            line(
                (f"{pointer} ", "accent"),
                f"{number} ",
                (f"{view.state:<5}", _STEP_TONES.get(view.state, "plain")),
                f"{text:<{max(1, width - 22)}}",
                (f"{took:>10}", "muted"),
            )
        )
        if view.state == "run":
            lines.append(line("          ").append(progress_bar(progress, width - 12, glyphs, elapsed_s)))
        elif view.record is not None and view.record.checks:
            lines += [line("      ").append(each) for each in checks(view.record.checks, width - 6, glyphs)]
    return lines


def plan(device: str, planned: SideloadPlan, decisions: Sequence[Decision], width: int, glyphs: Glyphs) -> Content:
    """What will be done, in order, with what the policy says of each step; then warnings and the way back."""
    versions = f"{planned.from_version or 'nothing'} {glyphs.arrow} {planned.to_version}"
    lines = [
        line(("device   ", "muted"), (figures.clean(device), "strong")),
        line(("model    ", "muted"), (figures.clean(planned.model), "strong"), f"   {figures.clean(versions)}"),
        Content(""),
    ]
    if not planned.steps:
        return page([*lines, line(("NOTHING TO DO", "ok"), "   the device already runs this version, byte for byte")])
    lines.append(heading("STEPS", width, glyphs.rule))
    for number, (each, decision) in enumerate(zip(planned.steps, decisions, strict=True), 1):
        word: tuple[str, Tone] = ("may    ", "ok") if decision.allowed else ("MAY NOT", "fail")
        lines.append(line(f"  {number} ", word, f"  {figures.clean(str(each))}").truncate(width, ellipsis=True))
    refused = [decision for decision in decisions if not decision.allowed]
    if refused:
        lines += [Content(""), *wrapped("policy", [figures.clean(refused[0].text)], width, 9, "fail")]
    lines.append(Content(""))
    lines += wrapped("warning", [figures.clean(text) for text in planned.warnings], width, 9, "warn")
    lines += wrapped("undo", [figures.clean(undo_of(planned.steps[-1].step, previous=planned.from_version))], width, 9)
    lines += wrapped(
        "safety",
        ["the old model answers until the new one has passed; without a commit the device goes back by itself"],
        width,
        9,
    )
    return page(lines)


def trial(status: SlotStatus | None, total_s: float, since_read_s: float, width: int, glyphs: Glyphs) -> list[Content]:
    """The countdown. since_read_s: how old the device's figure is."""
    if status is None or status.state != "trial" or status.deadline_s is None:
        state = status.state.replace("_", " ").upper() if status else "NOT READ YET"
        return [line(("state    ", "muted"), (state, "strong"))]
    left = max(0.0, status.deadline_s - since_read_s)
    tone: Tone = "fail" if left < 30 else "warn"
    return [
        line(
            ("TRIAL    ", tone), f"{status.candidate} answers; ", (f"{left:.0f} s", tone), " until the device goes back by itself"
        ),
        line(" " * 9, (figures.bar(left / total_s if total_s else None, max(10, width - 9), glyphs), tone)),
    ]


def trial_over(status: SlotStatus, width: int) -> list[Content]:
    """The trial ended without a commit from here."""
    return [
        line(("TRIAL    ", "warn"), ("over", "strong"), f"; {status.active or 'nothing'} answers"),
        *wrapped("state", [f"{status.state.replace('_', ' ')}: {figures.clean(status.reason)}"], width, 9),
    ]


def versions(record: StepRecord, glyphs: Glyphs) -> str:
    return f"{record.previous or 'nothing'} {glyphs.arrow} {record.version or 'nothing'}"


def outcome(record: StepRecord, width: int, glyphs: Glyphs) -> Content:
    """What came of one step, and the checks that decided."""
    lines = [
        line(("DONE  ", "ok"), f"{record.kind}   {versions(record, glyphs)}"),
        line(("step  ", "muted"), record.step_id[-24:]),
    ]
    if record.message:
        lines += wrapped("says", [figures.clean(record.message)], width, 6)
    if record.checks:
        lines += [line(), *checks(record.checks, width, glyphs)]
    return page(lines)


def sideload_done(planned: SideloadPlan) -> Content:
    what = f"{figures.clean(planned.model)} {figures.clean(planned.to_version)}"
    if planned.steps and isinstance(planned.steps[-1].step, Arm):
        return line(("ARMED    ", "warn"), f"{what} waits on the device for its window; D on the device takes it back")
    return line(("DONE     ", "ok"), f"{what} answers and is kept")


def glass_offer(width: int) -> list[Content]:
    """Below a refusal for age alone."""
    return [
        line(("X", "accent"), ("  BREAK GLASS", "fail"), "  use it all the same, with the approvals of two people"),
        *wrapped(
            "",
            ["renewing the stick is the better way: the release team sends a few KB (`fieldops stick renew FILE`)"],
            width,
            3,
            "muted",
        ),
    ]

"""Signed runbooks and their runs: what one requires and does before it is begun, and what a run did so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.asking import Field, Question
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Tone, heading, line, page, wrapped

if TYPE_CHECKING:
    from fieldops.operations.runbook import RunReport
    from fieldops.runbooks.format import Param, Runbook

COLUMNS = (
    Column("KIND", 8),
    Column("RUNBOOK", 20, grows=1),
    Column("STATE", 11),
    Column("DEVICE", 11, grows=1),
    Column("TITLE, OR RUN", 20, grows=3),
)
_OUTCOMES: dict[str, tuple[str, Tone]] = {
    "committed": ("committed", "ok"),
    "reverted": ("REVERTED", "warn"),
    "undo_failed": ("UNDO FAILED", "fail"),
    "refused": ("REFUSED", "warn"),
    "cancelled": ("CANCELLED", "warn"),
}


def book_cells(book: Runbook) -> tuple[Cell, ...]:
    return (
        Cell("runbook", "muted"),
        Cell(figures.clean(book.id), "strong"),
        Cell("signed", "ok"),
        Cell(figures.UNKNOWN, "muted"),
        Cell(figures.clean(book.title)),
    )


def run_cells(report: RunReport) -> tuple[Cell, ...]:
    word: tuple[str, Tone] = _OUTCOMES.get(report.outcome or "", ("NOT OVER", "warn"))
    return (
        Cell("run", "muted"),
        Cell(figures.clean(report.runbook), "strong"),
        Cell(*word),
        Cell(figures.clean(report.params.get("device", "")) or figures.UNKNOWN),
        Cell(figures.clean(report.run), "muted"),
    )


def book_text(book: Runbook, width: int, glyphs: Glyphs) -> Content:
    lines = [heading(figures.clean(book.id), width, glyphs.rule, figures.clean(book.title))]
    lines += wrapped("params", [_param(each) for each in book.params] or ["none"], width, 9)
    lines += wrapped("needs", [f"{each.check}{_arguments(each.arguments)}" for each in book.requires] or ["nothing"], width, 9)
    steps = [f"{n}. {each.id}: {each.do}{_arguments(each.arguments)}" for n, each in enumerate(book.steps, 1)]
    lines += wrapped("does", steps, width, 9)
    lines += wrapped("failing", [f"when a step fails: {book.on_fail.replace('_', ' ')}"], width, 9)
    if book.roles:
        lines += wrapped("for", [", ".join(book.roles)], width, 9)
    return page(lines)


def _param(param: Param) -> str:
    choice = f", one of {', '.join(param.values)}" if param.values else ""
    default = f", else {param.default}" if param.default is not None else ""
    return f"{param.name}: {param.type}{choice}{', needed' if param.required else default}"


def _arguments(arguments: Sequence[tuple[str, str]], known: Mapping[str, str] = {}) -> str:
    """With what is known filled in; what a step will find out is named by that step."""
    shown = []
    for name, value in arguments:
        for key, given in known.items():
            value = value.replace(f"${{{key}}}", given)
        shown.append(f" {name}={value.replace('${', '<').replace('}', '>')}")
    return "".join(shown)


def run_text(report: RunReport, width: int, glyphs: Glyphs) -> Content:
    """Each step with its result; what is not over says how it goes on."""
    word: tuple[str, Tone] = _OUTCOMES.get(report.outcome or "", ("NOT OVER", "warn"))
    lines = [
        heading(figures.clean(report.runbook), width, glyphs.rule, figures.clean(report.run)),
        line(("outcome  ", "muted"), word),
    ]
    lines += wrapped("params", [figures.clean(" ".join(f"{name}={value}" for name, value in report.params.items()))], width, 9)
    for number, (id_, what, ok) in enumerate(report.steps, 1):
        state: tuple[str, Tone] = ("begun", "accent") if ok is None else ("ok   ", "ok") if ok else ("FAIL ", "fail")
        named = figures.clean(id_ if id_ == what else f"{id_}: {what}")
        lines.append(line(f"{number:>3} ", state, f"  {named}").truncate(width, ellipsis=True))
    if report.failed is not None:
        lines += wrapped("why", [figures.clean(report.failed.message or report.failed.reason)], width, 9, "fail")
    if report.outcome is None:
        lines += wrapped("next", ["Enter goes on with it; steps that are done are not done again"], width, 9)
    return page(lines)


def begin_question(book: Runbook, device: str, models: Sequence[str]) -> Question:
    known = _first_values(book, device, models)
    steps = [f"{n}. {each.do}{_arguments(each.arguments, known)}" for n, each in enumerate(book.steps, 1)]
    params = " ".join(f"{name}={value}" for name, value in known.items())
    return Question(
        title=f"RUN {book.id}",
        verb="Run",
        rows=(
            ("needs", ", ".join(each.check for each in book.requires) or "nothing"),
            *(("does" if not n else "", text) for n, text in enumerate(steps)),
            ("failing", f"when a step fails: {book.on_fail.replace('_', ' ')}"),
        ),
        fields=(Field("params", "NAME=VALUE, as many as it has", params),),
    )


def resume_question(report: RunReport) -> Question:
    done = sum(ok is not None for _, _, ok in report.steps)
    return Question(
        title=f"GO ON with {report.run}",
        verb="Go on",
        rows=(
            ("runbook", report.runbook),
            ("params", " ".join(f"{name}={value}" for name, value in report.params.items())),
            ("done", f"{done} actions; they are not done again"),
        ),
        reason_asked=False,
    )


def _first_values(book: Runbook, device: str, models: Sequence[str]) -> dict[str, str]:
    """What can be filled in already; what is needed besides stands there empty, to be typed."""
    known: Mapping[str, str] = {"device": device, "model": models[0] if len(models) == 1 else ""}
    found = {param.name: known.get(param.type, "") or param.default or "" for param in book.params}
    return {param.name: found[param.name] for param in book.params if found[param.name] or param.required}

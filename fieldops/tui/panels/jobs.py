"""The list of work, and how one piece of it ended."""

from __future__ import annotations

from typing import Any

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.jobs import Job
from fieldops.tui.panels.change import refusal
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Tone, line, page
from fieldops.tui.panels.progress import progress_bar

COLUMNS = (
    Column("STATE", 9),
    Column("JOB", 30, grows=2),
    Column("PROGRESS, OR HOW IT ENDED", 30, grows=3),
)
_TONES: dict[str, Tone] = {"running": "accent", "STOPPING": "warn", "done": "ok", "CANCELLED": "warn", "FAILED": "fail"}


def cells(job: Job[Any], glyphs: Glyphs) -> tuple[Cell, ...]:
    said = ""
    if job.error is not None:
        said = f"{job.error.reason.replace('_', ' ')}: {job.error.message}"
    elif not job.ended:
        said = progress_bar(job.progress, 36, glyphs).plain
    return (
        Cell(job.state, _TONES[job.state]),
        Cell(figures.clean(job.title), "strong"),
        Cell(figures.clean(said.splitlines()[0] if said else "")),
    )


def text(job: Job[Any], width: int) -> Content:
    if job.error is not None:
        return page(refusal(job.error, width))
    return line((job.state, _TONES[job.state]), f"   {figures.clean(job.title)}")

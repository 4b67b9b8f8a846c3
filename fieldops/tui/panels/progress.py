"""How far a job is: used by the strip of every screen, so it imports nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import line

if TYPE_CHECKING:
    from typing import Any

    from fieldops.ports import Progress
    from fieldops.tui.jobs import Job


def progress_bar(progress: Progress | None, width: int, glyphs: Glyphs, elapsed_s: float | None = None) -> Content:
    """Phase, bar, bytes and rate. A total that nobody knows yet draws no bar."""
    if progress is None:
        return line(("starting", "muted"))
    head = f"{figures.clean(progress.phase):<11}"
    if not progress.total:
        done = f"{figures.size(progress.done)}" if progress.done >= 1024 else ""
        since = f"  {figures.age(elapsed_s)}" if elapsed_s and elapsed_s > 1 else ""
        return line((head, "plain"), (done + since, "muted"))
    fraction = progress.done / progress.total
    tail = f" {100 * fraction:>3.0f}%  {figures.size(progress.done)} of {figures.size(progress.total)}"
    if elapsed_s and elapsed_s > 1 and progress.done:
        tail += f"  {figures.size(progress.done / elapsed_s)}/s"
    room = max(8, width - len(head) - len(tail))
    return line(head, (figures.bar(fraction, room, glyphs), "accent"), tail)


def job_strip(job: Job[Any], others: int, width: int, glyphs: Glyphs) -> Content:
    """One row: what runs, how far it is, and the key that stops it. others: jobs that run besides."""
    more = f"  +{others} (J)" if others else ""
    stopping = job.cancel.cancelled
    tail = line((f"{more}  STOPPING ", "warn")) if stopping else line((more, "muted"), ("  x", "accent"), " stop ")
    bar = min(30, max(12, width // 3))
    head = line((" " + figures.clip(figures.clean(job.title), width - bar - tail.cell_length - 4, glyphs) + "  ", "strong"))
    room = max(8, width - head.cell_length - tail.cell_length - 1)
    left = head.append(progress_bar(job.progress, room, glyphs).truncate(room, ellipsis=True))
    return left.append(" " * max(0, width - left.cell_length - tail.cell_length)).append(tail)

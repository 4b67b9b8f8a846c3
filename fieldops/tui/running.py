"""Stopping work that runs. A stop always has an outcome that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldops.tui.panels import asking

if TYPE_CHECKING:
    from fieldops.tui.front import Front
    from fieldops.tui.jobs import Job
    from fieldops.tui.panels.asking import Answer


class Running:
    """Command `do_stop`."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def do_stop(self, _argument: str = "") -> None:
        """The job of the strip: the newest."""
        running = self._front.jobs.shown
        if running:
            stop(self._front, running[-1])


def stop(front: Front, job: Job[Any]) -> None:
    """At once what only looks; what changes a device after a question, for it cannot be called back."""

    def answered(answer: Answer | None) -> None:
        if answer is not None and not answer.third:
            job.cancel.cancel()
            front.redraw()

    if job.changes and not job.cancel.cancelled:
        front.ask(asking.stop_question("STOP what runs", job.title), answered)
    else:
        job.cancel.cancel()
        front.redraw()

"""The end of a visit, for the devices that the list shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldops.operations.gate import Words
from fieldops.tui.jobs import Job
from fieldops.tui.panels import visit as panel

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.tui.front import Front
    from fieldops.tui.panels.asking import Answer
    from fieldops.tui.site import VisitClosed


class Visits:
    """Command `do_close_visit`."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def do_close_visit(self, _argument: str = "") -> None:
        front = self._front
        entries = [sight.entry for sight in front.shown_sights]
        if entries:
            front.ask(panel.close_question([entry.name for entry in entries]), self._answered)

    def _answered(self, answer: Answer | None) -> None:
        if answer is None:
            return
        front, site = self._front, self._front.site
        entries = [sight.entry for sight in front.shown_sights]
        words, title = Words(reason=answer.reason), f"Closing the visit, {len(entries)} devices"
        sync = answer.fields["sync"].lower() in {"y", "yes"}

        def work(job: Job[VisitClosed]) -> VisitClosed:
            return site.close_visit(entries, words, job.cancel, job.report, sync=sync)

        def closed(report: VisitClosed) -> None:
            front.history.append((site.now(), "information", f"{title}: {report.place}"))
            front.read_text("VISIT CLOSED", lambda width: panel.closed(report, width))

        def failed(error: FieldopsError) -> None:
            front.remember(error)
            front.read_text(title, lambda width: panel.failed(error, width))

        front.jobs.start(Job(title, changes=True), work, closed, failed)

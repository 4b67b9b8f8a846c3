"""The way to the central store: what waits, sending it, and the demo's store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldops.errors import FieldopsError, StoreFault
from fieldops.tui.jobs import Job

if TYPE_CHECKING:
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.tui.front import Front

STATE_EVERY_S = 5.0
SYNC_S = 60.0
STORE_UP_S = 15.0


class Centre:
    """Commands `do_sync` and `do_store_up`."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._read_at = float("-inf")

    def tick(self) -> None:
        if self._front.site.monotonic() - self._read_at >= STATE_EVERY_S and self._front.inventory_read:
            self.read_state()

    def read_state(self) -> None:
        front, site = self._front, self._front.site
        self._read_at = site.monotonic()

        def read(status: SyncStatus) -> None:
            front.sync_state = status

        front.jobs.start(Job(""), lambda _job: site.sync_status(), read, front.remember)

    def do_sync(self, _argument: str = "") -> None:
        front, site = self._front, self._front.site

        def pushed(report: SyncReport) -> None:
            front.store_state = "online"
            front.tell(f"sent {report.pushed} entries; the store has {report.size}")
            self.read_state()

        def work(job: Job[SyncReport]) -> SyncReport:
            return site.sync(site.deadline(SYNC_S, job.cancel), job.report)

        def failed(error: FieldopsError) -> None:
            if isinstance(error, StoreFault):
                front.store_state = "offline"
            front.tell_error(error)

        front.jobs.start(Job("sending the log"), work, pushed, failed)

    def do_store_up(self, _argument: str = "") -> None:
        front, site = self._front, self._front.site
        front.jobs.start(
            Job("bringing up the store"),
            lambda job: site.bring_up_store(site.deadline(STORE_UP_S, job.cancel)),
            lambda _none: front.tell("the central store is up: send the log with `u`"),
            front.tell_error,
        )

"""The part of LaptopSite for the end of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fieldops.deadline import CancelToken
from fieldops.errors import FieldopsError
from fieldops.ports import Progress
from fieldops.tui.laptop_records import Records
from fieldops.tui.site import VisitClosed

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.gate import Words
    from fieldops.operations.visit import LeftBehind
    from fieldops.ports import OnProgress

SIDE_BY_SIDE = 16
DEVICE_S = 60.0
SYNC_S = 60.0


class Visits(Records):
    """Implements site.Leaving."""

    def close_visit(
        self, entries: Sequence[DeviceEntry], words: Words, cancel: CancelToken, progress: OnProgress, *, sync: bool
    ) -> VisitClosed:
        from fieldops.operations import visit

        laptop = self._laptop
        folder, gate = laptop.visit_folder(None), laptop.gate()
        done = 0

        def leave(entry: DeviceEntry) -> LeftBehind:
            nonlocal done
            deadline = laptop.deadline(DEVICE_S, cancel)
            try:
                with self._connect(entry, deadline) as device:
                    left = visit.leave(gate, device, laptop.telemetry, folder, laptop.clock, deadline)
            except FieldopsError as error:
                left = visit.unreached(entry.name, error)
            done += 1
            progress(Progress(f"{done} of {len(entries)}", done, None))
            return left

        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="fieldops-visit") as pool:
            lefts = list(pool.map(leave, entries))
        laptop.deadline(SYNC_S, cancel).check("the end of the visit")
        push = (lambda: self._push(cancel, progress)) if sync else None
        report = visit.close(gate, lefts, laptop.telemetry, folder, laptop.clock, words, push)
        failed = [left.device for left in lefts if left.error is not None]
        return VisitClosed(str(folder.path / "report.txt"), visit.text_of(report), tuple(failed))

    def _push(self, cancel: CancelToken, progress: OnProgress) -> object:
        return self.sync(self._laptop.deadline(SYNC_S, cancel), progress)

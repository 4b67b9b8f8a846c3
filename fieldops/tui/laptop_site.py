"""`Site` over a laptop's wiring: each call is one operation, imported when it is first asked for: after the first paint.

Links are the wiring's: one a host, kept open and shared. Whatever the person waits for may ask for passphrase and password
(`asker`); the reading that goes on by itself never asks for a password.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import TrustRefused, UsageFault
from fieldops.tui.laptop_meetings import Meetings
from fieldops.tui.laptop_runbooks import Runbooks
from fieldops.tui.laptop_visit import Visits

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.gate import Words
    from fieldops.operations.observe import Snapshot
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.operations.sideload import Planned, SideloadPlan
    from fieldops.policy import Decision
    from fieldops.ports import Candidate, OnProgress, Source, TrustedBundle
    from fieldops.steps import Approval, Step
    from fieldops.tui.prompts import Asker
    from fieldops.tui.site import Glass
    from fieldops.wire import BenchResult, JournalEntry, StepRecord
    from fieldops.wiring import Laptop


class LaptopSite(Meetings, Runbooks, Visits):
    """Implements tui.site.Site. asker None: nobody is asked for anything."""

    def __init__(self, laptop: Laptop, asker: Asker | None = None) -> None:
        super().__init__(laptop, asker)
        self._sources: dict[str, Source] = {}

    # --- time and who --------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._laptop.clock.now()

    def monotonic(self) -> float:
        return self._laptop.clock.monotonic()

    def deadline(self, seconds: float, cancel: CancelToken) -> Deadline:
        return self._laptop.deadline(seconds, cancel)

    def actor(self) -> str:
        return str(self._laptop.technician.actor())

    @property
    def inventory_place(self) -> str:
        return str(self._laptop.home / "fleet.toml")

    # --- looking ---------------------------------------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        return self._laptop.inventory()

    def keep_text(self, text: str) -> str:
        from fieldops.wiring.statements import keep_text

        return keep_text(self._laptop.home / "copied.txt", text)

    def snapshot(self, entry: DeviceEntry, deadline: Deadline) -> Snapshot:
        from fieldops.operations import observe

        with self._asker.by_itself() if self._asker is not None else nullcontext():
            return observe.snapshot(self._laptop.connect, entry, deadline, self.now)

    def logs(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[str]:
        with self._connect(entry, deadline) as device:
            return device.logs(lines, deadline)

    def acts(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[JournalEntry]:
        with self._connect(entry, deadline) as device:
            newest = device.journal(0, deadline).newest
            return device.journal(max(0, newest - lines), deadline).entries

    def benches(self, device: str) -> list[tuple[float, BenchResult]]:
        return [(each.time, each.result) for each in self._laptop.benchmarks.newest_first() if each.device == device]

    # --- sideload ----------------------------------------------------------------------------------------------------------------

    def candidates(self, deadline: Deadline) -> list[Candidate]:
        from fieldops.operations import sideload
        from fieldops.operations.site import hear

        laptop = self._laptop
        server = hear(laptop.gate, laptop.trust, laptop.media, deadline).source if laptop.config.site is not None else None
        sources = [*laptop.media.find(), *([server] if server is not None else [])]
        self._sources = {source.name: source for source in sources}
        return sideload.candidates(self._laptop.trust, sources, deadline)

    def _source(self, candidate: Candidate) -> Source:
        source = self._sources.get(candidate.source)
        if source is None:
            raise TrustRefused(
                f"{candidate.source} is gone", reason="io_error", next_step="plug the stick in again, then press r"
            )
        return source

    def fetch(
        self, candidate: Candidate, entry: DeviceEntry, deadline: Deadline, progress: OnProgress, glass: Glass | None = None
    ) -> TrustedBundle:
        from fieldops.operations import sideload
        from fieldops.ports import BreakGlass

        laptop, source = self._laptop, self._source(candidate)
        broken = BreakGlass(self.approvals(glass.approvals), (_id(entry),)) if glass is not None else None
        return sideload.fetch(
            laptop.gate(),
            laptop.trust,
            source,
            candidate.ref,
            deadline,
            channel=candidate.channel or None,
            progress=progress,
            glass=broken,
        )

    def approvals(self, files: Sequence[str]) -> tuple[Approval, ...]:
        from fieldops.wiring.statements import read_approvals

        return read_approvals([Path(file).expanduser() for file in files])

    def write_statement(self, candidate: Candidate, entry: DeviceEntry, place: str, reason: str, deadline: Deadline) -> str:
        from fieldops.bundles.approvals import STATEMENT_S
        from fieldops.operations import sideload
        from fieldops.wiring.statements import write_new

        text = sideload.statement(
            self._laptop.trust,
            self._source(candidate),
            candidate.ref,
            (_id(entry),),
            deadline,
            until=self.now() + STATEMENT_S,
            accept_expired=True,
            channel=candidate.channel or None,
            reason=reason,
        )
        file = Path(place).expanduser().absolute()
        write_new(file, text)
        return str(file)

    def plan_sideload(
        self, entry: DeviceEntry, bundle: TrustedBundle, deadline: Deadline, *, arm: str = "", approvals: Sequence[Approval] = ()
    ) -> SideloadPlan:
        from fieldops.operations import sideload

        window = sideload.window_of(arm, self.now()) if arm else None
        with self._connect(entry, deadline) as device:
            return sideload.plan(self._laptop.trust, device, bundle, deadline, approvals=approvals, window=window)

    def apply(
        self, entry: DeviceEntry, plan: SideloadPlan, planned: Planned, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        from fieldops.operations import sideload

        with self._connect(entry, deadline) as device:
            one = replace(plan, steps=(planned,))
            return sideload.run(self._laptop.gate(), device, one, deadline, words=words, progress=progress)[0]

    def commit(self, entry: DeviceEntry, model: str, version: str, words: Words, deadline: Deadline) -> StepRecord:
        from fieldops.operations import sideload

        with self._connect(entry, deadline) as device:
            return sideload.commit(self._laptop.gate(), device, model, version, deadline, words=words)

    # --- rollback ------------------------------------------------------------------------------------------------------------------

    def plan_rollback(self, entry: DeviceEntry, model: str, to: str | None, deadline: Deadline) -> RollbackPlan:
        from fieldops.operations import rollback

        with self._connect(entry, deadline) as device:
            return rollback.plan(device, model, deadline, to=to)

    def rollback(
        self, entry: DeviceEntry, plan: RollbackPlan, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        from fieldops.operations import rollback

        with self._connect(entry, deadline) as device:
            return rollback.run(self._laptop.gate(), device, plan, deadline, words=words, progress=progress)

    def perform(self, entry: DeviceEntry, step: Step, words: Words, deadline: Deadline, progress: OnProgress) -> StepRecord:
        with self._connect(entry, deadline) as device:
            return self._laptop.gate().perform(device, step, deadline, words=words, progress=progress)

    def bench(
        self,
        entry: DeviceEntry,
        model: str,
        samples: int,
        words: Words,
        deadline: Deadline,
        progress: OnProgress,
        *,
        save: bool,
    ) -> BenchResult:
        from fieldops.operations import benchmark

        with self._connect(entry, deadline) as device:
            result = benchmark.on_device(
                self._laptop.gate(),
                device,
                model,
                deadline,
                samples=samples,
                save_baseline=save,
                words=words,
                progress=progress,
            )
        self._laptop.benchmarks.keep(entry.name, result)
        return result

    def decide(self, step: Step) -> Decision:
        return self._laptop.gate().decide(step)


def _id(entry: DeviceEntry) -> str:
    """Approvals are for ids. Raises UsageFault for a device that no verified link has named yet."""
    if not entry.id:
        raise UsageFault(f"the id of {entry.name} is not known here", reason="no_id", next_step="enrol it: E on the device")
    return str(entry.id)

"""What the console needs of the world. Every call may block, so only worker threads make them; each takes a deadline.

`Site` is the whole surface: tests implement it with values, `laptop_site.LaptopSite` with operations over wiring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fieldops.deadline import CancelToken, Deadline

if TYPE_CHECKING:  # types only: the first paint waits for none of these
    from fieldops.audit.entry import Entry
    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.gate import Words
    from fieldops.operations.observe import Snapshot
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.operations.sideload import Planned, SideloadPlan
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.operations.trail import TrailReport
    from fieldops.policy import Decision
    from fieldops.ports import Candidate, OnProgress, TrustedBundle
    from fieldops.steps import Step
    from fieldops.wire import StepRecord


class Site(Protocol):
    """One laptop at one place. Raises errors.FieldopsError and nothing else on purpose."""

    @property
    def is_demo(self) -> bool:
        """Whether the home belongs to a running demo, whose central store can be brought up from here."""

    @property
    def inventory_place(self) -> str:
        """Where fleet.toml is, for the person who edits it."""

    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float: ...

    def deadline(self, seconds: float, cancel: CancelToken) -> Deadline: ...

    def actor(self) -> str:
        """Who the log names: person:SHA256:... or local:<user>."""

    def inventory(self) -> Inventory: ...

    def snapshot(self, entry: DeviceEntry, deadline: Deadline) -> Snapshot: ...

    def candidates(self, deadline: Deadline) -> list[Candidate]:
        """What all media offer now, each with the reason why it is not usable."""

    def fetch(self, candidate: Candidate, deadline: Deadline, progress: OnProgress) -> TrustedBundle: ...

    def plan_sideload(self, entry: DeviceEntry, bundle: TrustedBundle, deadline: Deadline) -> SideloadPlan: ...

    def apply(
        self, entry: DeviceEntry, plan: SideloadPlan, planned: Planned, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        """One step of the plan through the gate."""

    def commit(self, entry: DeviceEntry, model: str, version: str, words: Words, deadline: Deadline) -> StepRecord: ...

    def plan_rollback(self, entry: DeviceEntry, model: str, to: str | None, deadline: Deadline) -> RollbackPlan: ...

    def rollback(
        self, entry: DeviceEntry, plan: RollbackPlan, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord: ...

    def decide(self, step: Step) -> Decision:
        """What the gate would say now; shown before anybody types a name."""

    def trail(self, limit: int) -> list[Entry]:
        """The newest entries of the log, newest first."""

    def sync_status(self) -> SyncStatus: ...

    def verify_trail(self, deadline: Deadline) -> TrailReport: ...

    def sync(self, deadline: Deadline, progress: OnProgress) -> SyncReport: ...

    def bring_up_store(self, deadline: Deadline) -> None:
        """Demo only: ask the demo to start its central store."""

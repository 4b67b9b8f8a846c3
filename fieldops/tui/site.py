"""What the console needs of the world. Every call may block, so only worker threads make them; each takes a deadline.

`Site` is the whole surface, in parts that go together: tests implement it with values, `laptop_site.LaptopSite` with
operations over wiring. Raises errors.FieldopsError and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fieldops.deadline import CancelToken, Deadline

if TYPE_CHECKING:  # types only: the first paint waits for none of these
    from fieldops.audit.entry import Entry
    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.discover import Found
    from fieldops.operations.gate import Words
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.operations.observe import Snapshot
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.operations.runbook import RunReport
    from fieldops.operations.sideload import Planned, SideloadPlan
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.operations.trail import TrailReport
    from fieldops.policy import Decision
    from fieldops.ports import Candidate, OnProgress, TrustedBundle
    from fieldops.runbooks.engine import Action, Fact
    from fieldops.runbooks.format import Runbook
    from fieldops.steps import Approval, Step
    from fieldops.wire import BenchResult, JournalEntry, StepRecord


@dataclass(frozen=True, slots=True)
class Enrolment:
    """proof "": the agent was not seen to come back by itself, and unproved says why; both "" without a kit."""

    id: str
    proof: str = ""
    unproved: str = ""


@dataclass(frozen=True, slots=True)
class Glass:
    """Metadata that is only too old may be used. approvals: files that `fieldops approve` wrote, one a person."""

    approvals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VisitClosed:
    """place: of the report. failed: names of devices that were not reached to the end."""

    place: str
    text: str
    failed: tuple[str, ...] = ()


class Here(Protocol):
    """This laptop, its clock, and who sits at it."""

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

    def keep_text(self, text: str) -> str:
        """The one file that holds what was copied last; returns its place."""


class Looking(Protocol):
    def snapshot(self, entry: DeviceEntry, deadline: Deadline) -> Snapshot: ...

    def logs(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[str]:
        """What the agent logged, newest last."""

    def acts(self, entry: DeviceEntry, lines: int, deadline: Deadline) -> list[JournalEntry]:
        """What the device did and decided by its own journal, newest last."""

    def benches(self, device: str) -> list[tuple[float, BenchResult]]:
        """The runs this laptop took of a device: (Unix seconds, result), newest first."""


class Changing(Protocol):
    def candidates(self, deadline: Deadline) -> list[Candidate]:
        """What all media offer now, each with the reason why it is not usable."""

    def fetch(
        self, candidate: Candidate, entry: DeviceEntry, deadline: Deadline, progress: OnProgress, glass: Glass | None = None
    ) -> TrustedBundle: ...

    def write_statement(self, candidate: Candidate, entry: DeviceEntry, place: str, reason: str, deadline: Deadline) -> str:
        """What approvers must sign so that expired metadata may be used on this device. Returns the file's place."""

    def plan_sideload(
        self, entry: DeviceEntry, bundle: TrustedBundle, deadline: Deadline, *, arm: str = "", approvals: Sequence[Approval] = ()
    ) -> SideloadPlan:
        """arm: a window such as `22:00-04:00` or `+8h`, in which the device tries it alone."""

    def approvals(self, files: Sequence[str]) -> tuple[Approval, ...]: ...

    def apply(
        self, entry: DeviceEntry, plan: SideloadPlan, planned: Planned, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        """One step of the plan through the gate."""

    def commit(self, entry: DeviceEntry, model: str, version: str, words: Words, deadline: Deadline) -> StepRecord: ...

    def plan_rollback(self, entry: DeviceEntry, model: str, to: str | None, deadline: Deadline) -> RollbackPlan: ...

    def rollback(
        self, entry: DeviceEntry, plan: RollbackPlan, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord: ...

    def perform(self, entry: DeviceEntry, step: Step, words: Words, deadline: Deadline, progress: OnProgress) -> StepRecord:
        """One step by itself through the gate."""

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
        """The result is kept on this laptop. save: on the device as well, as its baseline."""

    def decide(self, step: Step) -> Decision:
        """What the gate would say now; shown before anybody types a name."""


class Meeting(Protocol):
    """Devices that are not known well yet."""

    def log_in(self, entry: DeviceEntry, deadline: Deadline) -> None:
        """Within it the person stands by for passphrase and password."""

    def host_key(self, entry: DeviceEntry, expected: str | None, deadline: Deadline) -> OfferedKey:
        """What may be shown to a person for a decision; what must not be accepted at all is raised. expected: from its label."""

    def trust_host_key(self, entry: DeviceEntry, offered: OfferedKey, words: Words) -> None: ...

    def discover(self, deadline: Deadline) -> tuple[Found, ...]:
        """Who answers: the list's, those that announce themselves, and who is at the end of a cable."""

    def add_device(self, typed: Mapping[str, str], words: Words) -> DeviceEntry:
        """typed: name, ssh, lan, site, class."""

    def enrol_steps(self, deadline: Deadline) -> list[str]:
        """What enrolling does, a line each."""

    def enrol(
        self,
        entry: DeviceEntry,
        label: str,
        kit: str,
        words: Words,
        deadline: Deadline,
        progress: OnProgress,
        *,
        adopt: bool,
    ) -> Enrolment:
        """kit: folder of an installation kit; "": the device has its agent."""


class Running(Protocol):
    """Runbooks."""

    def runbooks(self) -> list[Runbook]: ...

    def runs(self) -> list[RunReport]:
        """Newest first; what cannot be read is left out."""

    def resolve_run(self, runbook: str, typed: str) -> dict[str, str]:
        """typed: `NAME=VALUE ...`. Raises UsageFault for what is missing or wrong."""

    def begin_run(self, runbook: str, params: Mapping[str, str], words: Words) -> str:
        """Pinned on disk when it returns; the id of the run."""

    def go_on_run(
        self, run: str, params: Mapping[str, str], deadline: Deadline, on_action: Callable[[Action, Fact | None], None]
    ) -> RunReport: ...


class Recording(Protocol):
    """The log of this laptop, and its way to the centre."""

    def trail(self, limit: int) -> list[Entry]:
        """The newest entries of the log, newest first."""

    def sync_status(self) -> SyncStatus: ...

    def verify_trail(self, deadline: Deadline) -> TrailReport: ...

    def sync(self, deadline: Deadline, progress: OnProgress) -> SyncReport: ...

    def bring_up_store(self, deadline: Deadline) -> None:
        """Demo only: ask the demo to start its central store."""


class Leaving(Protocol):
    """The end of a visit."""

    def close_visit(
        self, entries: Sequence[DeviceEntry], words: Words, cancel: CancelToken, progress: OnProgress, *, sync: bool
    ) -> VisitClosed:
        """Take along what these devices know, and write the visit's report. sync: then bring it all to the central store."""


class Site(Here, Looking, Changing, Meeting, Running, Recording, Leaving, Protocol):
    """One laptop at one place."""

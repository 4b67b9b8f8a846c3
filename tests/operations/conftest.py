"""A device in this process, and the real parts of a laptop: journal on disk, laptop key, a person's SSH key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from fieldops.audit.entry import Entry
from fieldops.deadline import Deadline
from fieldops.drift.report import DriftReport
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile, ssh_keygen
from fieldops.errors import FieldopsError
from fieldops.fleet import Address, DeviceEntry, DeviceId, Resources
from fieldops.operations.gate import Gate
from fieldops.policy import Person, PolicyDocument
from fieldops.ports import Grant, OnProgress, Payload
from fieldops.steps import Activate, Bench, Commit, Revert, Step, kind_of
from fieldops.wire import (
    BenchResult,
    Challenge,
    DriftReports,
    Hello,
    JournalEntry,
    JournalPage,
    ModelsReport,
    SlotStatus,
    StepRecord,
    StepState,
    TrustStatus,
    VersionInfo,
)

DEVICE_ID = DeviceId("a" * 52)
ENTRY = DeviceEntry(name="cam-01", lan=Address("127.0.0.1", 9), id=DEVICE_ID)


def digest(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def held(version: str, role: str, *, signed_by: str = "stable") -> VersionInfo:
    return msgspec.convert(
        {
            "version": version,
            "counter": 1,
            "manifest_sha256": digest(version),
            "size_bytes": 1,
            "role": role,
            "signed_by": signed_by,
        },
        VersionInfo,
    )


def digits(**changes: object) -> SlotStatus:
    """1.1.0 answers; 1.0.0 is what it would go back to."""
    slot = SlotStatus(
        model="digits",
        task="digits",
        state="settled",
        active="1.1.0",
        last_good="1.0.0",
        candidate=None,
        floor=0,
        versions=[held("1.1.0", "active"), held("1.0.0", "last_good"), held("0.9.0", "quarantined")],
    )
    return msgspec.structs.replace(slot, **changes)


class NearDevice:
    """Implements ports.Device: answers as told, keeps the envelopes it was sent, and its slots follow what it says is done.

    answers: one a step, from the left; then `answer`.
    """

    entry = ENTRY
    link = "local"

    def __init__(self, answer: StepState | FieldopsError = "done", *slots: SlotStatus, page: int = 1000) -> None:
        self.answer = answer
        self.answers: list[StepState | FieldopsError] = []
        self.slots = {slot.model: slot for slot in slots}
        self.page = page
        self.envelopes: list[bytes] = []
        self.done: list[Step] = []
        self.alone: list[JournalEntry] = []  # its own journal
        self.hardware = Resources(read_at=1.0, boot_id="b", uptime_s=1.0, cpu_count=1)
        self.failing: FieldopsError | None = None  # what reading it raises

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        self.envelopes.append(grant.envelope(self.entry.id or DEVICE_ID, step, Challenge(nonce="n", known_size=0)))
        answer = self.answers.pop(0) if self.answers else self.answer
        if isinstance(answer, FieldopsError):
            raise answer
        bench = None
        if answer == "done":
            self.done.append(step)
            self._follow(step)
            bench = self._measured(step) if isinstance(step, Bench) and step.model in self.slots else None
        elif answer == "reverted":
            self.act_alone("revert")
        return StepRecord(
            step_id=grant.step_id,
            kind=kind_of(step),
            state=answer,
            exit=0 if answer == "done" else 6,
            reason="told",
            bench=bench,
        )

    def _follow(self, step: Step) -> None:
        match step:
            case Activate(model=model, version=version) if model in self.slots:
                self._change(model, state="trial", candidate=version)
            case Commit(model=model, version=version) if model in self.slots:
                self._change(model, state="settled", last_good=self.slots[model].active, active=version, candidate=None)
            case Revert(model=model, to=to) if model in self.slots:
                slot = self.slots[model]
                back = slot.active if slot.state == "trial" else slot.last_good
                self._change(model, state="reverted", active=to or back, candidate=None)
            case _:
                pass

    def _change(self, model: str, **changes: object) -> None:
        self.slots[model] = msgspec.structs.replace(self.slots[model], **changes)

    def _measured(self, step: Bench) -> BenchResult:
        return BenchResult(
            model=step.model,
            version=self.slots[step.model].active or "",
            samples=step.samples,
            cold_ms=2.0,
            p50_ms=1.0,
            p90_ms=1.5,
            p99_ms=None,
            rate_per_s=900.0,
            kernel_ms=1.0,
            throttled=None,
        )

    def act_alone(self, action: str, actor: str = f"device:{DEVICE_ID}") -> None:
        self.alone.append(
            JournalEntry(
                seq=len(self.alone) + 1,
                time=1.0,
                boot_id="b",
                actor=actor,
                action=action,
                model="digits",
                version="1.0.0",
                reason="trial_deadline",
            )
        )

    def _read(self) -> None:
        if self.failing is not None:
            raise self.failing

    def hello(self, deadline: Deadline) -> Hello:
        self._read()
        return Hello(
            device=self.entry.id or DEVICE_ID, public_key="", versions=(1, 1), agent="1", enrolled=True, boot_id="b", time=1.0
        )

    def resources(self, deadline: Deadline) -> Resources:
        self._read()
        return self.hardware

    def models(self, deadline: Deadline) -> ModelsReport:
        self._read()
        return ModelsReport(read_at=1.0, slots=list(self.slots.values()))

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        self._read()
        found = [
            DriftReport(model=slot.model, version=slot.active or "", reference=None, windows=[])
            for slot in self.slots.values()
            if model in {None, slot.model}
        ]
        return DriftReports(read_at=1.0, models=found)

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        found = [each for each in self.alone if each.seq > after][: self.page]
        return JournalPage(entries=found, newest=len(self.alone))

    def trust(self, deadline: Deadline) -> TrustStatus:
        return TrustStatus(root_version=1, timestamp_version=1, policy_sha256="", laptops=[], clock_floor=0.0)

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        return []

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        return None

    def close(self) -> None: ...

    @contextmanager
    def connect(self, deadline: Deadline) -> Iterator[NearDevice]:
        yield self


class Laptop:
    """The real parts: journal on disk, laptop key, a person's SSH key."""

    def __init__(self, home: Path) -> None:
        self.clock = SystemClock()
        self.signer = Ed25519Signer.load_or_create(home / "keys" / "laptop.key")
        self.person = ssh_keygen(home / "person")
        self.database = home / "audit.db"
        self.journal = SqliteJournal.open(self.database, lambda: self.signer, self.clock)
        self.technician = PersonFile(home / "person", self.signer.laptop, home / "session.json")

    def gate(self, policy: PolicyDocument) -> Gate:
        return Gate(self.journal, self.signer, self.technician, policy, self.clock)

    def allowed(self) -> Gate:
        return self.gate(PolicyDocument(v=1, roles={"lead": ["*"]}, people={self.person: Person(role="lead")}))

    def entries(self) -> list[Entry]:
        return [entry for entry, _ in self.journal.read()]

    def deadline(self) -> Deadline:
        return Deadline.after(30, self.clock.monotonic)


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)

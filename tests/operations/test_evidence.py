"""What a device did alone reaches the log of the laptop that visits it, once."""

from __future__ import annotations

from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
from fieldops.fleet import Address, DeviceEntry, DeviceId, Resources
from fieldops.operations.evidence import collect, read_so_far
from fieldops.ports import Grant, OnProgress, Payload
from fieldops.steps import Step
from fieldops.wire import DriftReports, Hello, JournalEntry, JournalPage, ModelsReport, StepRecord, TrustStatus

DEVICE = DeviceId("b" * 52)
PERSON = "person:SHA256:x"


def act(seq: int, actor: str, action: str) -> JournalEntry:
    return JournalEntry(
        seq=seq, time=1.0, boot_id="b", actor=actor, action=action, model="digits", version="1.0.0", reason="trial_deadline"
    )


class Recorded:
    """A device that has only a journal, given out two entries a page."""

    entry = DeviceEntry(name="cam", lan=Address("127.0.0.1", 9), id=DEVICE)
    link = "local"

    def __init__(self, *entries: JournalEntry) -> None:
        self.entries = list(entries)

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        page = [entry for entry in self.entries if entry.seq > after][:2]
        return JournalPage(entries=page, newest=max((entry.seq for entry in self.entries), default=0))

    def hello(self, deadline: Deadline) -> Hello:
        raise NotImplementedError

    def resources(self, deadline: Deadline) -> Resources:
        raise NotImplementedError

    def models(self, deadline: Deadline) -> ModelsReport:
        raise NotImplementedError

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        raise NotImplementedError

    def trust(self, deadline: Deadline) -> TrustStatus:
        raise NotImplementedError

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        raise NotImplementedError

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        raise NotImplementedError

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        raise NotImplementedError

    def close(self) -> None: ...


def test_each_autonomous_act_is_copied_once_with_the_device_as_its_actor(tmp_path: Path) -> None:
    clock = SystemClock()
    signer = Ed25519Signer.load_or_create(tmp_path / "keys" / "laptop.key")
    journal = SqliteJournal.open(tmp_path / "audit.db", lambda: signer, clock)
    deadline = Deadline.after(30, clock.monotonic)
    alone = f"device:{DEVICE}"
    device = Recorded(act(1, PERSON, "stage"), act(2, alone, "revert"), act(3, PERSON, "commit"), act(4, alone, "recover"))

    assert collect(journal, device, PERSON, deadline) == 2
    assert collect(journal, device, PERSON, deadline) == 0
    device.entries.append(act(5, alone, "revert"))
    assert collect(journal, device, PERSON, deadline) == 1

    entries = [entry for entry, _ in journal.read()]
    assert [(entry.act, entry.actor) for entry in entries] == [
        ("device.revert", alone),
        ("device.recover", alone),
        ("device.journal", PERSON),
        ("device.revert", alone),
        ("device.journal", PERSON),
    ]
    assert {(entry.phase, entry.device) for entry in entries} == {("note", DEVICE)}
    assert entries[0].result is not None
    assert "1970-01-01 00:00:01Z by its clock" in entries[0].result.detail


def test_a_long_journal_of_other_peoples_acts_is_read_once(tmp_path: Path) -> None:
    clock = SystemClock()
    signer = Ed25519Signer.load_or_create(tmp_path / "keys" / "laptop.key")
    journal = SqliteJournal.open(tmp_path / "audit.db", lambda: signer, clock)
    deadline = Deadline.after(30, clock.monotonic)
    device = Recorded(*(act(seq, PERSON, "stage") for seq in range(1, 503)))
    assert collect(journal, device, PERSON, deadline) == 0
    assert read_so_far(journal, DEVICE) == 502
    assert [entry.act for entry, _ in journal.read()] == ["device.journal"]
    assert read_so_far(journal, "c" * 52) == 0

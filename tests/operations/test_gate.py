"""The one door, over every kind of step: what stands in the log when it goes well, is denied, loses the link, or cannot be written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from fieldops.audit.entry import Entry
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile, open_envelope, ssh_keygen
from fieldops.errors import DeviceCannot, FieldopsError, LinkLost, PolicyRefused, StorageFault
from fieldops.fleet import Address, DeviceEntry, DeviceId, Inventory, Resources
from fieldops.operations.gate import Gate, Words
from fieldops.policy import NO_POLICY, Person, PolicyDocument
from fieldops.ports import Grant, OnProgress, Payload
from fieldops.steps import (
    STEP_KINDS,
    Activate,
    AddDevice,
    Adopt,
    Arm,
    Bench,
    Change,
    Commit,
    Disarm,
    Enrol,
    Prune,
    Recalibrate,
    Revert,
    RotateTrust,
    SetTiers,
    Stage,
    Step,
    Unenrol,
    kind_of,
)
from fieldops.tiers import TierSettings
from fieldops.wire import (
    Challenge,
    DriftReports,
    Hello,
    JournalEntry,
    JournalPage,
    ModelsReport,
    StepRecord,
    StepRequest,
    StepState,
    TrustStatus,
    decode,
)

EXAMPLES: dict[type[Step], Step] = {
    Enrol: Enrol(laptop_key="", laptop_certificate="", root="{}"),
    RotateTrust: RotateTrust(timestamp_version=5),
    Stage: Stage(channel="stable", model="digits", version="1.1.0", manifest_sha256="0" * 64),
    Activate: Activate(model="digits", version="1.1.0"),
    Commit: Commit(model="digits", version="1.1.0"),
    Revert: Revert(model="digits", to="1.0.0"),
    Arm: Arm(model="digits", version="1.1.0", start=1.0, end=3601.0),
    Disarm: Disarm(model="digits"),
    Recalibrate: Recalibrate(model="digits", labels={"1": 7}),
    SetTiers: SetTiers(model="digits", settings=TierSettings(large="never")),
    Prune: Prune(model="digits", versions=["1.0.0"]),
    Bench: Bench(model="digits"),
    Adopt: Adopt(model="digits"),
    Unenrol: Unenrol(laptop="a" * 52),
}
DEVICE_ID = DeviceId("a" * 52)
ENTRY = DeviceEntry(name="cam-01", lan=Address("127.0.0.1", 9), id=DEVICE_ID)


class ScriptedDevice:
    """A device that answers as told, and keeps the envelope it was sent."""

    entry = ENTRY
    link = "local"

    def __init__(self, answer: StepState | FieldopsError = "done") -> None:
        self.answer = answer
        self.envelopes: list[bytes] = []
        self.alone: list[JournalEntry] = []  # its own journal

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        self.envelopes.append(grant.envelope(DEVICE_ID, step, Challenge(nonce="n", known_size=0)))
        if self.answer == "reverted":
            self.act_alone("revert")
        if isinstance(self.answer, FieldopsError):
            raise self.answer
        return StepRecord(
            step_id=grant.step_id, kind=kind_of(step), state=self.answer, exit=0 if self.answer == "done" else 6, reason="told"
        )

    def act_alone(self, action: str) -> None:
        entry = JournalEntry(
            seq=len(self.alone) + 1,
            time=1.7e9,
            boot_id="b",
            actor=f"device:{DEVICE_ID}",
            action=action,
            model="digits",
            version="1.0.0",
            reason="trial_deadline",
        )
        self.alone.append(entry)

    def hello(self, deadline: Deadline) -> Hello:
        raise NotImplementedError

    def resources(self, deadline: Deadline) -> Resources:
        raise NotImplementedError

    def models(self, deadline: Deadline) -> ModelsReport:
        raise NotImplementedError

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        raise NotImplementedError

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        return JournalPage(entries=[each for each in self.alone if each.seq > after], newest=len(self.alone))

    def trust(self, deadline: Deadline) -> TrustStatus:
        raise NotImplementedError

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        raise NotImplementedError

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        raise NotImplementedError

    def close(self) -> None: ...


class Laptop:
    """The real parts of a laptop: journal on disk, laptop key, a person's SSH key."""

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


each_kind = pytest.mark.parametrize("kind", STEP_KINDS, ids=lambda kind: kind.__name__)


def test_there_is_an_example_of_every_kind() -> None:
    assert set(EXAMPLES) == set(STEP_KINDS)


@each_kind
def test_a_change_leaves_an_intent_and_its_outcome(laptop: Laptop, kind: type[Step]) -> None:
    device = ScriptedDevice()
    laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline(), words=Words("drift", "T-1"))
    intent, outcome = laptop.entries()
    assert (intent.phase, intent.act, intent.device, intent.reason, intent.ticket) == (
        "intent",
        kind.__name__,
        DEVICE_ID,
        "drift",
        "T-1",
    )
    assert intent.actor == f"person:{laptop.person}"
    assert (outcome.phase, outcome.of) == ("outcome", intent.seq)
    assert outcome.result is not None
    assert outcome.result.status == "done"


@each_kind
def test_the_device_gets_an_envelope_signed_by_the_laptop_that_covers_the_intent(laptop: Laptop, kind: type[Step]) -> None:
    device = ScriptedDevice()
    laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline())
    request = decode(open_envelope(device.envelopes[0], laptop.signer.public_key), StepRequest, sender="laptop")
    assert request.step == EXAMPLES[kind]
    assert request.device == DEVICE_ID
    assert request.step_id == f"{laptop.journal.log.removeprefix('fieldops/').replace('/', '.')}.{laptop.entries()[0].seq}"
    assert request.session is not None
    assert json.loads(request.session.body)["laptop"] == laptop.signer.laptop


@each_kind
def test_a_denied_change_is_recorded_and_never_sent(laptop: Laptop, kind: type[Step]) -> None:
    revoked = PolicyDocument(v=1, roles={"lead": ["*"]}, people={}, laptops_revoked=[laptop.signer.laptop])
    device = ScriptedDevice()
    with pytest.raises(PolicyRefused) as refused:
        laptop.gate(revoked).perform(device, EXAMPLES[kind], laptop.deadline())
    assert device.envelopes == []
    (note,) = laptop.entries()
    assert note.phase == "note"
    assert note.result is not None
    assert (note.result.status, note.result.code, refused.value.device) == ("refused", 4, "cam-01")


@each_kind
def test_what_the_device_did_alone_stands_before_every_change_and_after_one_it_took_back(
    laptop: Laptop, kind: type[Step]
) -> None:
    device = ScriptedDevice("reverted")
    device.act_alone("worker_crash")
    with pytest.raises(DeviceCannot):
        laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline())
    name = kind.__name__
    acts = ["device.worker_crash", "device.journal", name, name, "device.revert", "device.journal"]
    assert [entry.act for entry in laptop.entries()] == acts


@each_kind
def test_a_lost_link_is_unknown_never_failed(laptop: Laptop, kind: type[Step]) -> None:
    device = ScriptedDevice(LinkLost("the cable is out", next_step="plug it in"))
    with pytest.raises(LinkLost):
        laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline())
    _, outcome = laptop.entries()
    assert outcome.result is not None
    assert (outcome.result.status, outcome.result.reason) == ("unknown", "link_lost")


@each_kind
def test_without_an_intent_on_disk_there_is_no_change(laptop: Laptop, kind: type[Step]) -> None:
    gate = laptop.allowed()
    gate.note("start")
    with sqlite3.connect(laptop.database) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    database.close()
    device = ScriptedDevice()
    with pytest.raises(StorageFault) as refused:
        gate.perform(device, EXAMPLES[kind], laptop.deadline())
    assert device.envelopes == []
    assert refused.value.exit_code == 8
    assert [entry.act for entry in laptop.entries()] == ["start"]


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [("failed", "failed", DeviceCannot), ("reverted", "reverted", DeviceCannot), ("refused", "refused", DeviceCannot)],
)
def test_what_the_device_answers_is_the_outcome(
    laptop: Laptop, answer: StepState, status: str, error: type[FieldopsError]
) -> None:
    with pytest.raises(error) as raised:
        laptop.allowed().perform(ScriptedDevice(answer), EXAMPLES[Activate], laptop.deadline())
    outcome = next(entry for entry in laptop.entries() if entry.phase == "outcome")
    assert outcome.result is not None
    assert outcome.result.status == status
    assert raised.value.device == "cam-01"


@pytest.mark.parametrize(
    ("step", "allowed"),
    [
        (Revert(model="digits"), True),
        (Revert(model="digits", to="1.0.0"), False),
        (RotateTrust(timestamp_version=1), True),
        (EXAMPLES[Stage], False),
        (EXAMPLES[Activate], False),
        (EXAMPLES[Commit], False),
        (EXAMPLES[Bench], False),
        (EXAMPLES[Adopt], False),
        (EXAMPLES[Unenrol], False),
    ],
)
def test_a_person_without_a_role_may_still_go_back_to_last_good(laptop: Laptop, step: Step, allowed: bool) -> None:
    policy = PolicyDocument(v=1, roles={"lead": ["*"]}, people={})
    assert laptop.gate(policy).decide(step).allowed is allowed


def test_a_dry_run_is_recorded_and_sends_nothing(laptop: Laptop) -> None:
    device = ScriptedDevice()
    line = laptop.allowed().dry_run(device, EXAMPLES[Activate])
    assert line == "validate digits 1.1.0, then trial for 300 s"
    assert device.envelopes == []
    (note,) = laptop.entries()
    assert note.result is not None
    assert note.result.status == "dry_run"


class FullInventory:
    """An inventory that cannot be written."""

    def apply(self, grant: Grant, change: Change) -> None:
        raise StorageFault("fleet.toml: no space left", reason="full", next_step="make room")

    def read(self) -> Inventory:
        return Inventory()


def test_a_change_of_the_laptop_passes_the_same_gate(laptop: Laptop) -> None:
    gate = laptop.gate(NO_POLICY)
    with pytest.raises(StorageFault):
        gate.change(FullInventory(), AddDevice(table="", name="cam-02"))
    intent, outcome = laptop.entries()
    assert (intent.act, outcome.of) == ("AddDevice", intent.seq)
    assert outcome.result is not None
    assert outcome.result.status == "failed"

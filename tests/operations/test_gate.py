"""The one door, over every kind of step: what stands in the log when it goes well, is denied, loses the link, or cannot be written."""

from __future__ import annotations

import json
import sqlite3

import pytest

from fieldops.edges.keys import open_envelope
from fieldops.errors import Cancelled, DeviceCannot, FieldopsError, LinkLost, PolicyRefused, StorageFault, next_step_of
from fieldops.fleet import Inventory
from fieldops.operations.gate import Words
from fieldops.policy import NO_POLICY, PolicyDocument
from fieldops.ports import Grant
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
    KeepAgent,
    Prune,
    Recalibrate,
    Revert,
    RotateTrust,
    SetTiers,
    Stage,
    Step,
    Unenrol,
    Upgrade,
    describe,
)
from fieldops.tiers import TierSettings
from fieldops.wire import (
    StepRequest,
    StepState,
    decode,
)
from tests.operations.conftest import DEVICE_ID, Laptop, NearDevice

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
    Upgrade: Upgrade(channel="stable", agent="fieldops-agent-linux-x86_64-py3.11", version="1.1.0", kit_sha256="0" * 64),
    KeepAgent: KeepAgent(version="1.1.0"),
}

each_kind = pytest.mark.parametrize("kind", STEP_KINDS, ids=lambda kind: kind.__name__)


def test_there_is_an_example_of_every_kind() -> None:
    assert set(EXAMPLES) == set(STEP_KINDS)


@each_kind
def test_a_change_leaves_an_intent_and_its_outcome(laptop: Laptop, kind: type[Step]) -> None:
    device = NearDevice()
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
    device = NearDevice()
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
    device = NearDevice()
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
    device = NearDevice("reverted")
    device.act_alone("worker_crash")
    with pytest.raises(DeviceCannot):
        laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline())
    name = kind.__name__
    acts = ["device.worker_crash", "device.journal", name, name, "device.revert", "device.journal"]
    assert [entry.act for entry in laptop.entries()] == acts


@each_kind
def test_a_lost_link_is_unknown_never_failed(laptop: Laptop, kind: type[Step]) -> None:
    device = NearDevice(LinkLost("the cable is out", next_step="plug it in"))
    with pytest.raises(LinkLost):
        laptop.allowed().perform(device, EXAMPLES[kind], laptop.deadline())
    _, outcome = laptop.entries()
    assert outcome.result is not None
    assert (outcome.result.status, outcome.result.reason) == ("unknown", "link_lost")


@each_kind
def test_a_step_that_a_person_stops_says_what_it_was_and_what_is_left(laptop: Laptop, kind: type[Step]) -> None:
    with pytest.raises(Cancelled) as stopped:
        laptop.allowed().perform(NearDevice(Cancelled()), EXAMPLES[kind], laptop.deadline())
    assert describe(EXAMPLES[kind]) in stopped.value.message
    assert (stopped.value.device, stopped.value.exit_code) == ("cam-01", 130)
    assert next_step_of(stopped.value).startswith("see what it came to (`fieldops models cam-01`)")
    _, outcome = laptop.entries()
    assert outcome.result is not None
    assert outcome.result.status == "unknown"


@each_kind
def test_without_an_intent_on_disk_there_is_no_change(laptop: Laptop, kind: type[Step]) -> None:
    gate = laptop.allowed()
    gate.note("start")
    with sqlite3.connect(laptop.database) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    database.close()
    device = NearDevice()
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
        laptop.allowed().perform(NearDevice(answer), EXAMPLES[Activate], laptop.deadline())
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
    device = NearDevice()
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

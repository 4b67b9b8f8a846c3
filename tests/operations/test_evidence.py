"""What a device did alone reaches the log of the laptop that visits it, once."""

from __future__ import annotations

from fieldops.operations.evidence import collect, read_so_far
from tests.operations.conftest import DEVICE_ID, Laptop, NearDevice

PERSON = "person:SHA256:x"


def test_each_autonomous_act_is_copied_once_with_the_device_as_its_actor(laptop: Laptop) -> None:
    journal, deadline = laptop.journal, laptop.deadline()
    alone = f"device:{DEVICE_ID}"
    device = NearDevice(page=2)
    for actor, action in ((PERSON, "stage"), (alone, "revert"), (PERSON, "commit"), (alone, "recover")):
        device.act_alone(action, actor)

    assert collect(journal, device, PERSON, deadline) == 2
    assert collect(journal, device, PERSON, deadline) == 0
    device.act_alone("revert")
    assert collect(journal, device, PERSON, deadline) == 1

    entries = [entry for entry, _ in journal.read()]
    assert [(entry.act, entry.actor) for entry in entries] == [
        ("device.revert", alone),
        ("device.recover", alone),
        ("device.journal", PERSON),
        ("device.revert", alone),
        ("device.journal", PERSON),
    ]
    assert {(entry.phase, entry.device) for entry in entries} == {("note", DEVICE_ID)}
    assert entries[0].result is not None
    assert "1970-01-01 00:00:01Z by its clock" in entries[0].result.detail


def test_a_long_journal_of_other_peoples_acts_is_read_once(laptop: Laptop) -> None:
    journal, deadline = laptop.journal, laptop.deadline()
    device = NearDevice()
    for _ in range(502):
        device.act_alone("stage", PERSON)
    assert collect(journal, device, PERSON, deadline) == 0
    assert read_so_far(journal, DEVICE_ID) == 502
    assert [entry.act for entry, _ in journal.read()] == ["device.journal"]
    assert read_so_far(journal, "c" * 52) == 0

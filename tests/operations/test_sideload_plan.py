"""The steps that bring a verified version onto a device as it is now, and taking a device on; with real signed metadata."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fieldops.edges.inventory import FleetFile
from fieldops.edges.tuf_client import TrustStore
from fieldops.errors import DeviceCannot, TrustRefused, UsageFault
from fieldops.fleet import DeviceEntry, parse_ssh_address
from fieldops.operations import enrol, inventory, sideload
from fieldops.ports import TrustedBundle
from fieldops.steps import Activate, Adopt, Arm, Commit, Enrol, Revert, RotateTrust, Stage, Unenrol
from fieldops.wire import SlotStatus
from tests.operations.conftest import DEVICE_ID, Laptop, NearDevice, digits, held
from tests.trust.conftest import World
from tests.trust.conftest import built as built  # noqa: PLC0414 - the world is made from it

WHOLE = [RotateTrust, Stage, Activate, Commit]


@pytest.fixture(scope="module")
def verified(built: World) -> tuple[TrustStore, TrustedBundle]:
    """Read only: shared by all tests here."""
    laptop = built.laptop("operations")
    return laptop.store, laptop.fetch(built.stick.source)


@pytest.fixture
def trust(verified: tuple[TrustStore, TrustedBundle]) -> TrustStore:
    return verified[0]


@pytest.fixture
def bundle(verified: tuple[TrustStore, TrustedBundle]) -> TrustedBundle:
    return verified[1]


def kinds(plan: sideload.SideloadPlan) -> list[type]:
    return [type(each.step) for each in plan.steps]


def test_a_device_gets_the_rules_then_the_version_its_trial_and_its_end(
    laptop: Laptop, trust: TrustStore, bundle: TrustedBundle
) -> None:
    device = NearDevice("done", digits(active="1.0.0", last_good=None, versions=[held("1.0.0", "active")]))
    plan = sideload.plan(trust, device, bundle, laptop.deadline(), trial_s=60)
    assert (plan.from_version, plan.to_version, kinds(plan), plan.warnings) == ("1.0.0", "1.1.0", WHOLE, ())
    assert [each.payload is not None for each in plan.steps] == [True, True, False, False]
    sideload.run(laptop.allowed(), device, plan, laptop.deadline())
    assert device.slots["digits"].active == "1.1.0"
    watched = sideload.plan(trust, device, bundle, laptop.deadline(), commit=False)
    assert kinds(watched) == WHOLE[:-1]


def test_a_window_arms_the_device_in_place_of_a_trial(laptop: Laptop, trust: TrustStore, bundle: TrustedBundle) -> None:
    window = sideload.window_of("+8h", 1_000.0)
    plan = sideload.plan(trust, NearDevice("done", digits()), bundle, laptop.deadline(), window=window)
    assert kinds(plan) == [RotateTrust, Stage, Arm]


def test_a_version_that_answers_already_needs_nothing(laptop: Laptop, trust: TrustStore, bundle: TrustedBundle) -> None:
    there = msgspec.structs.replace(held("1.1.0", "active"), manifest_sha256=bundle.manifest_sha256)
    same = digits(versions=[there])
    plan = sideload.plan(trust, NearDevice("done", same), bundle, laptop.deadline())
    assert plan.steps == ()


@pytest.mark.parametrize("state", ["trial", "validating"])
def test_a_device_in_the_middle_of_a_change_is_left_alone(
    laptop: Laptop, trust: TrustStore, bundle: TrustedBundle, state: str
) -> None:
    device = NearDevice("done", digits(state=state, candidate="1.2.0"))
    with pytest.raises(DeviceCannot) as busy:
        sideload.plan(trust, device, bundle, laptop.deadline())
    assert (busy.value.reason, "rollback cam-01 digits" in busy.value.next_step) == ("busy", True)


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        ((), "new on this device"),
        ((digits(versions=[held("1.1.0", "active", signed_by="")]),), "is unsigned; it is kept as last-good"),
        ((digits(floor=9),), "below the floor"),
        ((digits(state="staging", candidate="1.1.0"),), "the copy of 1.1.0 that broke off is gone on with"),
        ((digits(state="staging", candidate="1.2.0"),), "the copy of 1.2.0 that broke off is given up"),
        ((digits(versions=[held("2.0.0", "active"), held("1.1.0", "quarantined")]),), "failed on this device before"),
    ],
)
def test_what_a_person_should_know_before_stands_in_the_plan(
    laptop: Laptop, trust: TrustStore, bundle: TrustedBundle, slots: tuple[SlotStatus, ...], words: str
) -> None:
    plan = sideload.plan(trust, NearDevice("done", *slots), bundle, laptop.deadline())
    assert any(words in warning for warning in plan.warnings), plan.warnings


def test_a_refused_stick_stands_in_the_record_with_its_reason(laptop: Laptop, trust: TrustStore, built: World) -> None:
    with pytest.raises(TrustRefused):
        sideload.fetch(laptop.allowed(), trust, built.stick.source, "digits@9.9.9", laptop.deadline())
    note = laptop.entries()[-1]
    assert note.result is not None
    assert (note.act, note.result.status, bool(note.result.reason)) == ("stick.verify", "refused", True)


def test_a_watched_trial_is_ended_through_the_gate(laptop: Laptop) -> None:
    device = NearDevice("done", digits(state="trial", candidate="1.2.0"))
    sideload.commit(laptop.allowed(), device, "digits", "1.2.0", laptop.deadline())
    assert device.slots["digits"].active == "1.2.0"


# --- taking a device on ---------------------------------------------------------------------------------------------------


class Plant:
    def __init__(self, folder: Path, laptop: Laptop, trust: TrustStore) -> None:
        self.laptop, self.trust = laptop, trust
        self.file = FleetFile(folder / "fleet.toml", folder / "known_hosts")
        self.pins: dict[str, str] = {}
        entry = DeviceEntry(name="cam-01", ssh=parse_ssh_address("tech@192.0.2.1"))
        inventory.add(laptop.allowed(), self.file, entry)

    def enrol(self, device: NearDevice) -> None:
        laptop = self.laptop
        enrol.enrol(
            laptop.allowed(), device, self.file, self.trust, "CERT", self.pins.__setitem__, laptop.deadline(), label="north"
        )


@pytest.fixture
def plant(tmp_path: Path, laptop: Laptop, trust: TrustStore) -> Plant:
    return Plant(tmp_path, laptop, trust)


def test_enrolling_gives_root_and_rules_and_binds_the_id_once(plant: Plant) -> None:
    device = NearDevice("done", digits())
    plant.enrol(device)
    assert [type(step) for step in device.done] == [Enrol, RotateTrust]
    assert plant.file.read().find("cam-01").id == DEVICE_ID
    plant.enrol(device)  # what broke off is simply run again
    assert [entry.act for entry in plant.laptop.entries() if entry.phase == "intent"].count("SetDeviceId") == 1


def test_without_a_root_there_is_nothing_a_device_could_pin(laptop: Laptop, tmp_path: Path) -> None:
    empty = TrustStore(tmp_path / "none", tmp_path / "cache", laptop.clock)
    with pytest.raises(UsageFault) as refused:
        enrol.plan(laptop.allowed(), empty, "CERT")
    assert (refused.value.reason, "policy pin" in refused.value.next_step) == ("no_root", True)


def test_a_foreign_model_is_adopted_and_where_there_is_none_that_is_said(laptop: Laptop) -> None:
    device = NearDevice("done", digits(active=enrol.FOREIGN))
    enrol.adopt(laptop.allowed(), device, laptop.deadline())
    assert device.done == [Adopt(model="digits")]
    with pytest.raises(DeviceCannot) as none:
        enrol.adopt(laptop.allowed(), NearDevice("done", digits()), laptop.deadline())
    assert none.value.reason == "nothing_to_adopt"


def test_letting_a_device_go_drops_its_pin(plant: Plant) -> None:
    device = NearDevice("done", digits())
    plant.enrol(device)
    dropped: list[str] = []
    laptop = plant.laptop
    enrol.unenrol(laptop.allowed(), device, plant.file, dropped.append, laptop.deadline())
    assert (dropped, type(device.done[-1])) == ([DEVICE_ID], Unenrol)


def test_a_revert_is_a_step_like_every_other(laptop: Laptop) -> None:
    device = NearDevice("done", digits())
    laptop.allowed().perform(device, Revert(model="digits"), laptop.deadline())
    assert device.slots["digits"].active == "1.0.0"

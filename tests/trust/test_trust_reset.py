"""What outlives a reset, and what a rotation takes back: roots once seen, and the time that keys now gone have claimed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from fieldops.agent.verify import answer
from fieldops.errors import StorageFault, TrustRefused, UsageFault

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
Stick = Any
Laptop = Any
DAY = 86_400.0


@dataclass
class Device:
    """An agent's folders and the two facts of its registry that matter here."""

    home: Path
    world: World
    clock_floor: float = 0.0
    root_version: int = 0

    def ask(self, op: str, **job: Any) -> dict[str, Any]:
        standing = {
            "op": op,
            "trust": str(self.home / "trust"),
            "now": int(self.world.clock.at),
            "clock_floor": self.clock_floor,
            "floor_root": self.root_version,
        }
        return answer(json.dumps(standing | job).encode())

    def pin(self, root: bytes) -> str:
        """The reason of a refusal, or ""."""
        found = self.ask("pin", root=root.decode())
        if found["ok"]:
            self.root_version = found["root_version"]
        return str(found.get("reason", ""))

    def visit(self, stick: Stick, *, power_cut: bool = False) -> str:
        """RotateTrust with the stick's metadata; the agent keeps the child's facts unless the power goes first."""
        incoming = self.home / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.copytree(stick.metadata, incoming / "metadata")
        found = self.ask("metadata", incoming=str(incoming))
        if found["ok"] and not power_cut:
            self.clock_floor, self.root_version = found["clock_floor"], found["root_version"]
        return str(found.get("reason", ""))


@pytest.fixture
def device(world: World) -> Device:
    made = Device(world.folder / "agent", world)
    assert not made.pin(world.release.root(1))
    return made


def rotated(world: World, role: str = "timestamp", name: str = "rotated") -> Stick:
    """A stick after `release rotate`, as docs/release-guide.md §8 says."""
    for each in world.release.rotate(role):
        world.release.sign(each)
    world.release.publish()
    return world.export(name)


def refresh(laptop: Laptop, stick: Stick) -> str:
    try:
        laptop.store.refresh(stick.source, laptop.deadline)
    except TrustRefused as error:
        return error.reason
    return ""


# --- roots already seen ------------------------------------------------------------------------------------------------


def test_a_laptop_whose_trust_folder_was_moved_away_does_not_go_back(world: World) -> None:
    laptop, stick = world.laptop(), rotated(world)
    assert refresh(laptop, stick) == ""
    shutil.rmtree(laptop.home / "trust")
    with pytest.raises(TrustRefused) as caught:
        laptop.store.pin(world.release.root(1), None)
    assert caught.value.reason == "rollback"
    assert "root 2" in caught.value.next_step
    assert laptop.store.facts().root_version == 0
    laptop.store.pin(world.release.root(2), None)
    assert refresh(laptop, stick) == ""


def test_a_device_whose_trust_folder_was_moved_away_does_not_go_back(device: Device, world: World) -> None:
    stick = rotated(world)
    assert device.visit(stick) == ""
    shutil.rmtree(device.home / "trust")
    assert device.pin(world.release.root(1)) == "rollback"
    assert device.visit(stick) == "missing"
    assert device.pin(world.release.root(2)) == ""
    assert device.visit(stick) == ""


def test_an_older_copy_of_the_trust_folder_counts_no_more(world: World) -> None:
    """The key that root 2 took away signs nothing here, although nothing in this folder knows of root 2."""
    laptop = world.laptop()
    shutil.copytree(laptop.home / "trust", world.folder / "copy")
    stick = rotated(world)
    assert refresh(laptop, stick) == ""
    shutil.rmtree(laptop.home / "trust")
    shutil.copytree(world.folder / "copy", laptop.home / "trust")
    assert refresh(laptop, world.stick) == "rollback"
    with pytest.raises(TrustRefused):
        laptop.store.advance(None, laptop.deadline)
    assert refresh(laptop, stick) == ""


def test_a_root_seen_on_a_refused_stick_counts_as_seen(world: World) -> None:
    laptop, stick = world.laptop(), rotated(world)
    stick.role("stable").unlink()
    assert refresh(laptop, stick) == "missing"
    shutil.rmtree(laptop.home / "trust")
    with pytest.raises(TrustRefused) as caught:
        laptop.store.pin(world.release.root(1), None)
    assert caught.value.reason == "rollback"


def test_another_root_of_the_same_version_is_not_the_one_seen(world: World, tmp_path: Path) -> None:
    laptop = world.laptop()
    shutil.rmtree(laptop.home / "trust")
    stranger = type(world.release).init(tmp_path / "r", tmp_path / "k", world.clock)
    with pytest.raises(TrustRefused) as caught:
        laptop.store.pin(stranger.root(), None)
    assert caught.value.reason == "rollback"
    laptop.store.pin(world.release.root(1), None)


def test_what_was_seen_is_written_again_after_a_cut_and_never_guessed(world: World) -> None:
    laptop, stick = world.laptop(), rotated(world)
    assert refresh(laptop, stick) == ""
    (seen,) = (laptop.home / "keys").iterdir()
    former = seen.read_bytes()
    seen.unlink()  # the power went between the roots and this file
    assert refresh(laptop, stick) == ""
    assert seen.read_bytes() == former
    seen.write_bytes(b"{")
    with pytest.raises(StorageFault) as caught:
        laptop.store.refresh(stick.source, laptop.deadline)
    assert caught.value.reason == "corrupt"


def test_no_message_tells_anybody_to_delete_what_was_seen(world: World, tmp_path: Path) -> None:
    laptop = world.laptop()
    stranger = type(world.release).init(tmp_path / "r", tmp_path / "k", world.clock)
    with pytest.raises(UsageFault) as caught:
        laptop.store.pin(stranger.root(), None)
    (laptop.home / "keys/trust-root.json").write_bytes(b"{")
    with pytest.raises(StorageFault) as damaged:
        laptop.store.refresh(world.stick.source, laptop.deadline)
    for words in (caught.value.next_step, damaged.value.next_step):
        assert not {"delete", "remove", "away"} & set(words.replace(",", " ").split())


# --- a timestamp from the future ---------------------------------------------------------------------------------------


def poisoned(world: World, days: float = 100) -> Stick:
    """The office's clock was wrong for one publication and one stick."""
    world.clock.at += days * DAY
    world.release.publish()
    stick = world.export("poisoned")
    world.clock.at -= days * DAY
    return stick


def test_a_floor_poisoned_by_the_offices_clock_is_cured_by_a_new_timestamp_key(device: Device, world: World) -> None:
    laptop, poison = world.laptop(), poisoned(world)
    assert refresh(laptop, poison) == ""
    assert device.visit(poison) == ""
    for floor in (laptop.store.facts().clock_floor, device.clock_floor):
        assert floor > world.clock.at + 99 * DAY

    # what is signed by the right clock has expired by the poisoned one
    honest = world.export("honest")
    assert (refresh(laptop, honest), device.visit(honest)) == ("expired", "expired")

    cured = rotated(world, name="cured")
    assert (refresh(laptop, cured), device.visit(cured)) == ("", "")
    for floor in (laptop.store.facts().clock_floor, device.clock_floor):
        assert floor == pytest.approx(world.clock.at, abs=60)
    assert not laptop.store.facts().clock_behind
    assert laptop.fetch(cured.source).manifest.version == "1.1.0"
    # and the poison is none any more
    assert refresh(laptop, poison) == "unsigned"
    assert device.visit(poison) == "unsigned"
    assert laptop.store.facts().clock_floor == pytest.approx(world.clock.at, abs=60)


def test_the_cure_survives_a_power_cut_before_the_registry_knows(device: Device, world: World) -> None:
    assert device.visit(poisoned(world)) == ""
    cured = rotated(world)
    assert device.visit(cured, power_cut=True) == ""
    assert device.clock_floor > world.clock.at + 99 * DAY
    assert device.visit(cured) == ""
    assert device.clock_floor == pytest.approx(world.clock.at, abs=60)


def test_the_cure_survives_a_power_cut_before_the_summary_is_written(world: World) -> None:
    laptop = world.laptop()
    assert refresh(laptop, poisoned(world)) == ""
    cured = rotated(world)
    shutil.copy(cured.metadata / "2.root.json", laptop.home / "trust/metadata")
    assert refresh(laptop, cured) == ""
    assert laptop.store.facts().clock_floor == pytest.approx(world.clock.at, abs=60)


def stolen_timestamp_key(world: World, stick: Stick) -> None:
    """Whoever holds it signs an older time; versions never go back."""
    timestamp = Metadata[Any].from_file(str(stick.role("timestamp")))
    timestamp.signed.version = int(world.clock.at)
    timestamp.sign(stick.signers("timestamp-1")[0])
    timestamp.to_file(str(stick.role("timestamp")))


def _next_root(stick: Stick, change: Callable[[Root], None], signers: list[CryptoSigner]) -> None:
    metadata = Metadata[Root].from_file(str(stick.role("root")))
    metadata.signed.version += 1
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    metadata.to_file(str(stick.metadata / f"{metadata.signed.version}.root.json"))


def _give_away_timestamp(root: Root) -> None:
    (old,) = root.roles["timestamp"].keyids
    root.revoke_key(old, "timestamp")
    root.add_key(CryptoSigner(Ed25519PrivateKey.generate()).public_key, "timestamp")


def strangers_root(world: World, stick: Stick) -> None:
    _next_root(stick, _give_away_timestamp, [CryptoSigner(Ed25519PrivateKey.generate()) for _ in range(2)])


def one_root_key(world: World, stick: Stick) -> None:
    _next_root(stick, _give_away_timestamp, stick.signers("root-1"))


def all_online_keys(world: World, stick: Stick) -> None:
    _next_root(stick, _give_away_timestamp, stick.signers("timestamp-1", "snapshot-1", "targets-1"))


@pytest.mark.parametrize("attack", [stolen_timestamp_key, strangers_root, one_root_key, all_online_keys])
def test_without_the_root_keys_nobody_lowers_the_floor(attack: Any, device: Device, world: World) -> None:
    laptop, poison = world.laptop(), poisoned(world)
    assert (refresh(laptop, poison), device.visit(poison)) == ("", "")
    before = laptop.store.facts().clock_floor
    attack(world, world.stick)
    refresh(laptop, world.stick)
    device.visit(world.stick)
    facts = laptop.store.facts()
    assert (facts.clock_floor, facts.root_version) == (before, 1)
    assert (device.clock_floor, device.root_version) == (before, 1)


def test_a_new_root_that_leaves_the_timestamp_alone_lowers_nothing(device: Device, world: World) -> None:
    laptop, poison = world.laptop(), poisoned(world)
    assert (refresh(laptop, poison), device.visit(poison)) == ("", "")
    before = laptop.store.facts().clock_floor
    other = rotated(world, "snapshot")
    assert refresh(laptop, other) == device.visit(other) == "expired"
    assert laptop.store.facts().root_version == 2
    assert laptop.store.facts().clock_floor == device.clock_floor == before


def test_what_a_stores_receipt_proved_stays(world: World) -> None:
    laptop = world.laptop()
    assert refresh(laptop, poisoned(world)) == ""
    receipt = world.clock.at + 5 * DAY
    shelf = world.laptop("other")
    for each in (laptop, shelf):
        each.store.raise_floor(receipt)
    assert shelf.store.facts().clock_floor == receipt
    cured = rotated(world)
    for each in (laptop, shelf):
        assert refresh(each, cured) == ""
        assert each.store.facts().clock_floor == receipt


# --- a new root whose first stick was refused ------------------------------------------------------------------------------


def test_a_new_timestamp_key_counts_also_when_its_first_stick_was_refused(device: Device, world: World) -> None:
    laptop, poison = world.laptop(), poisoned(world)
    assert (refresh(laptop, poison), device.visit(poison)) == ("", "")
    cured = rotated(world)
    shutil.copytree(cured.root, world.folder / "torn")
    torn = type(cured)(world.folder / "torn", cured.keys)
    torn.role("snapshot").unlink()
    assert (refresh(laptop, torn), device.visit(torn)) == ("missing", "missing")
    assert laptop.store.facts().root_version == 2
    assert (refresh(laptop, cured), device.visit(cured)) == ("", "")
    assert laptop.store.facts().timestamp_version == pytest.approx(world.clock.at, abs=60)


def test_a_new_root_does_not_excuse_an_older_timestamp_of_the_same_key(world: World) -> None:
    laptop = world.laptop()
    assert refresh(laptop, world.stick) == ""
    (laptop.home / "trust/metadata/timestamp.json").write_bytes(b"rot")
    _next_root(world.first, lambda root: None, world.first.signers("root-1", "root-2"))
    assert refresh(laptop, world.first) == "rollback"
    assert laptop.store.facts().root_version == 2

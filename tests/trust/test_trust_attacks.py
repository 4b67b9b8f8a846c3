"""Every way a stick can be wrong: one reason each, nothing under a final name, and what was trusted before stays trusted."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile

from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile
from fieldops.errors import TRUST_REASONS, TrustRefused
from fieldops.operations.gate import Gate
from fieldops.operations.sideload import fetch
from fieldops.policy import NO_POLICY

# tests are no package: conftest's names come through fixtures and these annotations
Stick = Any
World = Any

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs, and links need a privilege")


def flip(path: Path, at: int = 1000) -> None:
    data = bytearray(path.read_bytes())
    data[min(at, len(data) - 1)] ^= 1
    path.write_bytes(data)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def stranger() -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.generate())


def sign_name(name: str) -> Callable[[Stick], None]:
    """The channel's own signers sign a target of this name."""

    def attack(stick: Stick) -> None:
        def change(signed: Any) -> None:
            signed.targets[name] = TargetFile.from_data(name, b"x", ["sha256"])

        stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))

    return attack


def sign_stable(*names: str) -> Callable[[Stick], None]:
    return lambda stick: stick.rewrite("stable", lambda _: None, stick.signers(*names))


def sign_manifest(**changes: Any) -> Callable[[Stick], None]:
    """The channel's own signers sign a manifest that disagrees with the rest."""

    def attack(stick: Stick) -> None:
        path = stick.payload("manifest.json")
        text = msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes)
        replace_manifest(stick, text)

    return attack


def replace_manifest(stick: Stick, text: bytes) -> None:
    name = "stable/digits/1.1.0/manifest.json"
    info = TargetFile.from_data(name, text, ["sha256"])

    def change(signed: Any) -> None:
        info.unrecognized_fields = signed.targets[name].unrecognized_fields
        signed.targets[name] = info

    stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))
    (stick.payload("core.onnx").parent / f"{info.hashes['sha256']}.manifest.json").write_bytes(text)


def swap(stick: Stick) -> None:
    core, large = stick.payload("core.onnx"), stick.payload("large.onnx")
    data = core.read_bytes()
    core.write_bytes(large.read_bytes())
    large.write_bytes(data)


def link_payload(stick: Stick) -> None:
    """A link to the right bytes is refused as well: it could point elsewhere at the second read."""
    path = stick.payload("core.onnx")
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside)


def link_folder(stick: Stick) -> None:
    folder = stick.root / "targets" / "stable"
    outside = stick.root.parent / "outside"
    shutil.move(folder, outside)
    folder.symlink_to(outside)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def same_signature_twice(stick: Stick) -> None:
    sign_stable("stable-1")(stick)
    path = stick.role("stable")
    document = msgspec.json.decode(path.read_bytes())
    document["signatures"] *= 2
    path.write_bytes(msgspec.json.encode(document))
    stick.seal()


def old_under_new_name(role: str) -> Callable[[Stick], None]:
    def attack(stick: Stick) -> None:
        newest = stick.role(role)
        shutil.copy(stick.root.parent.parent / "first" / "FIELDOPS" / "metadata" / f"2.{role}.json", newest)

    return attack


def older_snapshot_in_newer_timestamp(stick: Stick) -> None:
    first = stick.root.parent.parent / "first" / "FIELDOPS" / "metadata" / "1.snapshot.json"
    repo = stick.root.parent.parent / "repo" / "metadata" / "1.snapshot.json"
    stick.point_at((first if first.exists() else repo).read_bytes(), 1)


def forget_channel(stick: Stick) -> None:
    def change(snapshot: Any) -> None:
        del snapshot.meta["stable.json"]

    stick.seal(change)


def root_by_one(stick: Stick) -> None:
    root = Metadata[Any].from_file(str(stick.metadata / "1.root.json"))
    root.signed.version = 2
    root.signatures.clear()
    root.sign(stick.signers("root-1")[0])
    root.to_file(str(stick.metadata / "2.root.json"))


LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def expired(role: str, *signers: str) -> Callable[[Stick], None]:
    """Those who may sign it say that it is over; all else agrees with it."""

    def attack(stick: Stick) -> None:
        stick.rewrite(role, lambda signed: setattr(signed, "expires", LONG_AGO), stick.signers(*signers))

    return attack


def expired_timestamp(stick: Stick) -> None:
    newest = stick.role("snapshot")
    number = int(newest.name.partition(".")[0])
    stick.point_at(newest.read_bytes(), number, lambda signed: setattr(signed, "expires", LONG_AGO))


def expired_snapshot(stick: Stick) -> None:
    stick.seal(lambda signed: setattr(signed, "expires", LONG_AGO))


def expired_root(stick: Stick) -> None:
    root = Metadata[Any].from_file(str(stick.role("root")))
    root.signed.version += 1
    root.signed.expires = LONG_AGO
    root.signatures.clear()
    for signer in stick.signers("root-1", "root-2"):
        root.sign(signer, append=True)
    root.to_file(str(stick.metadata / f"{root.signed.version}.root.json"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def swap_roles(stick: Stick) -> None:
    """Both authentic, each under the other's name."""
    one, two = stick.role("stable"), stick.role("policy")
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def pad_timestamp(stick: Stick) -> None:
    path = stick.role("timestamp")
    path.write_bytes(path.read_bytes() + b" " * (17 << 10))


def foreign_path(stick: Stick) -> None:
    """The canary key signs a version under stable's paths, and stable no longer lists it."""
    listed = {name: info for name, info in stick.targets("stable").targets.items() if "/1.1.0/" in name}
    stick.rewrite("canary", lambda signed: signed.targets.update(listed), stick.signers("canary-1"))

    def forget(signed: Any) -> None:
        for name in listed:
            del signed.targets[name]

    stick.rewrite("stable", forget, stick.signers("stable-1", "stable-2"))


def withdraw(stick: Stick) -> None:
    def change(signed: Any) -> None:
        signed.targets["stable/digits/1.1.0/manifest.json"].unrecognized_fields["custom"]["withdrawn"] = True

    stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))


def device_instead(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def sign_and_drop(role: str, *signers: str) -> Callable[[Stick], None]:
    """A newer one is announced and not there."""

    def attack(stick: Stick) -> None:
        stick.rewrite(role, lambda _: None, stick.signers(*signers))
        stick.role(role).unlink()

    return attack


def new_policy_file(data: bytes | None) -> Callable[[Stick], None]:
    """The policy's signers sign one more file; what lies there is something else, or nothing."""

    def attack(stick: Stick) -> None:
        info = TargetFile.from_data("policy/runbooks/more/runbook.yaml", b"id: more\n", ["sha256"])
        stick.rewrite("policy", lambda signed: signed.targets.update({info.path: info}), stick.signers("policy-1", "policy-2"))
        if data is not None:
            path = stick.root / f"targets/policy/runbooks/more/{info.hashes['sha256']}.runbook.yaml"
            path.parent.mkdir()
            path.write_bytes(data)

    return attack


# refused before anything of it is believed: the trust folder stays as it was
METADATA: list[tuple[str, Callable[[Stick], object], str]] = [
    ("folder in place of the timestamp", lambda stick: folder_instead(stick.role("timestamp")), "not_regular_file"),
    ("timestamp missing", lambda stick: stick.role("timestamp").unlink(), "missing"),
    ("snapshot missing", lambda stick: stick.role("snapshot").unlink(), "missing"),
    ("channel missing", lambda stick: stick.role("stable").unlink(), "missing"),
    ("another channel missing", sign_and_drop("canary", "canary-1"), "missing"),
    ("top role missing", sign_and_drop("targets", "targets-1"), "missing"),
    ("policy missing", sign_and_drop("policy", "policy-1", "policy-2"), "missing"),
    ("timestamp expired", expired_timestamp, "expired"),
    ("snapshot expired", expired_snapshot, "expired"),
    ("top role expired", expired("targets", "targets-1"), "expired"),
    ("policy expired", expired("policy", "policy-1", "policy-2"), "expired"),
    ("timestamp cut off", lambda stick: cut(stick.role("timestamp")), "malformed"),
    ("timestamp empty", lambda stick: os.truncate(stick.role("timestamp"), 0), "malformed"),
    ("channel cut off", lambda stick: cut(stick.role("stable")), "hash_mismatch"),
    ("two roles swapped", swap_roles, "mix_and_match"),
    ("channel signed by a stranger", lambda stick: stick.rewrite("stable", lambda _: None, [stranger(), stranger()]), "unsigned"),
    ("channel signed by nobody", lambda stick: stick.rewrite("stable", lambda _: None, []), "unsigned"),
    ("channel signed by another channel's keys", sign_stable("policy-1", "policy-2"), "unsigned"),
    ("channel signed by one of two", sign_stable("stable-1"), "threshold"),
    ("channel signed by the same key twice", same_signature_twice, "threshold"),
    ("root signed by one of two", root_by_one, "threshold"),
    ("timestamp flipped", lambda stick: flip(stick.role("timestamp"), -1), "malformed"),
    ("snapshot flipped", lambda stick: flip(stick.role("snapshot"), 300), "hash_mismatch"),
    ("channel flipped", lambda stick: flip(stick.role("stable"), 300), "hash_mismatch"),
    ("the older channel under the new name", old_under_new_name("stable"), "mix_and_match"),
    ("the older snapshot under the new name", old_under_new_name("snapshot"), "mix_and_match"),
    ("a newer timestamp names an older snapshot", older_snapshot_in_newer_timestamp, "rollback"),
    ("a newer snapshot forgets a channel", forget_channel, "rollback"),
    ("name with ..", sign_name("stable/../../x"), "bad_name"),
    ("name with .. as version", sign_name("stable/digits/../x"), "bad_name"),
    ("name in capitals", sign_name("stable/digits/1.1.0/Core"), "bad_name"),
    ("name with a right-to-left mark", sign_name("stable/digits/1.1.0/x\u202egnp"), "bad_name"),
    ("name with backslashes", sign_name("stable/digits/1.1.0/..\\..\\x"), "bad_name"),
    ("absolute name", sign_name("/etc/digits/passwd"), "bad_name"),
    ("name of five parts", sign_name("stable/digits/1.1.0/a/b"), "bad_name"),
    ("hidden name", sign_name("stable/digits/1.1.0/.core"), "bad_name"),
    ("timestamp of 400 kB of [", lambda stick: stick.role("timestamp").write_bytes(b"[" * 400_000), "oversized"),
    ("next root of 400 kB of [", lambda stick: (stick.metadata / "2.root.json").write_bytes(b"[" * 400_000), "malformed"),
    ("next root of 600 kB", lambda stick: (stick.metadata / "2.root.json").write_bytes(b" " * 600_000), "oversized"),
    ("timestamp of garbage", lambda stick: stick.role("timestamp").write_bytes(b"\xff\x00" * 50), "malformed"),
    ("timestamp is a root", lambda stick: shutil.copy(stick.metadata / "1.root.json", stick.role("timestamp")), "malformed"),
    ("timestamp padded", pad_timestamp, "oversized"),
    ("channel longer than signed", lambda stick: grow(stick.role("stable")), "too_long"),
    ("policy file is another", new_policy_file(b"id: evil\n"), "hash_mismatch"),
    ("policy file of the new policy missing", new_policy_file(None), "missing"),
]
# the metadata is authentic, the bundle is not: newer metadata is kept, nothing of the bundle is
BUNDLE: list[tuple[str, Callable[[Stick], object], str]] = [
    ("one bit of a payload flipped", lambda stick: flip(stick.payload("core.onnx")), "hash_mismatch"),
    ("the last bit of a payload flipped", lambda stick: flip(stick.payload("large.onnx"), 1 << 30), "hash_mismatch"),
    ("payload cut off", lambda stick: os.truncate(stick.payload("core.onnx"), 70_000), "hash_mismatch"),
    ("payload empty", lambda stick: os.truncate(stick.payload("core.onnx"), 0), "hash_mismatch"),
    ("payload grown", lambda stick: grow(stick.payload("core.onnx")), "too_long"),
    ("payload missing", lambda stick: stick.payload("core.onnx").unlink(), "missing"),
    ("two signed payloads swapped", swap, "hash_mismatch"),
    ("manifest flipped", lambda stick: flip(stick.payload("manifest.json"), 100), "hash_mismatch"),
    ("folder in place of a payload", lambda stick: folder_instead(stick.payload("core.onnx")), "not_regular_file"),
    ("manifest of another version", sign_manifest(version="1.2.0"), "mix_and_match"),
    ("manifest with another counter", sign_manifest(counter=9), "mix_and_match"),
    ("manifest lists other files", sign_manifest(files=[]), "mix_and_match"),
    ("manifest with an unknown field", sign_manifest(surprise=1), "malformed"),
    ("manifest with a key twice", lambda stick: replace_manifest(stick, b'{"v": 1, "v": 1}'), "malformed"),
    ("manifest of 400 kB of [", lambda stick: replace_manifest(stick, b"[" * 400_000), "oversized"),
    ("manifest deeply nested", lambda stick: replace_manifest(stick, b"[" * 200_000), "malformed"),
    ("version withdrawn", withdraw, "withdrawn"),
    ("a foreign channel speaks for stable", foreign_path, "unknown_target"),
]
LINKS: list[tuple[str, Callable[[Stick], object], str]] = [
    ("payload is a link", link_payload, "not_regular_file"),
    ("payload's folder leads out of the stick", link_folder, "not_regular_file"),
    ("payload is a FIFO", lambda stick: pipe(stick.payload("core.onnx")), "not_regular_file"),
    ("timestamp is a FIFO", lambda stick: pipe(stick.role("timestamp")), "not_regular_file"),
    (
        "next root is a link to an endless file",
        lambda stick: (stick.metadata / "2.root.json").symlink_to("/dev/zero"),
        "not_regular_file",
    ),
    ("payload is a device", lambda stick: device_instead(stick.payload("core.onnx")), "not_regular_file"),
]


def ids(table: list[tuple[str, Callable[[Stick], object], str]]) -> list[str]:
    return [row[0] for row in table]


def through_the_gate(laptop: Any, source: Any, folder: Path) -> Any:
    """As the verbs fetch: what is refused stands in the log of this laptop."""
    signer = Ed25519Signer.load_or_create(folder / "laptop.key")
    journal = SqliteJournal.open(folder / "audit.db", lambda: signer, laptop.clock)
    try:
        gate = Gate(journal, signer, PersonFile(None, signer.laptop, folder / "session"), NO_POLICY, laptop.clock)
        return fetch(gate, laptop.store, source, "digits@1.1.0", laptop.deadline)
    finally:
        journal.close()


def noted(folder: Path) -> tuple[str, int, str]:
    journal = SqliteJournal.open(folder / "audit.db", lambda: pytest.fail("reading needs no key"), SystemClock())
    try:
        entry = journal.read()[-1][0]
    finally:
        journal.close()
    assert (entry.phase, entry.act, entry.subject and entry.subject.to) == ("note", "stick.verify", "1.1.0")
    assert entry.result is not None
    return entry.result.status, entry.result.code, entry.result.reason


def refused(world: World, attack: Callable[[Stick], object], reason: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files of the laptop before and after."""
    laptop = world.laptop()
    before = laptop.files()
    attack(world.stick)
    with pytest.raises(TrustRefused) as caught:
        through_the_gate(laptop, world.stick.source, world.folder / "log")
    assert (caught.value.reason, caught.value.exit_code) == (reason, 3), str(caught.value)
    assert caught.value.next_step
    assert noted(world.folder / "log") == ("refused", 3, reason)
    after = laptop.files()
    assert laptop.store.policy().roles == {"technician": ["*"]}
    # what was trusted before is trusted still, from this laptop's own copy
    assert laptop.fetch(world.first.source, "digits@1.0.0").manifest.version == "1.0.0"
    return before, after


def nothing_unverified(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """No new bundle, no half copy, and every blob is what its name says."""
    assert [name for name in after if "bundles" in name] == [name for name in before if "bundles" in name]
    for name, data in after.items():
        if name.startswith("cache/sha256/"):
            assert hashlib.sha256(data).hexdigest() == Path(name).name


@pytest.mark.parametrize(("name", "attack", "reason"), METADATA, ids=ids(METADATA))
def test_bad_metadata_is_refused_and_changes_nothing(
    name: str, attack: Callable[[Stick], object], reason: str, world: World
) -> None:
    before, after = refused(world, attack, reason)
    assert after == before


@pytest.mark.parametrize(("name", "attack", "reason"), BUNDLE, ids=ids(BUNDLE))
def test_a_bad_bundle_is_refused_and_nothing_of_it_stays(
    name: str, attack: Callable[[Stick], object], reason: str, world: World
) -> None:
    nothing_unverified(*refused(world, attack, reason))


@needs_posix
@pytest.mark.parametrize(("name", "attack", "reason"), LINKS, ids=ids(LINKS))
def test_what_is_no_file_is_refused_without_waiting(
    name: str, attack: Callable[[Stick], object], reason: str, world: World
) -> None:
    nothing_unverified(*refused(world, attack, reason))


@pytest.mark.parametrize("attack", [expired("stable", "stable-1", "stable-2"), expired_root], ids=["channel", "root"])
def test_what_its_own_signers_let_expire_is_refused_and_is_known_from_then_on(
    attack: Callable[[Stick], None], world: World
) -> None:
    """Authentic, so it counts: an older stick does not bring back what they ended."""
    laptop = world.laptop()
    attack(world.stick)
    for source, ref in ((world.stick.source, "digits@1.1.0"), (world.first.source, "digits@1.0.0")):
        with pytest.raises(TrustRefused) as caught:
            laptop.fetch(source, ref)
        assert (caught.value.reason, caught.value.exit_code) == ("expired", 3)


def test_every_reason_that_a_stick_can_cause_is_in_the_tables() -> None:
    shown = {reason for table in (METADATA, BUNDLE, LINKS) for _, _, reason in table}
    elsewhere = {"wrong_device", "below_floor", "io_error"}  # test_verify_child.py, test_sources.py
    assert shown | elsewhere == TRUST_REASONS

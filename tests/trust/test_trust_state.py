"""What a computer keeps of trust over time: the first root, rotations, the clock floor, and what a power cut leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient.updater import Updater

from fieldops.deadline import Deadline
from fieldops.edges.locks import exclusive
from fieldops.errors import StorageFault, TrustRefused, UsageFault
from fieldops.policy import NO_POLICY

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
Stick = Any
Laptop = Any
DAY = 86_400.0


def refused(laptop: Laptop, stick: Stick, ref: str = "digits@1.1.0") -> str:
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, ref)
    return caught.value.reason


def rotate_root(stick: Stick, change: Any, *names: str) -> None:
    """The next root, signed by the keys named."""
    metadata = Metadata[Root].from_file(str(stick.role("root")))
    metadata.signed.version += 1
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in stick.signers(*names):
        metadata.sign(signer, append=True)
    metadata.to_file(str(stick.metadata / f"{metadata.signed.version}.root.json"))


def new_timestamp_key(stick: Stick) -> CryptoSigner:
    """Root 2 gives the timestamp to another key; the stick's timestamp is signed by it."""
    fresh = CryptoSigner(Ed25519PrivateKey.generate())

    def change(root: Root) -> None:
        (old,) = root.roles["timestamp"].keyids
        root.revoke_key(old, "timestamp")
        root.add_key(fresh.public_key, "timestamp")

    rotate_root(stick, change, "root-1", "root-2")
    sign_timestamp(stick, fresh)
    return fresh


def sign_timestamp(stick: Stick, signer: CryptoSigner, version: int | None = None) -> None:
    timestamp = Metadata[Any].from_file(str(stick.role("timestamp")))
    timestamp.signed.version = version or timestamp.signed.version + 1
    timestamp.sign(signer)
    timestamp.to_file(str(stick.role("timestamp")))


# --- the first root ----------------------------------------------------------------------------------------------------


def test_nothing_is_trusted_before_a_root_is_pinned(world: World) -> None:
    bare = type(world.laptop())(world.folder / "bare", world.clock)
    facts = bare.store.facts()
    assert (facts.root_version, facts.root_sha256, facts.timestamp_version, facts.expires) == (0, "", 0, None)
    assert bare.store.policy() == NO_POLICY
    assert list(bare.store.policy_targets()) == []
    assert not bare.home.exists()
    assert refused(bare, world.stick) == "missing"
    for call in (bare.store.root_text, bare.store.policy_payload):
        with pytest.raises(TrustRefused) as caught:
            call()
        assert caught.value.reason == "missing"


def test_a_pinned_root_is_known_at_once(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    facts = laptop.store.facts()
    assert (facts.root_version, facts.timestamp_version) == (1, 0)
    assert laptop.store.root_text().encode() == world.release.root()
    assert facts.expires == pytest.approx(world.clock.at + 365 * DAY)
    with pytest.raises(TrustRefused) as caught:
        laptop.store.advance(None, laptop.deadline)
    assert caught.value.reason == "missing"


def test_the_fingerprint_decides_which_root_is_pinned(world: World) -> None:
    laptop = world.laptop("other", knows_first=False)
    root = world.release.root()
    fingerprint = laptop.store.pin(root, None)
    fresh = type(laptop)(world.folder / "fresh", world.clock)
    with pytest.raises(TrustRefused) as caught:
        fresh.store.pin(root, "0" * 64)
    assert caught.value.reason == "hash_mismatch"
    assert not fresh.home.exists()
    assert fresh.store.pin(root, fingerprint.upper()) == fingerprint == fresh.store.facts().root_sha256


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda root: b"", "malformed"),
        (lambda root: b"{}", "malformed"),
        (lambda root: b"[" * 100_000, "malformed"),
        (lambda root: b" " * 600_000, "oversized"),
        (lambda root: root.replace(b'"version":1', b'"version":2').replace(b'"version": 1', b'"version": 2'), "unsigned"),
    ],
)
def test_a_first_root_that_is_not_intact_is_refused(harm: Any, reason: str, world: World) -> None:
    laptop = world.laptop(knows_first=False)
    fresh = type(laptop)(world.folder / "fresh", world.clock)
    with pytest.raises(TrustRefused) as caught:
        fresh.store.pin(harm(world.release.root()), None)
    assert caught.value.reason == reason


def test_a_first_root_with_too_few_signatures_is_refused(world: World) -> None:
    document = json.loads(world.release.root())
    document["signatures"] = document["signatures"][:1]
    laptop = world.laptop(knows_first=False)
    fresh = type(laptop)(world.folder / "fresh", world.clock)
    with pytest.raises(TrustRefused) as caught:
        fresh.store.pin(json.dumps(document).encode(), None)
    assert caught.value.reason == "threshold"


def test_other_signed_metadata_is_no_root(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    fresh = type(laptop)(world.folder / "fresh", world.clock)
    with pytest.raises(TrustRefused) as caught:
        fresh.store.pin(world.stick.role("timestamp").read_bytes(), None)
    assert caught.value.reason == "malformed"


def test_a_pinned_root_is_not_replaced(world: World, tmp_path: Path) -> None:
    laptop = world.laptop(knows_first=False)
    other = type(world.release).init(tmp_path / "r", tmp_path / "k", world.clock)
    with pytest.raises(UsageFault) as caught:
        laptop.store.pin(other.root(), None)
    assert caught.value.reason == "already_pinned"
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


# --- rotation ----------------------------------------------------------------------------------------------------------


def test_a_new_root_signed_by_the_old_one_is_taken(world: World) -> None:
    laptop = world.laptop()
    new_timestamp_key(world.stick)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert laptop.store.facts().root_version == 2
    assert sorted(name for name in laptop.store.policy_payload()[2].metadata() if "root" in name) == [
        "1.root.json",
        "2.root.json",
    ]


def test_a_revoked_key_stays_revoked_when_the_newer_root_is_withheld(world: World) -> None:
    laptop = world.laptop()
    old = world.stick.role("timestamp").read_bytes()
    new_timestamp_key(world.stick)
    laptop.fetch(world.stick.source)
    (world.stick.metadata / "2.root.json").unlink()
    world.stick.role("timestamp").write_bytes(old)
    sign_timestamp(world.stick, world.stick.signers("timestamp-1")[0], version=2_000_000_000)
    assert refused(laptop, world.stick) == "unsigned"


def test_a_verified_root_is_kept_even_when_the_rest_is_refused(world: World) -> None:
    laptop = world.laptop()
    new_timestamp_key(world.stick)
    world.stick.role("stable").unlink()
    assert refused(laptop, world.stick) == "missing"
    assert laptop.store.facts().root_version == 2
    # the key it revoked signs nothing any more, not even what was trusted before
    assert refused(laptop, world.first, "digits@1.0.0") == "unsigned"


def test_a_laptop_that_began_with_a_later_root_carries_the_earlier_ones(world: World) -> None:
    """For devices enrolled before; they check the chain themselves."""
    new_timestamp_key(world.stick)
    late = type(world.laptop())(world.folder / "late", world.clock)
    late.store.pin((world.stick.metadata / "2.root.json").read_bytes(), None)
    assert late.fetch(world.stick.source).manifest.version == "1.1.0"
    assert late.store.facts().root_version == 2
    payload = late.store.policy_payload()[2].metadata()
    assert {"1.root.json", "2.root.json"} < payload.keys()
    assert payload["1.root.json"] == world.release.root(1)


def test_an_earlier_root_that_is_none_is_not_carried(world: World) -> None:
    new_timestamp_key(world.stick)
    late = type(world.laptop())(world.folder / "late", world.clock)
    late.store.pin((world.stick.metadata / "2.root.json").read_bytes(), None)
    (world.stick.metadata / "1.root.json").write_bytes(b"{}")
    assert late.fetch(world.stick.source).manifest.version == "1.1.0"
    assert "1.root.json" not in late.store.policy_payload()[2].metadata()


def test_a_release_clock_that_was_wrong_once_is_mended_by_a_new_key(world: World) -> None:
    laptop = world.laptop()
    sign_timestamp(world.stick, world.stick.signers("timestamp-1")[0], version=4_000_000_000)
    laptop.fetch(world.stick.source)
    assert laptop.store.facts().timestamp_version == 4_000_000_000
    assert laptop.store.facts().clock_floor < laptop.store.facts().expires
    fresh = new_timestamp_key(world.stick)
    sign_timestamp(world.stick, fresh, version=int(world.clock.at) + 60)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert laptop.store.facts().timestamp_version == int(world.clock.at) + 60


# --- time --------------------------------------------------------------------------------------------------------------


def test_signed_metadata_raises_the_clock_floor(world: World) -> None:
    laptop = world.laptop()
    facts = laptop.store.refresh(world.stick.source, laptop.deadline)
    assert facts.clock_floor == facts.timestamp_version
    assert not facts.clock_behind
    world.clock.at -= 10 * DAY
    assert laptop.store.facts().clock_behind
    # a clock set back neither stops honest work nor makes an old stick young
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_a_clock_set_back_does_not_revive_what_expired(world: World) -> None:
    stick = world.export("short", days=1)
    laptop = world.laptop()
    laptop.store.refresh(stick.source, laptop.deadline)
    laptop.store.raise_floor(world.clock.at + 2 * DAY)
    world.clock.at -= DAY
    assert refused(laptop, stick) == "expired"
    laptop.store.raise_floor(0.0)
    assert refused(laptop, stick) == "expired"


def test_what_is_kept_here_expires_too(world: World) -> None:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    world.clock.at += 40 * DAY
    assert refused(laptop, world.stick) == "expired"
    with pytest.raises(TrustRefused) as caught:
        laptop.store.advance(None, laptop.deadline)
    assert caught.value.reason == "expired"


def test_expiry_is_judged_at_our_time_by_a_name_that_tuf_still_has(world: World, tmp_path: Path) -> None:
    """tuf offers no public way to set the time; this fails on the release of tuf that moves the private one."""

    class Nothing:
        pass

    updater = Updater(str(tmp_path), "metadata", fetcher=Nothing(), bootstrap=world.release.root())  # type: ignore[arg-type]
    assert updater._trusted_set.reference_time.tzinfo is not None


# --- disk --------------------------------------------------------------------------------------------------------------


def test_the_summary_is_rebuilt_from_the_metadata(world: World) -> None:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    facts = laptop.store.facts()
    (laptop.home / "trust/state.json").unlink()
    assert laptop.store.facts().root_version == facts.root_version
    laptop.store.advance(None, laptop.deadline)
    assert laptop.store.facts() == facts


def test_a_damaged_summary_is_said_to_be_damaged(world: World) -> None:
    laptop = world.laptop()
    (laptop.home / "trust/state.json").write_bytes(b'{"v": ')
    with pytest.raises(StorageFault) as caught:
        laptop.store.facts()
    assert caught.value.reason == "corrupt"
    (laptop.home / "trust/state.json").write_bytes(b'{"v": 99, "root_version": 1, "root_sha256": ""}')
    with pytest.raises(StorageFault) as newer:
        laptop.store.policy()
    assert newer.value.reason == "newer_schema"


def test_a_cut_between_new_files_and_the_timestamp_leaves_the_old_release(world: World) -> None:
    """Versioned files of the next release lie there, the timestamp does not name them yet."""
    laptop, ahead = world.laptop(), world.laptop("ahead")
    facts = laptop.store.facts()
    ahead.fetch(world.stick.source)
    for path in (ahead.home / "trust/metadata").iterdir():
        if path.name != "timestamp.json":
            shutil.copy(path, laptop.home / "trust/metadata")
    (laptop.home / "trust/.verify-cut").mkdir()
    verified, _ = laptop.store.advance(None, laptop.deadline)
    assert (verified.timestamp_version, laptop.store.facts()) == (facts.timestamp_version, facts)
    assert not list((laptop.home / "trust").glob(".verify-*"))
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_a_cut_between_the_timestamp_and_the_summary_leaves_the_new_release(world: World) -> None:
    laptop, ahead = world.laptop(), world.laptop("ahead")
    ahead.fetch(world.stick.source)
    for path in (ahead.home / "trust/metadata").iterdir():
        shutil.copy(path, laptop.home / "trust/metadata")
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert laptop.store.facts() == ahead.store.facts()


def test_own_metadata_damaged_on_disk_is_brought_again(world: World) -> None:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    for name in ("timestamp.json", *(path.name for path in (laptop.home / "trust/metadata").glob("*.snapshot.json"))):
        (laptop.home / "trust/metadata" / name).write_bytes(b"rot")
    with pytest.raises(TrustRefused):
        laptop.store.advance(None, laptop.deadline)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert laptop.store.advance(None, laptop.deadline)[0].timestamp_version == laptop.store.facts().timestamp_version


def test_damage_does_not_open_the_way_for_an_older_release(world: World) -> None:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    (laptop.home / "trust/metadata/timestamp.json").write_bytes(b"rot")
    assert refused(laptop, world.first, "digits@1.0.0") == "rollback"


def test_a_policy_file_damaged_on_disk_is_not_believed(world: World) -> None:
    laptop = world.laptop()
    for path in (laptop.home / "cache/sha256").iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    for call in (laptop.store.policy, lambda: laptop.store.policy_target("policy/runbooks/greet/runbook.yaml")):
        with pytest.raises(TrustRefused) as caught:
            call()
        assert caught.value.reason == "hash_mismatch"
    laptop.store.refresh(world.stick.source, laptop.deadline)
    assert laptop.store.policy_target("policy/runbooks/greet/runbook.yaml") == b"id: greet\n"


def test_policy_targets_are_those_of_the_policy_only(world: World) -> None:
    laptop = world.laptop()
    assert list(laptop.store.policy_targets()) == ["policy/rules/current/policy.json", "policy/runbooks/greet/runbook.yaml"]
    with pytest.raises(TrustRefused) as caught:
        laptop.store.policy_target("stable/digits/1.0.0/core.onnx")
    assert caught.value.reason == "unknown_target"
    version, sha256, payload = laptop.store.policy_payload()
    assert version == laptop.store.facts().timestamp_version
    with payload.open(sha256) as copy:
        assert json.load(copy)["roles"] == {"technician": ["*"]}


def test_a_second_process_waits_for_its_turn_and_then_says_who_holds_it(world: World) -> None:
    laptop = world.laptop()
    short = Deadline.after(0.05, laptop.clock.monotonic)
    with exclusive(laptop.home / "trust/.lock", "the trust state"), pytest.raises(StorageFault) as caught:
        laptop.store.refresh(world.stick.source, short)
    assert caught.value.reason == "in_use"
    assert laptop.store.refresh(world.stick.source, laptop.deadline).root_version == 1


def test_reading_what_is_trusted_loads_no_tuf(world: World) -> None:
    laptop = world.laptop()
    script = (
        "import sys; from pathlib import Path; from fieldops.edges.clock import SystemClock\n"
        "from fieldops.edges.tuf_client import TrustStore\n"
        f"store = TrustStore(Path({str(laptop.home / 'trust')!r}), Path({str(laptop.home / 'cache')!r}), SystemClock())\n"
        "store.facts(); store.policy(); store.policy_targets(); store.root_text(); store.policy_payload()[2].metadata()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'tuf', 'securesystemslib', 'cryptography', 'numpy', 'httpx'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "[]\n"


def test_a_stores_receipt_raises_the_floor_but_not_by_years(world: World) -> None:
    laptop = world.laptop()
    before = laptop.store.facts().clock_floor
    laptop.store.raise_floor(world.clock.at + 40 * 86_400)
    assert laptop.store.facts().clock_floor == world.clock.at + 40 * 86_400
    assert laptop.store.facts().clock_behind
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.stick.source)
    assert caught.value.reason == "expired"
    for implausible in (world.clock.at + 4000 * 86_400, before):
        laptop.store.raise_floor(implausible)
        assert laptop.store.facts().clock_floor == world.clock.at + 40 * 86_400

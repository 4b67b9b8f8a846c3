"""The release team's side: keys, thresholds, versions that only grow, and sticks that any TUF client can read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root, Targets, Timestamp
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from fieldops.bundles.manifest import FileEntry, Manifest
from fieldops.edges.tuf_signer import PLAN, ReleaseRepo
from fieldops.errors import StorageFault, TrustRefused, UsageFault

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
AddVersion = Callable[..., Manifest]
DAY = 86_400.0


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.next_step
    return caught.value.reason


def test_every_role_has_keys_of_its_own_and_nobody_else_reads_them(world: World) -> None:
    paths = sorted((world.folder / "keys").iterdir())
    assert len(paths) == sum(plan.keys for plan in PLAN.values())
    keys = [load_pem_private_key(path.read_bytes(), None) for path in paths]
    assert all(isinstance(key, Ed25519PrivateKey) for key in keys)
    assert len({key.private_bytes_raw() for key in keys if isinstance(key, Ed25519PrivateKey)}) == len(paths)
    if os.name != "nt":
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_thresholds_are_those_of_the_plan(world: World) -> None:
    root = Metadata[Root].from_bytes(world.release.root()).signed
    assert root.consistent_snapshot
    assert {role: found.threshold for role, found in root.roles.items()} == {
        "root": 2,
        "targets": 1,
        "snapshot": 1,
        "timestamp": 1,
    }
    top = Metadata[Targets].from_file(str(world.stick.role("targets"))).signed
    assert top.delegations
    assert top.delegations.roles
    found = {name: (role.threshold, role.terminating, role.paths) for name, role in top.delegations.roles.items()}
    assert found == {
        "policy": (2, True, ["policy/*/*/*"]),
        "stable": (2, True, ["stable/*/*/*"]),
        "canary": (1, True, ["canary/*/*/*"]),
    }


def test_a_repository_is_not_made_over_another(world: World) -> None:
    assert refused(lambda: ReleaseRepo.init(world.folder / "repo", world.folder / "new", world.clock)) == "exists"
    assert not (world.folder / "new").exists()
    assert refused(lambda: ReleaseRepo(world.folder / "nothing", world.folder / "keys", world.clock)) == "no_repository"


def test_one_signature_of_two_is_not_published_and_the_second_completes_it(world: World) -> None:
    release: ReleaseRepo = world.release
    release.withdraw("digits@1.1.0", "stable")
    before = world.export("before").role("timestamp").read_bytes()
    assert release.sign("stable", ["stable-1"]) == 1
    assert refused(release.publish) == "threshold"
    published = release.repo / "metadata/timestamp.json"
    kept = published.read_bytes()
    assert release.sign("stable", ["stable-1"]) == 1  # the same signer again adds nothing
    assert refused(release.publish) == "threshold"
    assert published.read_bytes() == kept
    assert release.sign("stable", ["stable-2"]) == 2
    assert release.publish() > Metadata[Timestamp].from_bytes(before).signed.version


def test_a_change_after_signing_needs_signatures_anew(world: World, add_version: AddVersion, tmp_path: Path) -> None:
    add_version(world.release, tmp_path / "src", "1.2.0", 3)
    world.release.withdraw("digits@1.2.0", "stable")
    assert refused(world.release.publish) == "threshold"


def test_every_timestamp_is_higher_than_the_last_and_than_the_clock(world: World) -> None:
    versions = [world.release.publish() for _ in range(2)]
    stick = Metadata[Timestamp].from_file(str(world.export("one").role("timestamp"))).signed
    versions += [stick.version, world.release.publish()]
    assert versions == sorted(set(versions))
    world.clock.at += 5 * DAY
    assert world.release.publish() == int(world.clock.at)
    world.clock.at -= 90 * DAY
    assert world.release.publish() == int(world.clock.at + 90 * DAY) + 1


def test_a_released_version_never_changes(world: World, add_version: AddVersion, tmp_path: Path) -> None:
    assert refused(lambda: add_version(world.release, tmp_path / "src", "1.1.0", 7)) == "exists"
    add_version(world.release, tmp_path / "same", "1.1.0", 2)  # the same bytes again are no change


def test_only_what_the_manifest_names_is_released(world: World, add_version: AddVersion, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for junk in ("spec.json", "notes.txt", "._core.onnx", ".DS_Store"):
        (folder / junk).write_bytes(b"junk")
    made = add_version(world.release, folder, "1.2.0", 3)
    assert [entry.name for entry in made.files] == ["core.onnx", "large.onnx"]
    wrong = [FileEntry(name="core.onnx", sha256="0" * 64, size=1)]
    assert refused(lambda: add_version(world.release, folder, "1.3.0", 4, files=wrong)) == "bad_manifest"
    assert refused(lambda: add_version(world.release, folder, "1.3.0", 4, card="card.md")) == "no_file"


def test_names_that_no_device_would_take_are_not_signed(world: World, add_version: AddVersion, tmp_path: Path) -> None:
    for call in (
        lambda: world.release.add_policy_target("policy/../x/y", b""),
        lambda: world.release.add_policy_target("stable/digits/1.0.0/x", b""),
        lambda: add_version(world.release, tmp_path / "src", "../../x", 1),
        lambda: add_version(world.release, tmp_path / "src", "1.2.0", 1, model="Digits"),
    ):
        with pytest.raises(TrustRefused) as caught:
            call()
        assert caught.value.reason == "bad_name"


def test_what_expired_is_signed_again(world: World) -> None:
    assert world.release.resign_expired() == []
    world.clock.at += 8 * DAY
    assert world.release.resign_expired() == ["timestamp"]
    world.clock.at += 200 * DAY
    assert set(world.release.resign_expired()) == {"stable", "canary", "policy", "snapshot", "timestamp"}
    assert world.laptop("later", knows_first=False).fetch(world.export("fresh").source).manifest.version == "1.1.0"
    world.clock.at += 400 * DAY
    assert set(world.release.resign_expired()) == set(PLAN)
    laptop = world.laptop("old", knows_first=False)
    assert laptop.fetch(world.export("fresh").source).manifest.version == "1.1.0"
    assert laptop.store.facts().root_version == 2


def test_a_stick_lasts_as_long_as_said_but_no_longer_than_its_roles(world: World) -> None:
    def expires(stick: Any) -> float:
        return float(Metadata[Timestamp].from_file(str(stick.role("timestamp"))).signed.expires.timestamp())

    assert expires(world.export("short", days=3)) == world.clock.at + 3 * DAY
    assert expires(world.export("long", days=90)) == world.clock.at + 90 * DAY
    world.clock.at += 60 * DAY
    assert expires(world.export("capped", days=90)) == world.clock.at + (PLAN["snapshot"].days - 60) * DAY
    for days in (0, -1, 91):
        with pytest.raises(UsageFault):
            world.export("never", days=days)
    assert not (world.folder / "never").exists()


def test_an_export_repairs_a_stick_and_drops_metadata_of_before(world: World) -> None:
    stick = world.export("again")
    payload = stick.payload("core.onnx")
    payload.write_bytes(payload.read_bytes()[:-1] + b"x")
    world.release.withdraw("digits@1.0.0", "stable")
    world.release.sign("stable")
    world.release.publish()
    stick = world.export("again")
    assert len(list(stick.metadata.glob("*.snapshot.json"))) == 1
    laptop = world.laptop(knows_first=False)
    assert laptop.fetch(stick.source).manifest.version == "1.1.0"
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, "digits@1.0.0")
    assert caught.value.reason == "withdrawn"


def test_the_drafted_policy_is_what_a_release_is_judged_by(world: World) -> None:
    name = "policy/golden/digits/set.npz"
    assert refused(lambda: world.release.policy_target(name)) == "unknown_target"
    world.release.add_policy_target(name, b"draft")
    assert world.release.policy_target(name) == b"draft"


def test_a_damaged_repository_is_said_to_be_damaged(world: World) -> None:
    (world.release.repo / "metadata/timestamp.json").write_bytes(b"rot")
    with pytest.raises(StorageFault) as caught:
        world.export("none")
    assert caught.value.reason == "corrupt"


def test_keys_that_are_none_are_said_to_be_none(world: World) -> None:
    keys = world.folder / "keys"
    (keys / "stable-3.pem").write_bytes(b"no key")
    assert refused(lambda: world.release.sign("stable", ["stable-3"])) == "bad_key"
    assert refused(lambda: world.release.sign("stable", ["stable-4"])) == "no_key"
    assert refused(lambda: world.release.sign("timestamp")) == "usage"
    assert refused(lambda: world.release.sign("nobody")) == "unknown_role"


class _Folder(FetcherInterface):
    def __init__(self, root: Path) -> None:
        self.root = root

    def _fetch(self, url: str) -> Any:
        path = self.root / url
        if not path.exists():
            raise DownloadHTTPError("none", 404)
        return iter([path.read_bytes()])


def test_a_plain_tuf_client_reads_the_stick(world: World, tmp_path: Path) -> None:
    world.clock.at = time.time()  # a plain client judges by the real clock
    release = ReleaseRepo.init(tmp_path / "r", tmp_path / "k", world.clock)
    release.add_policy_target("policy/rules/current/policy.json", b"{}")
    release.sign("policy")
    release.publish()
    stick = release.export_stick(tmp_path / "stick")
    (tmp_path / "state").mkdir()
    updater = Updater(
        str(tmp_path / "state"), "metadata", str(tmp_path), "targets", fetcher=_Folder(stick), bootstrap=release.root()
    )
    info = updater.get_targetinfo("policy/rules/current/policy.json")
    assert info is not None
    assert Path(updater.download_target(info)).read_bytes() == b"{}"

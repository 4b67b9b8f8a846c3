"""The device's own decision, as the agent asks for it: one job on stdin, one result on stdout, exit status 0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fieldops.agent.verify import answer
from fieldops.errors import TRUST_REASONS, TrustRefused

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
NOW = 1_800_000_000.0


@dataclass
class Device:
    """An agent's folders, and what the laptop uploads into them."""

    home: Path
    world: World

    def ask(self, op: str, **job: Any) -> dict[str, Any]:
        standing = {
            "op": op,
            "trust": str(self.home / "trust"),
            "blobs": str(self.home / "models/sha256"),
            "now": int(self.world.clock.at),
            "clock_floor": 0,
            "device_class": "gateway",
            "machine": "x86_64",
            "floors": {},
        }
        return answer(json.dumps(standing | job).encode())

    def pin(self) -> None:
        assert self.ask("pin", root=self.world.release.root(1).decode())["ok"]

    def upload_metadata(self, files: dict[str, bytes], folder: str = "incoming/step/metadata") -> str:
        place = self.home / folder
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, data in files.items():
            (place / name).write_bytes(data)
        return str(place.parent if place.name == "metadata" else place)

    def upload_blobs(self, bundle: Any, targets: list[dict[str, Any]]) -> None:
        blobs = self.home / "models/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for target in targets:
            with bundle.payload.open(target["sha256"]) as copy:
                (blobs / target["sha256"]).write_bytes(copy.read())

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.home).as_posix(): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }


def want(bundle: Any) -> dict[str, str]:
    return {
        "channel": bundle.channel,
        "model": bundle.manifest.model,
        "version": bundle.manifest.version,
        "manifest_sha256": bundle.manifest_sha256,
    }


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    made = Device(tmp_path / "agent", world)
    (made.home / "models/sha256").mkdir(parents=True)
    made.pin()
    return made


@pytest.fixture
def bundle(world: World) -> Any:
    return world.laptop().fetch(world.stick.source)


@pytest.mark.parametrize("folder", ["incoming/step/metadata", "incoming/step"])
def test_metadata_then_payload_then_policy(folder: str, device: Device, bundle: Any, world: World) -> None:
    incoming = device.upload_metadata(bundle.payload.metadata(), folder)
    found = device.ask("metadata", incoming=incoming, want=want(bundle))
    assert found["ok"], found
    assert found["root_version"] == 1
    assert (
        found["timestamp_version"]
        == world.laptop("other").store.refresh(world.stick.source, world.laptop("other").deadline).timestamp_version
    )
    names = {target["name"] for target in found["targets"]}
    assert {"stable/digits/1.1.0/core.onnx", "stable/digits/1.1.0/manifest.json", "policy/rules/current/policy.json"} < names
    assert not [name for name in names if "/1.0.0/" in name]

    device.upload_blobs(bundle, found["targets"])
    judged = device.ask("bundle", want=want(bundle))
    assert judged["ok"], judged
    assert judged["manifest"].encode() == (bundle.folder / "manifest.json").read_bytes()
    assert {target["name"] for target in judged["targets"]} == {name for name in names if name.startswith("stable/")}

    policy = device.ask("policy")
    assert policy["ok"], policy
    written = device.home / "trust/targets/policy/rules/current/policy.json"
    assert json.loads(written.read_bytes())["roles"] == {"technician": ["*"]}
    again = device.ask("policy")
    assert again == policy


def test_policy_files_that_are_in_place_need_no_second_upload(device: Device, bundle: Any) -> None:
    found = device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()))
    device.upload_blobs(bundle, found["targets"])
    assert device.ask("policy")["ok"]
    shutil.rmtree(device.home / "models/sha256")
    (device.home / "models/sha256").mkdir()
    assert device.ask("policy")["ok"]
    rules = device.home / "trust/targets/policy/rules/current/policy.json"
    rules.write_bytes(rules.read_bytes() + b" ")
    assert device.ask("policy")["reason"] == "too_long"


def test_what_the_policy_signs_no_more_is_removed(device: Device, world: World) -> None:
    first = world.laptop().fetch(world.stick.source)
    found = device.ask("metadata", incoming=device.upload_metadata(first.payload.metadata()))
    device.upload_blobs(first, found["targets"])
    assert device.ask("policy")["ok"]
    assert (device.home / "trust/targets/policy/runbooks/greet/runbook.yaml").exists()

    def drop(signed: Any) -> None:
        del signed.targets["policy/runbooks/greet/runbook.yaml"]

    world.stick.rewrite("policy", drop, world.stick.signers("policy-1", "policy-2"))
    later = world.laptop("later").fetch(world.stick.source)
    assert device.ask("metadata", incoming=device.upload_metadata(later.payload.metadata()))["ok"]
    assert device.ask("policy")["ok"]
    assert not (device.home / "trust/targets/policy/runbooks").exists()
    assert (device.home / "trust/targets/policy/rules/current/policy.json").exists()


def test_signed_rules_that_make_no_sense_replace_nothing(device: Device, world: World) -> None:
    first = world.laptop().fetch(world.stick.source)
    found = device.ask("metadata", incoming=device.upload_metadata(first.payload.metadata()))
    device.upload_blobs(first, found["targets"])
    assert device.ask("policy")["ok"]
    rules = (device.home / "trust/targets/policy/rules/current/policy.json").read_bytes()

    world.release.add_policy_target(
        "policy/rules/current/policy.json", b'{"v": 1, "roles": {}, "people": {"x": {"role": "king"}}}'
    )
    world.release.add_policy_target("policy/a/a/a", b"first by name")
    world.release.sign("policy")
    world.release.publish()
    stick = world.export("next")
    laptop = world.laptop("later")
    with pytest.raises(TrustRefused) as caught:
        laptop.store.refresh(stick.source, laptop.deadline)
    assert caught.value.reason == "malformed"
    assert laptop.store.policy().roles == {"technician": ["*"]}

    # a laptop that carried them all the same
    files = {path.name: path.read_bytes() for path in stick.metadata.iterdir()}
    assert device.ask("metadata", incoming=device.upload_metadata(files))["ok"]
    for path in (stick.root / "targets/policy").rglob("*.*"):
        if path.is_file():
            shutil.copy(path, device.home / "models/sha256" / path.name.partition(".")[0])
    refused = device.ask("policy")
    assert (refused["ok"], refused["reason"]) == (False, "malformed")
    assert (device.home / "trust/targets/policy/rules/current/policy.json").read_bytes() == rules
    assert not (device.home / "trust/targets/policy/a").exists()


def wrong_class(world: World, add: Callable[..., Any]) -> None:
    from fieldops.bundles.manifest import Needs

    add(world.release, world.folder / "src/1.2.0", "1.2.0", 3, needs=Needs(device_classes=["camera"]))


def wrong_machine(world: World, add: Callable[..., Any]) -> None:
    from fieldops.bundles.manifest import Needs

    add(world.release, world.folder / "src/1.2.0", "1.2.0", 3, needs=Needs(machines=["riscv64"]))


@pytest.mark.parametrize("make", [wrong_class, wrong_machine])
def test_a_bundle_for_another_device_is_refused_before_its_payload(
    make: Callable[..., None], device: Device, world: World, add_version: Callable[..., Any]
) -> None:
    make(world, add_version)
    world.release.publish()
    bundle = world.laptop().fetch(world.export("next").source, "digits@1.2.0")
    found = device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()), want=want(bundle))
    assert (found["ok"], found["reason"]) == (False, "wrong_device")


def test_a_device_with_too_little_memory_cannot(device: Device, world: World, add_version: Callable[..., Any]) -> None:
    from fieldops.bundles.manifest import Needs

    add_version(world.release, world.folder / "src/1.2.0", "1.2.0", 3, needs=Needs(ram_bytes=1 << 60))
    world.release.publish()
    bundle = world.laptop().fetch(world.export("next").source, "digits@1.2.0")
    found = device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()), want=want(bundle))
    assert found["ok"]
    device.upload_blobs(bundle, found["targets"])
    judged = device.ask("bundle", want=want(bundle))
    assert (judged["ok"], judged["reason"]) == (False, "device_cannot:ram")
    assert judged["message"]
    assert judged["next"]


def test_a_version_below_the_floor_is_refused(device: Device, bundle: Any) -> None:
    incoming = device.upload_metadata(bundle.payload.metadata())
    assert device.ask("metadata", incoming=incoming, want=want(bundle), floors={"digits": 3})["reason"] == "below_floor"
    assert device.ask("metadata", incoming=incoming, want=want(bundle), floors={"digits": 2, "other": 9})["ok"]


def test_another_manifest_than_the_laptop_verified_is_refused(device: Device, bundle: Any) -> None:
    incoming = device.upload_metadata(bundle.payload.metadata())
    found = device.ask("metadata", incoming=incoming, want=want(bundle) | {"manifest_sha256": "0" * 64})
    assert found["reason"] == "mix_and_match"


def test_a_withdrawn_version_is_refused_by_the_device(device: Device, bundle: Any, world: World) -> None:
    world.release.withdraw("digits@1.1.0", "stable")
    world.release.sign("stable")
    world.release.publish()
    laptop = world.laptop("later")
    laptop.store.refresh(world.export("next").source, laptop.deadline)
    _, _, payload = laptop.store.policy_payload()
    found = device.ask("metadata", incoming=device.upload_metadata(payload.metadata()), want=want(bundle))
    assert found["reason"] == "withdrawn"


def test_a_version_that_came_earlier_stands_until_newer_metadata_or_time_takes_it_back(
    device: Device, bundle: Any, world: World
) -> None:
    assert device.ask("standing", want=want(bundle))["reason"] == "missing"
    device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()), want=want(bundle))
    assert device.ask("standing", want=want(bundle))["ok"]
    assert device.ask("standing", want=want(bundle), floors={"digits": 9})["ok"]  # the agent knows last-good, and judges it
    assert device.ask("standing", want=want(bundle) | {"manifest_sha256": "0" * 64})["reason"] == "mix_and_match"
    assert device.ask("standing", want=want(bundle) | {"version": "7.0.0"})["reason"] == "unknown_target"
    later = int(world.clock.at + 40 * 86_400)
    assert device.ask("standing", want=want(bundle), now=later)["reason"] == "expired"
    assert device.ask("standing", want=want(bundle), clock_floor=later)["reason"] == "expired"
    assert device.ask("standing", want=want(bundle), now=later, whatever_age=True)["ok"]
    world.release.withdraw("digits@1.1.0", "stable")
    world.release.sign("stable")
    world.release.publish()
    laptop = world.laptop("later")
    laptop.store.refresh(world.export("next").source, laptop.deadline)
    device.ask("metadata", incoming=device.upload_metadata(laptop.store.policy_payload()[2].metadata()))
    for more in ({}, {"now": later, "whatever_age": True}):
        assert device.ask("standing", want=want(bundle), **more)["reason"] == "withdrawn"


def test_what_revoked_keys_alone_had_signed_stands_no_more(device: Device, bundle: Any, world: World) -> None:
    """Both keys of the channel are replaced, and those who hold the new ones do not sign that version again."""
    device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()), want=want(bundle))
    for name in ("stable-1", "stable-2"):
        for signer in world.release.rotate("stable", out=name):
            world.release.sign(signer)
    world.release.publish()
    stick = world.export("rotated")
    new = [signer for key in (3, 4) for signer in stick.signers(f"stable-{key}")]

    def forget(signed: Any) -> None:
        signed.targets = {name: info for name, info in signed.targets.items() if "/1.1.0/" not in name}

    stick.rewrite("stable", forget, new)
    laptop = world.laptop("later")
    laptop.store.refresh(stick.source, laptop.deadline)
    device.ask("metadata", incoming=device.upload_metadata(laptop.store.policy_payload()[2].metadata()))
    assert device.ask("standing", want=want(bundle))["reason"] == "unknown_target"


def test_a_blob_that_changed_on_the_device_is_refused(device: Device, bundle: Any) -> None:
    found = device.ask("metadata", incoming=device.upload_metadata(bundle.payload.metadata()), want=want(bundle))
    device.upload_blobs(bundle, found["targets"])
    core = next(target for target in found["targets"] if target["name"].endswith("core.onnx"))
    blob = device.home / "models/sha256" / core["sha256"]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    assert device.ask("bundle", want=want(bundle))["reason"] == "hash_mismatch"


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        del files[next(file for file in files if file.endswith(name))]

    return change


def flip(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        file = next(file for file in files if file.endswith(name))
        files[file] = files[file][:-300] + bytes([files[file][-300] ^ 1]) + files[file][-299:]

    return change


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (drop("timestamp.json"), "missing"),
        (drop(".snapshot.json"), "missing"),
        (drop(".stable.json"), "missing"),
        (flip(".stable.json"), "hash_mismatch"),
        (flip(".snapshot.json"), "hash_mismatch"),
        (lambda files: files.clear(), "missing"),
        (lambda files: files.update({"2.root.json": b"["}), "malformed"),
        (lambda files: files.update({"timestamp.json": b"[" * 400_000}), "oversized"),
    ],
)
def test_bad_uploads_leave_the_trust_folder_as_it_was(
    harm: Callable[[dict[str, bytes]], object], reason: str, device: Device, bundle: Any
) -> None:
    files = bundle.payload.metadata()
    harm(files)
    incoming = device.upload_metadata(files)
    before = device.files()
    found = device.ask("metadata", incoming=incoming, want=want(bundle))
    assert (found["ok"], found["reason"]) == (False, reason)
    assert device.files() == before


def test_the_devices_floor_counts_when_its_clock_is_behind(device: Device, bundle: Any) -> None:
    incoming = device.upload_metadata(bundle.payload.metadata())
    behind = {"now": int(NOW - 400 * 86_400)}
    assert device.ask("metadata", incoming=incoming, **behind)["ok"]
    late = {"clock_floor": int(NOW + 400 * 86_400)}
    assert device.ask("metadata", incoming=incoming, **behind, **late)["reason"] == "expired"


def test_without_a_root_nothing_is_believed(world: World, bundle: Any, tmp_path: Path) -> None:
    bare = Device(tmp_path / "bare", world)
    found = bare.ask("metadata", incoming=bare.upload_metadata(bundle.payload.metadata()))
    assert (found["ok"], found["reason"]) == (False, "missing")


def test_a_second_root_is_not_pinned_over_the_first(device: Device, world: World, tmp_path: Path) -> None:
    from fieldops.edges.tuf_signer import ReleaseRepo

    stranger = ReleaseRepo.init(tmp_path / "r", tmp_path / "k", world.clock)
    found = device.ask("pin", root=stranger.root().decode())
    assert (found["ok"], found["reason"]) == (False, "device_cannot:already_pinned")
    assert device.ask("pin", root=world.release.root().decode())["ok"]


@pytest.mark.parametrize(
    "job", [b"", b"{}", b"[" * 100_000, b'{"op": "format"}', b'{"op": "metadata"}', b"\xff", b"x" * (2 << 20)]
)
def test_what_is_no_job_gets_an_answer_too(job: bytes) -> None:
    found = answer(job)
    assert (found["ok"], found["reason"]) == (False, "device_cannot:bad_job")


def test_the_child_process_prints_one_document_and_ends_well(device: Device, bundle: Any) -> None:
    incoming = device.upload_metadata(bundle.payload.metadata())
    job = {"op": "metadata", "trust": str(device.home / "trust"), "incoming": incoming, "now": NOW, "want": want(bundle)}
    for change, ok in (({}, True), ({"floors": {"digits": 99}}, False)):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "fieldops.agent", "verify"],
            input=json.dumps(job | change).encode(),
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        found = json.loads(done.stdout)
        assert found["ok"] is ok
        assert ok or found["reason"] in TRUST_REASONS

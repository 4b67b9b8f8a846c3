"""A laptop that is enrolled and lies: whatever it posts, the device answers with the reasons the laptop itself would have given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fieldops.bundles.approvals import APPROVAL_NAMESPACE, Matter, encode_statement, statement_of
from fieldops.edges.keys import ssh_fingerprint, ssh_keygen, ssh_public_blob, sshsig_sign
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.errors import TrustRefused
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.steps import Activate, Approval, Revert, Stage
from fieldops.wire import StepRecord, b64
from tests.agent.conftest import CLOCK, Agent, Laptop, Release, within
from tests.trust.conftest import Stick

Files = dict[str, bytes]


@dataclass(frozen=True)
class Office:
    """A copy of the release team's folders, to be signed further here; approver: a second person's key file."""

    repo: ReleaseRepo
    folder: Path
    approver: Path

    def export(self, name: str, days: float = 30) -> Stick:
        return Stick(self.repo.export_stick(self.folder / name, days), self.folder / "keys")


@pytest.fixture
def office(release: Release, tmp_path: Path) -> Office:
    base = release.person.parent
    for name in ("repo", "keys"):
        shutil.copytree(base / name, tmp_path / name)
    repo = ReleaseRepo(tmp_path / "repo", tmp_path / "keys", CLOCK)
    approver = ssh_keygen(tmp_path / "approver")
    people = {
        ssh_fingerprint(ssh_public_blob(release.person)): Person(role="technician"),
        approver: Person(role="lead"),
    }
    policy = PolicyDocument(v=1, roles={"technician": ["*"], "lead": ["Approve"]}, people=people, max_stale_days=5)
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    repo.sign("policy")
    repo.publish()
    return Office(repo, tmp_path, tmp_path / "approver")


class Posting:
    """Speaks the wire itself: what a program that forgoes all checks of the laptop could send."""

    def __init__(self, device: Agent, laptop: Laptop) -> None:
        self.device, self.laptop = device, laptop

    def stage(self, files: Files, sha256: str, payload: Callable[[str, bytes], bytes], blobs: Path) -> StepRecord:
        step = Stage(channel="stable", model="digits", version="1.1.0", manifest_sha256=sha256)
        step_id, envelope = self.laptop.signed(self.device, step)
        with self.device.client() as client:
            assert client.post("/v1/steps", content=envelope).status_code == 202
            self._until(client, step_id, lambda record: record.phase == "metadata" or record.ended)
            upload = {"files": {name: b64(data) for name, data in files.items()}}
            client.put(f"/v1/steps/{step_id}/metadata", content=msgspec.json.encode(upload))
            record = self._until(client, step_id, lambda record: record.phase == "payload" or record.ended)
            for blob in record.wanted:
                data = payload(blob.target, (blobs / blob.sha256).read_bytes())
                client.put(f"/v1/blobs/{blob.sha256}", content=data, headers={"Upload-Offset": str(blob.have)})
            return self._until(client, step_id, lambda record: record.ended) if record.wanted else record

    @staticmethod
    def _until(client: httpx.Client, step_id: str, holds: Callable[[StepRecord], bool]) -> StepRecord:
        deadline = within()
        while True:
            record = msgspec.json.decode(client.get(f"/v1/steps/{step_id}?wait=2").content, type=StepRecord)
            if holds(record):
                return record
            deadline.check(f"{record.phase} of {record.kind}")


def metadata_of(stick: Stick) -> Files:
    return {path.name: path.read_bytes() for path in stick.metadata.iterdir()}


def without(ending: str) -> Callable[[Stick], Files]:
    return lambda stick: {
        name: data for name, data in signed_by("stable-1", "stable-2")(stick).items() if not name.endswith(ending)
    }


def flipped(stick: Stick) -> Files:
    files = signed_by("stable-1", "stable-2")(stick)
    name = stick.role("stable").name
    return files | {name: files[name][:-200] + bytes([files[name][-200] ^ 1]) + files[name][-199:]}


def signed_by(*names: str) -> Callable[[Stick], Files]:
    def make(stick: Stick) -> Files:
        stick.rewrite("stable", lambda _: None, stick.signers(*names))
        return metadata_of(stick)

    return make


def own_root(stick: Stick) -> Files:
    """A stranger's whole repository, with its root put in as the next one."""
    made = ReleaseRepo.init(stick.root.parent / "r", stick.root.parent / "k", CLOCK)
    return metadata_of(stick) | {"2.root.json": made.root().replace(b'"version": 1', b'"version": 2')}


def withdrawn(stick: Stick) -> Files:
    def change(signed: Any) -> None:
        signed.targets["stable/digits/1.1.0/manifest.json"].unrecognized_fields["custom"]["withdrawn"] = True

    stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))
    return metadata_of(stick)


def other_manifest(stick: Stick) -> Files:
    """The channel's own signers put another version's manifest in the place of this one's."""
    listed = stick.targets("stable").targets["stable/digits/1.2.0/manifest.json"]

    def change(signed: Any) -> None:
        signed.targets["stable/digits/1.1.0/manifest.json"].hashes = listed.hashes
        signed.targets["stable/digits/1.1.0/manifest.json"].length = listed.length

    stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))
    stick.seal()  # newer than all before
    stick.seal()
    return metadata_of(stick)


METADATA: list[tuple[str, Callable[[Stick], Files], str]] = [
    ("no timestamp", without("timestamp.json"), "missing"),
    ("no channel", without(".stable.json"), "missing"),
    ("channel flipped", flipped, "hash_mismatch"),
    ("channel signed by one of two", signed_by("stable-1"), "threshold"),
    ("channel signed by the canary", signed_by("canary-1"), "unsigned"),
    ("a stranger's root", own_root, "unsigned"),
    ("timestamp of garbage", lambda stick: metadata_of(stick) | {"timestamp.json": b"\xff" * 100}, "malformed"),
    ("timestamp padded", lambda stick: metadata_of(stick) | {"timestamp.json": b" " * 20_000}, "oversized"),
    # These two are authentic, so the device keeps them.
    ("withdrawn", withdrawn, "withdrawn"),
    ("another manifest", other_manifest, "mix_and_match"),
]


def test_forged_metadata_and_payloads_posted_by_an_enrolled_laptop(device: Agent, laptop: Laptop, office: Office) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    blobs = laptop.folder / "cache/sha256"
    posting = Posting(device, laptop)
    good = metadata_of(Stick(laptop.source.root, office.folder / "keys"))

    def evil(target: str, data: bytes) -> bytes:
        return b"evil" + data[4:] if target.endswith("core.onnx") else data

    record = posting.stage(good, bundle.manifest_sha256, evil, blobs)
    assert (record.state, record.exit, record.reason) == ("refused", 3, "hash_mismatch")
    record = posting.stage(good, "0" * 64, lambda _, data: data, blobs)
    assert (record.state, record.exit, record.reason) == ("refused", 3, "mix_and_match")

    said: dict[str, tuple[str, int, str]] = {}
    for number, (name, make, _) in enumerate(METADATA):
        record = posting.stage(make(office.export(f"s{number}")), bundle.manifest_sha256, lambda _, data: data, blobs)
        said[name] = (record.state, record.exit, record.reason)
    expected = {name: ("refused", 3, reason) for name, _, reason in METADATA}
    assert said == expected

    # The old model answers, nothing of the other one has a name, and the honest way is still open.
    slot = device.slot()
    assert (slot.active, [version.version for version in slot.versions]) == ("1.0.0", ["1.0.0"])
    with device.client("infer.sock") as client:
        assert client.get("/v2/models/digits/ready").status_code == 200
    core = bundle.manifest.file("core.onnx").sha256
    assert not (device.home / "models/sha256" / core).exists()


def approval(key: Path, version: str, sha256: str, device: str) -> Approval:
    matter = Matter("below_floor", "digits", version, sha256, (device,))
    text = encode_statement(statement_of(matter, CLOCK.now() + 3600, "the new one drifts"))
    return Approval(statement=text, signature=sshsig_sign(key, APPROVAL_NAMESPACE, text.encode()))


def test_below_the_floor_needs_a_signed_statement_and_last_good_needs_nobody(
    device: Agent, make_laptop: Callable[..., Laptop], office: Office
) -> None:
    laptop = make_laptop()
    laptop = replace(laptop, source=office.export("new").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    old = laptop.bundle("digits@1.0.0").manifest_sha256
    for version in ("1.1.0", "1.2.0"):
        laptop.install(device, version)
    assert device.slot().floor == 2

    mine = approval(laptop.technician.key or Path(), "1.0.0", old, device.ready["device"])
    for step in (
        Revert(model="digits", to="1.0.0"),
        Activate(model="digits", version="1.0.0"),
        Revert(model="digits", to="1.0.0", approvals=[mine]),
        Revert(model="digits", to="1.0.0", approvals=[approval(office.approver, "1.0.0", old, "d" * 52)]),
    ):
        with pytest.raises(TrustRefused) as caught:
            laptop.do(device, step)
        assert (caught.value.reason, caught.value.exit_code) == ("below_floor", 3)
        assert device.slot().active == "1.2.0"

    assert laptop.revert(device).version == "1.1.0"
    signed = approval(office.approver, "1.0.0", old, device.ready["device"])
    assert laptop.do(device, Revert(model="digits", to="1.0.0", approvals=[signed])).version == "1.0.0"
    journal = device.get("/v1/journal?after=0")["entries"]
    (loud,) = [entry for entry in journal if entry["action"] == "break_glass"]
    assert (loud["version"], loud["reason"]) == ("1.0.0", "below_floor")
    assert ssh_fingerprint(ssh_public_blob(office.approver)) in loud["detail"]

"""A real release repository, a stick made from it, and a laptop that trusts its root. Keys are made anew for every run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from fieldops.bundles.manifest import Manifest, Objectives, Rule, Tier
from fieldops.deadline import Deadline
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.policy import PolicyDocument, encode_policy
from fieldops.ports import Source

NOW = 1_800_000_000.0
DAY = 86_400.0
POLICY = PolicyDocument(v=1, roles={"technician": ["*"]}, people={})


@dataclass
class SetClock:
    """Implements ports.Clock; wall time stands where it is put."""

    at: float = NOW

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def manifest_of(version: str, counter: int, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "v": 1,
        "model": "digits",
        "task": "digits",
        "version": version,
        "counter": counter,
        "owner": "vision",
        "tiers": [
            Tier(name="core", file="core.onnx", variant="fp32", threshold=0.9),
            Tier(name="large", file="large.onnx", variant="fp32"),
        ],
        "inputs": [],
        "outputs": [],
        "objectives": Objectives(p95_ms=10.0, memory_bytes=1 << 20),
        "fallback": Rule(label=0, text="nothing"),
        "files": [],
    }
    return Manifest(**(values | changes))


def _add_version(
    release: ReleaseRepo, folder: Path, version: str, counter: int, channel: str = "stable", **changes: Any
) -> Manifest:
    """Two payload files of equal size, so that a swap is not told by length."""
    folder.mkdir(parents=True, exist_ok=True)
    for tier in ("core", "large"):
        (folder / f"{tier}.onnx").write_bytes(f"{tier} {version} ".encode().ljust(32, b".") * 4096)
    made = release.add_bundle(channel, folder, manifest_of(version, counter, **changes))
    release.sign(channel)
    return made


@dataclass
class Stick:
    """A stick in hand, and the release keys of those who tamper from inside."""

    root: Path
    keys: Path

    @property
    def metadata(self) -> Path:
        return self.root / "metadata"

    @property
    def source(self) -> FolderSource:
        return FolderSource(self.root)

    def payload(self, file: str, version: str = "1.1.0", channel: str = "stable") -> Path:
        (found,) = (self.root / "targets" / channel / "digits" / version).glob(f"*.{file}")
        return found

    def role(self, role: str) -> Path:
        """The newest file of a role."""
        if role == "timestamp":
            return self.metadata / "timestamp.json"
        return max(self.metadata.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))

    def signers(self, *names: str) -> list[CryptoSigner]:
        keys = [load_pem_private_key((self.keys / f"{name}.pem").read_bytes(), None) for name in names]
        return [CryptoSigner(key) for key in keys]

    def rewrite(self, role: str, change: Callable[[Any], None], signers: list[CryptoSigner]) -> None:
        """A new version of a role, changed and signed by whom is given; snapshot and timestamp agree with it."""
        metadata = Metadata[Any].from_file(str(self.role(role)))
        metadata.signed.version += 1
        change(metadata.signed)
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        metadata.to_file(str(self.metadata / f"{metadata.signed.version}.{role}.json"))
        self.seal()

    def seal(self, snapshot_change: Callable[[Snapshot], None] = lambda _: None) -> None:
        """Snapshot and timestamp over what lies there now, signed by the real keys."""
        roles = ("targets", "policy", "stable", "canary")
        files = {role: self.role(role) for role in roles}
        meta = {
            f"{role}.json": MetaFile.from_data(int(path.name.partition(".")[0]), path.read_bytes(), ["sha256"])
            for role, path in files.items()
        }
        snapshot = Metadata[Any].from_file(str(self.role("snapshot")))
        snapshot.signed.version += 1
        snapshot.signed.meta = meta
        snapshot_change(snapshot.signed)
        snapshot.sign(self.signers("snapshot-1")[0])
        self.point_at(snapshot.to_bytes(), snapshot.signed.version)

    def point_at(self, snapshot: bytes, version: int, change: Callable[[Timestamp], None] = lambda _: None) -> None:
        (self.metadata / f"{version}.snapshot.json").write_bytes(snapshot)
        timestamp = Metadata[Any].from_file(str(self.role("timestamp")))
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile.from_data(version, snapshot, ["sha256"])
        change(timestamp.signed)
        timestamp.sign(self.signers("timestamp-1")[0])
        timestamp.to_file(str(self.role("timestamp")))

    def targets(self, role: str) -> Targets:
        signed = Metadata[Any].from_file(str(self.role(role))).signed
        assert isinstance(signed, Targets)
        return signed


@dataclass
class Laptop:
    home: Path
    clock: SetClock
    store: TrustStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = TrustStore(self.home / "trust", self.home / "cache", self.clock)

    @property
    def deadline(self) -> Deadline:
        return Deadline.after(60, self.clock.monotonic)

    def files(self) -> dict[str, bytes]:
        """All that is kept, but for the lock."""
        return {
            path.relative_to(self.home).as_posix(): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }

    def fetch(self, source: Source, ref: str = "digits@1.1.0", **more: Any) -> Any:
        return self.store.fetch(source, ref, self.deadline, **more)


@dataclass
class World:
    """release: 1.0.0 and then 1.1.0 in stable; first: a stick from before 1.1.0; stick: the newest."""

    folder: Path
    clock: SetClock
    release: ReleaseRepo
    first: Stick
    stick: Stick

    def laptop(self, name: str = "laptop", *, knows_first: bool = True) -> Laptop:
        laptop = Laptop(self.folder / name, self.clock)
        laptop.store.pin(self.release.root(1), None)
        if knows_first:
            laptop.fetch(self.first.source, "digits@1.0.0")
        return laptop

    def export(self, name: str, days: float = 30, **more: Any) -> Stick:
        return Stick(self.release.export_stick(self.folder / name, days, **more), self.folder / "keys")


def _build(folder: Path) -> World:
    clock = SetClock()
    release = ReleaseRepo.init(folder / "repo", folder / "keys", clock)
    release.add_policy_target("policy/rules/current/policy.json", encode_policy(POLICY))
    release.add_policy_target("policy/runbooks/greet/runbook.yaml", b"id: greet\n")
    release.sign("policy")
    _add_version(release, folder / "src" / "1.0.0", "1.0.0", 1)
    release.publish()
    first = release.export_stick(folder / "first")
    _add_version(release, folder / "src" / "1.1.0", "1.1.0", 2)
    release.publish()
    stick = release.export_stick(folder / "stick")
    return World(folder, clock, release, Stick(first, folder / "keys"), Stick(stick, folder / "keys"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return _build(tmp_path_factory.mktemp("trust") / "world")


@pytest.fixture
def world(built: World, tmp_path: Path) -> World:
    """A copy of its own for each test: what is tampered with stays here."""
    folder = tmp_path / "world"
    shutil.copytree(built.folder, folder)
    clock = SetClock()
    keys = folder / "keys"
    return World(
        folder,
        clock,
        ReleaseRepo(folder / "repo", keys, clock),
        Stick(folder / "first" / "FIELDOPS", keys),
        Stick(folder / "stick" / "FIELDOPS", keys),
    )


@pytest.fixture
def add_version() -> Callable[..., Manifest]:
    """(release, source folder, version, counter, channel="stable", **manifest changes): listed and signed, not published."""
    return _add_version

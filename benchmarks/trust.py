"""A bundle of 100 MiB verified and copied off a stick, in process, against coreutils' sha256sum of the same file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.bars import Bar, timed
from fieldops.bundles.manifest import Manifest, Objectives, Rule, Tier
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.policy import PolicyDocument, encode_policy

SIZE = 100 << 20
TURNS = 11  # the best of each: other work on the machine meets a copy that has to be durable harder than a mere reader
CLOCK = SystemClock()
# One tier of a little and one of all the rest: what a bundle looks like that is worth measuring.
MANIFEST = Manifest(
    v=1,
    model="large",
    task="large",
    version="1.0.0",
    counter=1,
    owner="bench",
    tiers=[
        Tier(name="core", file="core.onnx", variant="fp32", threshold=0.9),
        Tier(name="large", file="large.onnx", variant="fp32"),
    ],
    inputs=[],
    outputs=[],
    objectives=Objectives(p95_ms=1.0, memory_bytes=1),
    fallback=Rule(label=0, text="nothing"),
    files=[],
)


@dataclass
class _Counted:
    """Implements ports.Source; counts what is read of the payload."""

    inner: FolderSource
    read_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.inner.name

    def read(self, path: str, limit: int) -> bytes:
        return self.inner.read(path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        for chunk in self.inner.chunks(path, offset):
            self.read_bytes[path] = self.read_bytes.get(path, 0) + len(chunk)
            yield chunk


def _stick(folder: Path) -> tuple[FolderSource, bytes]:
    repo = ReleaseRepo.init(folder / "repo", folder / "keys", CLOCK)
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(PolicyDocument(v=1, roles={}, people={})))
    repo.sign("policy")
    made = folder / "made"
    made.mkdir()
    (made / "core.onnx").write_bytes(os.urandom(1 << 20))
    with (made / "large.onnx").open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    repo.add_bundle("stable", made, MANIFEST)
    repo.sign("stable")
    repo.publish()
    root = repo.root()
    stick = repo.export_stick(folder / "stick")
    for gone in (folder / "repo", made):
        shutil.rmtree(gone)
    return FolderSource(stick), root


def _fetch(store: TrustStore, stick: _Counted) -> None:
    store.fetch(stick, "large@1.0.0", Deadline.after(300, time.monotonic))


def bars() -> Iterator[Bar]:
    program = shutil.which("sha256sum")
    if program is None:  # Windows: nothing to compare with
        return
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # the system's temporary folder may be too small for it
        folder = Path(name)
        stick, root = _stick(folder)
        (payload,) = stick.root.glob("targets/stable/large/1.0.0/*.large.onnx")
        TrustStore(folder / "trust", folder / "cache", CLOCK).pin(root, None)
        counted = _Counted(stick)
        ours = peer = float("inf")
        for turn in range(TURNS):
            store = TrustStore(folder / "trust", folder / f"cache-{turn}", CLOCK)
            ours = min(ours, timed(partial(_fetch, store, counted)))
            shutil.rmtree(folder / f"cache-{turn}")
            peer = min(peer, timed(partial(subprocess.run, [program, payload], check=True, stdout=subprocess.DEVNULL)))
        reads = max(counted.read_bytes.values()) / SIZE / TURNS
    note = f"{reads:.2f} reads of the stick; metadata, hash, copy, fsync"
    yield Bar("stick verify + copy, 101 MiB", "sha256sum, 100 MiB", ours, peer, 0.5, note=note)

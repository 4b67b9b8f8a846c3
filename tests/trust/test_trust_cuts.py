"""The process dies before every single rename it makes: what is left is the old state or the new one, and it goes on from there."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# tests are no package: conftest's names come through fixtures and these annotations
World = Any

CHILD = """
import os, signal, sys, time
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import FolderSource

class At:
    def now(self): return 1_800_000_000.0
    def monotonic(self): return time.monotonic()

home, stick, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def hook(event, arguments):
    global left
    # Only renames of files that are kept; tuf's scratch folder is none of them.
    if event == "os.rename" and ".verify-" not in os.fspath(arguments[1]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
TrustStore(home / "trust", home / "cache", At()).fetch(FolderSource(stick), "digits@1.1.0", Deadline.after(60, time.monotonic))
"""


@pytest.mark.skipif(os.name == "nt", reason="ends a process by SIGKILL")
def test_a_cut_before_any_rename_is_survived(world: World) -> None:
    clean = world.laptop()
    ends: list[int] = []
    for cut in range(1, 40):
        laptop = type(clean)(world.folder / f"cut-{cut}", world.clock)
        shutil.copytree(clean.home, laptop.home)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(laptop.home), str(world.stick.root), str(cut)],
            timeout=60,
            check=False,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        ends.append(done.returncode)
        for path in (laptop.home / "cache/sha256").iterdir():
            assert path.suffix == ".part" or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert laptop.store.policy().roles == {"technician": ["*"]}
        assert laptop.store.advance(None, laptop.deadline)[0].targets
        assert laptop.fetch(world.first.source, "digits@1.0.0").manifest.version == "1.0.0"
        bundle = laptop.fetch(world.stick.source)
        assert {path.name for path in bundle.folder.iterdir()} == {"core.onnx", "large.onnx", "manifest.json"}
        assert not [path for path in laptop.home.rglob("*") if path.suffix == ".part" or path.name.startswith(".verify-")]
        if done.returncode == 0:
            break
    assert ends[-1] == 0, done.stderr.decode()
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert len(ends) > 8

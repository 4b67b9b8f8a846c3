"""A copy killed in the middle, a temporary folder that is no use, a stick that cannot be written: none of it matters."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
REPOSITORY = str(Path(__file__).parents[2])

CHILD = """
import os, signal, sys, time
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import FolderSource

class At:
    def now(self): return 1_800_000_000.0
    def monotonic(self): return time.monotonic()

home, stick, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def allowed(path):
    return not isinstance(path, str | bytes | os.PathLike) or Path(os.fsdecode(path)).absolute().is_relative_to(home)

def hook(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not allowed(arguments[0]):
        sys.stderr.write(f"wrote outside: {arguments[0]!r}\\n")
        os._exit(9)

def progress(step):
    if kill_at and step.done > kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

sys.dont_write_bytecode = True
sys.addaudithook(hook)
store = TrustStore(home / "trust", home / "cache", At())
store.fetch(FolderSource(stick), "digits@1.1.0", Deadline.after(60, time.monotonic), progress=progress)
"""


def child(home: Path, stick: Path, kill_at: int, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(home), str(stick), str(kill_at)],
        timeout=60,
        check=False,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": REPOSITORY, **more},
    )


@pytest.mark.skipif(os.name == "nt", reason="ends a process by SIGKILL")
def test_a_copy_killed_in_the_middle_goes_on(world: World) -> None:
    laptop = world.laptop()
    assert child(laptop.home, world.stick.root, 1).returncode == -signal.SIGKILL
    names = {path.name for path in (laptop.home / "cache/sha256").iterdir()}
    for name in names:
        data = (laptop.home / "cache/sha256" / name).read_bytes()
        assert name.endswith(".part") or hashlib.sha256(data).hexdigest() == name
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert not list((laptop.home / "cache/sha256").glob("*.part"))


def test_nothing_is_written_outside_the_home_whatever_the_temporary_folder_is(world: World, tmp_path: Path) -> None:
    """A TMPDIR of 10 MB, often memory, must not have to hold a bundle."""
    laptop = world.laptop()
    done = child(laptop.home, world.stick.root, 0, TMPDIR=str(tmp_path / "tiny"))
    assert (done.returncode, done.stderr) == (0, b"")


def read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_stick_is_only_read(world: World) -> None:
    """Every name, size, time and mode stays as it was."""
    read_only(world.stick.root)
    before = {path: (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode) for path in world.stick.root.rglob("*")}
    laptop = world.laptop()
    assert [each.reason for each in laptop.store.candidates(world.stick.source, laptop.deadline)] == ["", ""]
    assert laptop.fetch(world.stick.source, reread=True).manifest.version == "1.1.0"
    after = {path: (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode) for path in world.stick.root.rglob("*")}
    assert after == before
    for path in [world.stick.root, *world.stick.root.rglob("*")]:
        path.chmod(0o755)

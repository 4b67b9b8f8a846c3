"""The disk fills up in the middle of a copy, behind every check of room: a real small file system, or a limit of the kernel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# tests are no package: conftest's names come through fixtures and these annotations
World = Any

CHILD = """
import sys, time
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges.blobs import bring
from fieldops.edges.usb import FolderSource
from fieldops.errors import FieldopsError

class Wanted:
    name = path = "payload.bin"
    sha256, size = sys.argv[3], int(sys.argv[4])

if limit := int(sys.argv[5]):
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    bring(Path(sys.argv[1]) / Wanted.sha256, FolderSource(Path(sys.argv[2])), Wanted, Deadline.after(60, time.monotonic))
except FieldopsError as error:
    print(error.reason, "next" if error.next_step else "")
    sys.exit(error.exit_code)
"""


def bring(cache: Path, stick: Path, sha256: str, size: int, limit: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(cache), str(stick), sha256, str(size), str(limit)],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """6 MiB of a file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "fieldops-test", str(place)]
    try:
        mounted = subprocess.run(words, check=False, capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=20)


@pytest.fixture
def stick(tmp_path: Path) -> tuple[Path, str, int]:
    """One payload of 9 MiB: large enough for the second thread."""
    folder = tmp_path / "stick"
    folder.mkdir()
    data = bytes(range(256)) * (9 << 12)
    (folder / "payload.bin").write_bytes(data)
    return folder, hashlib.sha256(data).hexdigest(), len(data)


def test_a_full_disk_is_a_clean_fault_and_the_copy_goes_on(small_disk: Path, stick: tuple[Path, str, int]) -> None:
    folder, sha256, size = stick
    for _ in range(2):  # running it again on the full disk is no worse
        done = bring(small_disk, folder, sha256, size)
        assert (done.returncode, done.stdout, done.stderr) == (8, "disk_full next\n", "")
        assert [path.name for path in small_disk.iterdir()] == [f"{sha256}.part"]
    have = (small_disk / f"{sha256}.part").read_bytes()
    assert 4 << 20 < len(have) < size
    assert have == (folder / "payload.bin").read_bytes()[: len(have)]
    subprocess.run(["mount", "-o", "remount,size=12m", str(small_disk)], check=True, timeout=20)
    # What is there is not asked for again: the stick has lost those bytes.
    (folder / "payload.bin").write_bytes(b"\0" * len(have) + (folder / "payload.bin").read_bytes()[len(have) :])
    done = bring(small_disk, folder, sha256, size)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in small_disk.iterdir()] == [sha256]


def test_a_laptops_whole_fetch_meets_a_full_disk(small_disk: Path, world: World) -> None:
    """Policy, metadata and payload behind one another; what was there before is trusted as before."""
    from fieldops.edges.blobs import BlobCache
    from fieldops.errors import StorageFault

    laptop = type(world.laptop())(small_disk / "laptop", world.clock)
    laptop.store.pin(world.release.root(1), None)
    laptop.store.refresh(world.first.source, laptop.deadline)
    before = laptop.store.facts()
    # The room is there when it is checked, and gone when it is needed.
    laptop.store.blobs = BlobCache(small_disk / "laptop/cache", free=lambda _: 1 << 40)
    filler = small_disk / "filler"
    left = os.statvfs(small_disk)
    filler.write_bytes(b"\0" * (left.f_bavail * left.f_frsize - (160 << 10)))
    with pytest.raises(StorageFault) as caught:
        laptop.fetch(world.stick.source)
    assert (caught.value.reason, caught.value.exit_code) == ("disk_full", 8)
    for path in (small_disk / "laptop/cache/sha256").iterdir():
        assert path.suffix == ".part" or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert laptop.store.facts().timestamp_version >= before.timestamp_version
    assert laptop.store.policy().roles == {"technician": ["*"]}
    filler.unlink()
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    assert not list(small_disk.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the kernel")
def test_a_write_that_the_kernel_cuts_short_is_a_clean_fault(tmp_path: Path, stick: tuple[Path, str, int]) -> None:
    folder, sha256, size = stick
    cache = tmp_path / "cache"
    done = bring(cache, folder, sha256, size, limit=5 << 20)
    assert (done.returncode, done.stdout.split()[1:], done.stderr) == (8, ["next"], "")
    assert [path.name for path in cache.iterdir()] == [f"{sha256}.part"]
    assert bring(cache, folder, sha256, size).returncode == 0
    assert [path.name for path in cache.iterdir()] == [sha256]

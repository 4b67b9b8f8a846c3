"""Whatever stands in the place of whichever file of a stick: refused at once, and a large bundle needs no room but its own."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fieldops.deadline import Deadline
from fieldops.errors import TrustRefused

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
Stick = Any
REPOSITORY = str(Path(__file__).parents[2])
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs, and links need a privilege")


def link(path: Path) -> None:
    """To the right bytes, on the same stick."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside.name)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def socket_file(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # their names are limited to 107 bytes
        try:
            listener.bind("s")
            Path("s").rename(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("making a device file needs rights")


def files(stick: Stick) -> list[Path]:
    """All that a new laptop reads for 1.1.0: every role's newest, the policy's files, the bundle's."""
    roles = [stick.role(role) for role in ("timestamp", "snapshot", "targets", "policy", "stable", "canary")]
    payload = [stick.payload(name) for name in ("core.onnx", "large.onnx", "manifest.json")]
    return [*roles, *(path for path in (stick.root / "targets/policy").rglob("*") if path.is_file()), *payload]


def put_back(stick: Stick, good: Path) -> None:
    shutil.rmtree(stick.root)
    shutil.copytree(good, stick.root)


@pytest.mark.parametrize("make", [link, dangling, fifo, folder, socket_file, device])
def test_in_place_of_any_file(make: Callable[[Path], None], world: World, tmp_path: Path) -> None:
    stick, good = world.stick, tmp_path / "good"
    shutil.copytree(stick.root, good)
    seen = {}
    for number, path in enumerate(files(stick)):
        make(path)
        laptop = world.laptop(f"laptop-{number}", knows_first=False)
        with pytest.raises(TrustRefused) as caught:
            laptop.store.fetch(stick.source, "digits@1.1.0", Deadline.after(20, time.monotonic))
        seen[path.name] = caught.value.reason
        assert not list((laptop.home / "cache").glob("bundles/*"))
        put_back(stick, good)
    assert len(seen) == 11
    assert set(seen.values()) == {"not_regular_file"}


# --- 100 MB through a TMPDIR of 10 MB ----------------------------------------------------------------------------------

LARGE_BYTES = 100 << 20
CHILD = """
import re, sys, tempfile, time
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import FolderSource

class At:
    def now(self): return 1_800_000_000.0
    def monotonic(self): return time.monotonic()

home, stick, there = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
assert tempfile.gettempdir() == there, tempfile.gettempdir()
TrustStore(home / "trust", home / "cache", At()).fetch(FolderSource(stick), "digits@3.0.0", Deadline.after(120, time.monotonic))
status = Path("/proc/self/status")
print(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1] if status.exists() else 0)
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 10 MB where that may be made, else a folder that is watched."""
    place = tmp_path / "tiny"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=10m,mode=0700", "fieldops-test", str(place)]
    try:
        mounted = subprocess.run(words, check=False, capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield place
    if mounted:
        subprocess.run(["umount", str(place)], check=True, timeout=20)


def test_a_bundle_of_100_mb_needs_neither_the_temporary_folder_nor_memory(
    world: World, add_version: Callable[..., Any], tiny: Path
) -> None:
    source = world.folder / "src/3.0.0"
    add_version(world.release, source, "3.0.0", 9)
    # listed again with a large file, before anything of it is published
    os.truncate(source / "core.onnx", LARGE_BYTES)
    manifest = add_version.__globals__["manifest_of"]("3.0.0", 9)
    world.release.add_bundle("stable", source, manifest)
    world.release.sign("stable")
    world.release.publish()
    stick = world.export("large", refs=["digits@3.0.0"])
    laptop = world.laptop(knows_first=False)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(laptop.home), str(stick.root), str(tiny)],
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": REPOSITORY, "TMPDIR": str(tiny)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) * 1024 < 1.5 * LARGE_BYTES  # interpreter and libraries take up to half of that
    assert not list(tiny.iterdir())
    sizes = sorted(path.stat().st_size for path in (laptop.home / "cache/sha256").iterdir())
    assert sizes[-1] == LARGE_BYTES

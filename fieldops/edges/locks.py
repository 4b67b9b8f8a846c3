"""One holder at a time, across processes. The kernel holds the lock, so a crash or a power cut leaves none behind."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldops.edges.disk import storage_faults
from fieldops.errors import StorageFault

_RETRY_S = 0.02

if sys.platform == "win32":
    import msvcrt

    _BYTE = 1 << 30  # far behind the text, which must stay readable for the one that asks who holds it

    def _try(descriptor: int) -> bool:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def exclusive(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold `path` as `what` (words for a person: "console"). Raises StorageFault (in_use) that names the holder's pid.

    wait_s: how long another holder may take to let go. The file stays when the lock is given back: removing it would let
    two processes hold two files of the same name.
    """
    with storage_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with storage_faults(path):
            _take(descriptor, path, what, time.monotonic() + wait_s)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))  # for people only: nothing is lost with it
        yield
    finally:
        os.close(descriptor)  # gives the lock back


def _take(descriptor: int, path: Path, what: str, until: float) -> None:
    while not _try(descriptor):
        if time.monotonic() >= until:
            raise _in_use(descriptor, path, what)
        threading.Event().wait(_RETRY_S)


def _in_use(descriptor: int, path: Path, what: str) -> StorageFault:
    holder = os.read(descriptor, 32).strip().decode("ascii", "replace")
    who = f"process {holder}" if holder.isdigit() else "another process"
    return StorageFault(
        f"{what} of {path.parent} is in use by {who}",
        reason="in_use",
        next_step=f"end {who} first, or use another folder",
    )

"""Does a folder's file system keep what it was told to keep? What can be told from here without pulling the plug.

A flush that costs no more than the write before it went nowhere: file systems in memory do so, mounts that were told to,
and disks that lie. One that takes its time may still end in a cache that forgets; only a real power cut shows that.
"""

from __future__ import annotations

import os
import re
import statistics
from pathlib import Path
from time import perf_counter
from typing import Final

from msgspec import Struct

from fieldops.edges.disk import Written, unlink

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# Mount options that give up flushing; kernel docs ext4, xfs, btrfs, overlayfs.
_CARELESS: Final = frozenset({"nobarrier", "barrier=0", "volatile", "fsync=volatile", "fsync_mode=nobarrier"})
_ROUNDS: Final = 24
_BLOCK: Final = 16 << 10  # large enough that the write itself costs something
_RATIO: Final = 1.0
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class Durability(Struct, frozen=True, kw_only=True):
    """keeps: as far as can be told. why: in words, when it does not. *_us: medians of one write and of its flush."""

    keeps: bool
    why: str
    file_system: str
    write_us: float
    flush_us: float


def durability(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Durability:
    """Writes a file of its own there and removes it. mounts: the kernel's list, or one that looks like it. Raises OSError."""
    kind, options = _mounted(folder.resolve(), mounts)
    write_us, flush_us = _measured(folder)
    why = ""
    if kind in _IN_MEMORY:
        why = f"{kind} lies in memory: a power cut takes all of it"
    elif careless := sorted(_CARELESS & options):
        why = f"it is mounted with {', '.join(careless)}, which leaves flushes out"
    elif flush_us <= _RATIO * write_us:
        why = f"a flush takes {flush_us:.0f} us and the write before it {write_us:.0f} us: it goes nowhere"
    return Durability(keeps=not why, why=why, file_system=kind, write_us=round(write_us, 1), flush_us=round(flush_us, 1))


def _mounted(folder: Path, mounts: Path) -> tuple[str, frozenset[str]]:
    """(type, options) of the mount that holds the folder; ("", none) where nobody tells."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "", frozenset()
    best, found = -1, ("", frozenset[str]())
    for line in lines:
        head, _, tail = line.partition(" - ")
        before, after = head.split(" "), tail.split(" ")
        if len(before) < 6 or len(after) < 3:
            continue
        place = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), before[4]))
        if folder.is_relative_to(place) and len(place.parts) >= best:  # of two on one place, the later covers the other
            best, found = len(place.parts), (after[0], frozenset(f"{before[5]},{after[2]}".split(",")))
    return found


def _measured(folder: Path) -> tuple[float, float]:
    """(microseconds of a write, of the flush after it), medians."""
    path = folder / f".flush-{os.getpid()}"
    unlink(path)
    writes, flushes = list[float](), list[float]()
    block = os.urandom(_BLOCK)
    try:
        with Written.new(path) as file:
            for _ in range(_ROUNDS):
                begun = perf_counter()
                file.write(block)
                written = perf_counter()
                file.sync()
                writes.append(written - begun)
                flushes.append(perf_counter() - written)
    finally:
        unlink(path)
    return statistics.median(writes) * 1e6, statistics.median(flushes) * 1e6

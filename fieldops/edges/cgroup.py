"""Memory that the control groups holding this process allow it: cgroup v2, or the memory controller of v1.

A service with `MemoryMax=` is limited by its own group, not by the one at the root, and by each group above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 1 << 60  # v1 writes a number of this size where there is none


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. used: without the files' pages that the kernel gives back first."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


def memory(root: Path, groups: str) -> Memory | None:
    """Of the tightest group; None: nothing limits it. root: `/sys`. groups: what /proc/self/cgroup says."""
    found = [each for each in _all(root / "fs" / "cgroup", groups) if each is not None]
    return min(found, key=lambda each: each.left, default=None)


def own_groups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text("utf-8", "replace")
    except OSError:
        return ""  # no Linux


def _all(base: Path, groups: str) -> Iterator[Memory | None]:
    paths = {"": "/"} | {kind: path for _, kind, path in (line.split(":", 2) for line in groups.splitlines() if ":" in line)}
    for folder in _upwards(base, paths[""]):
        yield _read(folder, "memory.max", "memory.current", "inactive_file")
    for folder in _upwards(base / "memory", paths.get("memory", "/")):
        yield _read(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """Inside a container the path may be one of the host's, which is not to be seen here; the base is then its own group."""
    inner = base / path.strip("/")
    yield from (folder for folder in (inner, *inner.parents) if folder == base or base in folder.parents)


def _read(folder: Path, limit: str, used: str, given_back: str) -> Memory | None:
    most = _number(folder / limit)
    if most is None or most >= NO_LIMIT:
        return None
    return Memory(most, max(0, (_number(folder / used) or 0) - _line(folder / "memory.stat", given_back)))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _line(path: Path, name: str) -> int:
    try:
        pairs = (line.split() for line in path.read_text("ascii").splitlines())
        return next((int(words[1]) for words in pairs if len(words) == 2 and words[0] == name and words[1].isdecimal()), 0)
    except (OSError, UnicodeDecodeError):
        return 0

"""Faults on order, for tests: FIELDOPS_FAULTS in the environment of a process that writes through edges/disk.py.

    FIELDOPS_FAULTS="serve kill 17"          the agent's `serve` is killed (SIGKILL) after its 17th durable operation
    FIELDOPS_FAULTS="serve kill-workers 17"  its workers are
    FIELDOPS_FAULTS="serve kill=PIDFILE 17"  the process whose id stands in that file is
    FIELDOPS_FAULTS="serve full 17"          from the 17th on, nothing can be written any more: ENOSPC
    FIELDOPS_FAULTS="serve full-once 17"     the 17th alone fails so
    FIELDOPS_FAULTS="selftest lie 17"        from the 17th flush on, none is done and all are told as done
    FIELDOPS_FAULTS="serve list=FILE 0"      nothing fails; each operation appends a line to the file

The first word is the verb that the process was started with, or `*`. Whoever can set it can kill the process anyway.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final, Literal

from fieldops.edges.operation import FAULTS, Kind, Operation, Witness

# What may need a free block; the rest only frees or flushes.
GROWING: Final[frozenset[Kind]] = frozenset({"create", "write", "link", "symlink", "mkdir", "rename", "commit"})


def no_space(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Full(Witness):
    """A disk that is full from the n-th growing operation on, or for that one only. n from 1."""

    def __init__(self, at: int, *, once: bool = False) -> None:
        self._at = at
        self._once = once
        self._lock = threading.Lock()
        self.seen = 0

    def before(self, operation: Operation) -> None:
        if operation.kind not in GROWING:
            return
        with self._lock:
            self.seen += 1
            hit = self.seen == self._at if self._once else self.seen >= self._at
        if hit:
            raise no_space(operation.path)

    def free(self) -> None:
        """There is space again."""
        self._at, self._once = 1 << 62, False


class Killing(Witness):
    """What is to die after the n-th operation, n from 1. whom: "self", "workers", or the file of a process id."""

    def __init__(self, at: int, whom: Literal["self", "workers"] | Path) -> None:
        self._at = at
        self._whom = whom
        self._lock = threading.Lock()
        self._seen = 0

    def after(self, _: Operation) -> None:
        with self._lock:
            self._seen += 1
            if self._seen != self._at:
                return
        for pid in self._victims():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it was faster
                continue

    def _victims(self) -> list[int]:
        if self._whom == "self":
            return [os.getpid()]
        if isinstance(self._whom, Path):
            return [int(self._whom.read_text("ascii"))]
        return workers_of(os.getpid())


def workers_of(pid: int) -> list[int]:
    """Worker processes that this process started; Linux only."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended between the two reads
                continue
            if b"worker" in words:
                found.append(int(child))
    return found


class Lying(Witness):
    """Storage that calls a flush done without doing it, from the n-th on, n from 1."""

    def __init__(self, at: int = 1) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._seen = 0

    def drops(self, operation: Operation) -> bool:
        del operation
        with self._lock:
            self._seen += 1
            return self._seen >= self._at


class Listing(Witness):
    """Appends `kind name` of each operation to a file, at once."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def after(self, operation: Operation) -> None:
        os.write(self._descriptor, f"{operation.kind} {operation.path.name}\n".encode())


def from_environment() -> Witness | None:
    """None: nothing is ordered for this process. Raises ValueError for an order nobody understands."""
    verb, what, number = os.environ[FAULTS].split()
    if verb not in {"*", *sys.argv[1:2]}:
        return None
    name, _, file = what.partition("=")
    match name:
        case "kill":
            return Killing(int(number), Path(file) if file else "self")
        case "kill-workers":
            return Killing(int(number), "workers")
        case "lie":
            return Lying(int(number))
        case "full":
            return Full(int(number))
        case "full-once":
            return Full(int(number), once=True)
        case "list":
            return Listing(Path(file))
        case _:
            raise ValueError(f"{FAULTS}={os.environ[FAULTS]!r}")

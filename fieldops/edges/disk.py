"""Files that are whole or not there, and the one door through which an agent's storage changes.

A witness may see every `Operation` before and after it is done: the crash tests record them, cut them off, let them fail as
a full disk does, or leave a flush out as a lying disk does. Without a witness an operation costs one comparison.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from fieldops.edges.operation import FAULTS, Operation, Witness
from fieldops.errors import StorageFault

_COPY_BYTES = 1 << 20

_witnesses: list[Witness] = []
_named = FAULTS in os.environ


@contextmanager
def witnessed(witness: Witness) -> Iterator[None]:
    """Show it every operation of this process inside the block."""
    _witnesses.append(witness)
    try:
        yield
    finally:
        _witnesses.remove(witness)


def _load_named() -> None:
    global _named  # noqa: PLW0603 - read from the environment once a process
    _named = False
    from fieldops.edges.faults import from_environment

    found = from_environment()
    if found is not None:
        _witnesses.append(found)


@contextmanager
def performing(operation: Operation) -> Iterator[None]:
    """Around the system call that does it."""
    if _named:
        _load_named()
    for witness in tuple(_witnesses):
        witness.before(operation)
    yield
    for witness in tuple(_witnesses):
        witness.after(operation)


def _flush(operation: Operation, descriptor: int) -> None:
    if _named:
        _load_named()
    if any(witness.drops(operation) for witness in tuple(_witnesses)):
        return
    with performing(operation):
        os.fsync(descriptor)


# --- names ---------------------------------------------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in this folder survive a power cut."""
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _flush(Operation("fsync_folder", folder), descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """With its parents; each new name is synced, or what is written below would be lost with it. An old folder is left alone."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    with performing(Operation("mkdir", folder)):
        folder.mkdir(exist_ok=True, mode=mode)
    with suppress(PermissionError):  # a parent that is somebody else's and cannot be read is theirs to sync
        sync_folder(folder.parent)


def rename(path: Path, to: Path) -> None:
    """Over what is there. The caller syncs the folder."""
    with performing(Operation("rename", path, to)):
        path.replace(to)


def unlink(path: Path) -> None:
    """What is not there is gone already."""
    if not os.path.lexists(path):
        return
    with performing(Operation("unlink", path)):
        path.unlink(missing_ok=True)


def link(path: Path, to: Path) -> None:
    """A second name; never over what is there."""
    with performing(Operation("link", path, to)):
        os.link(path, to)


def point(place: Path, target: str) -> None:
    """Let the symbolic link `place` say `target`, whole at every moment, and durably."""
    if place.is_symlink() and place.readlink() == Path(target):
        return
    part = place.with_name(f".{place.name}.part")
    unlink(part)
    with performing(Operation("symlink", part, target=target)):
        part.symlink_to(target)
    rename(part, place)
    sync_folder(place.parent)


def remove_tree(folder: Path) -> None:
    """Depth first. Not synced: whoever comes back after a power cut is waste, or is removed again."""
    if not folder.is_dir() or folder.is_symlink():
        unlink(folder)
        return
    for path in sorted(folder.iterdir()):
        remove_tree(path)
    with performing(Operation("rmdir", folder)):
        folder.rmdir()


# --- contents ------------------------------------------------------------------------------------------------------------


class Written:
    """A file that is being written. Nothing is kept back in this process: what was written is in the system's hands."""

    def __init__(self, path: Path, flags: int, mode: int = 0o600) -> None:
        self._path = path
        if not flags & os.O_EXCL and os.path.lexists(path):
            self._descriptor = os.open(path, flags, mode)
        else:
            with performing(Operation("create", path)):
                self._descriptor = os.open(path, flags | os.O_CREAT, mode)

    @classmethod
    def new(cls, path: Path, mode: int = 0o600) -> Written:
        """Raises FileExistsError."""
        return cls(path, os.O_WRONLY | os.O_EXCL | _BINARY, mode)

    @classmethod
    def append(cls, path: Path) -> Written:
        return cls(path, os.O_WRONLY | os.O_APPEND | _BINARY)

    def write(self, data: bytes) -> None:
        offset = os.fstat(self._descriptor).st_size
        with performing(Operation("write", self._path, offset=offset, data=data)):
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]

    def sync(self) -> None:
        _flush(Operation("fsync", self._path), self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


_BINARY = getattr(os, "O_BINARY", 0)


def sync_file(path: Path) -> None:
    """What any process wrote to it survives a power cut from here on."""
    with path.open("rb+") as file:
        _flush(Operation("fsync", path), file.fileno())


def copy_whole(path: Path, to: Path) -> None:
    """A durable copy under the name `to`; the caller syncs the folder."""
    part = to.with_name(f".{to.name}.part")
    unlink(part)
    with path.open("rb") as source, Written.new(part) as copy:
        while chunk := source.read(_COPY_BYTES):
            copy.write(chunk)
        copy.sync()
    rename(part, to)


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`. A power cut leaves the old file or the new one. Raises StorageFault.

    mode is for a new file; one that exists keeps its own, and stays the target of a link that points at it.
    """
    with storage_faults(path):
        path = path.resolve()
        make_folder(path.parent)
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
        part = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
        try:
            with Written.new(part, mode) as file:
                file.write(data)
                file.sync()
            rename(part, path)
        except OSError:
            unlink(part)
            raise
        sync_folder(path.parent)


@contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """An OSError met with `path` as a StorageFault that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_fault(path, error) from error


def storage_fault(path: Path, error: OSError) -> StorageFault:
    said = f"{path}: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFault(said, reason="disk_full", next_step=f"free some space on the disk of {path.parent}, then try again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}:
        return StorageFault(said, reason="unreadable", next_step=f"mend the permissions of {path}, then try again")
    return StorageFault(said, reason="io_error", next_step=f"check the disk of {path.parent}")

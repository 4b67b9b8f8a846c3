"""Files that are whole or not there: written beside, synced, renamed, and the folder synced."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldops.errors import StorageFault


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in this folder survive a power cut."""
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`. A power cut leaves the old file or the new one. Raises StorageFault.

    mode is for a new file; one that exists keeps its own, and stays the target of a link that points at it.
    """
    with storage_faults(path):
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            mode = path.stat().st_mode & 0o777
        part = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
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

"""Payloads in a repository or on a stick: copied in pieces, since models are large, and whole under their names or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fieldops.edges.disk import storage_faults, sync_folder
from fieldops.errors import UsageFault

_CHUNK_BYTES = 1 << 20


def copy_exactly(source: Path, dest: Path, sha256: str, *, next_step: str) -> None:
    """What is at dest and right stays. Raises UsageFault (corrupt) when source is not what sha256 says; StorageFault."""
    with storage_faults(dest):
        if dest.is_file() and _digest(dest) == sha256:
            return
        dest.parent.mkdir(parents=True, exist_ok=True)
        part = dest.with_name(f"{dest.name}.part")
        digest = hashlib.sha256()
        with source.open("rb") as old, part.open("wb") as new:
            while chunk := old.read(_CHUNK_BYTES):
                digest.update(chunk)
                new.write(chunk)
            new.flush()
            os.fsync(new.fileno())
        if digest.hexdigest() != sha256:
            part.unlink()
            raise UsageFault(f"{source} is not what its digest says", reason="corrupt", next_step=next_step)
        part.replace(dest)
        sync_folder(dest.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Every durable change of a device's or laptop's storage, as a value, and who may see it happen."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

FAULTS: Final = "FIELDOPS_FAULTS"  # see edges/faults.py
Kind = Literal["create", "write", "fsync", "rename", "unlink", "link", "symlink", "mkdir", "rmdir", "fsync_folder", "commit"]


class Operation(Struct, frozen=True):
    """to: the new name of rename and link. offset, data: of write. target: what a symlink says. path of commit: the database."""

    kind: Kind
    path: Path
    to: Path | None = None
    offset: int = 0
    data: bytes = b""
    target: str = ""


class Witness:
    """Sees; what it does not override changes nothing."""

    def before(self, operation: Operation) -> None:
        """An OSError raised here is the operation's own: it was not done."""

    def after(self, operation: Operation) -> None:
        pass

    def drops(self, operation: Operation) -> bool:  # noqa: ARG002
        """Of a flush: it is told as done, and nobody does it."""
        return False

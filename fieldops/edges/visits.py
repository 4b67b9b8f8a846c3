"""One folder a visit under <home>/visits: its report, and the sealed inputs that were taken along."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fieldops.edges.disk import write_whole

MODE = 0o600


@dataclass(frozen=True, slots=True)
class VisitFolder:
    """Implements operations.visit.Folder. Made on disk by the first file."""

    path: Path

    @classmethod
    def at(cls, folder: Path, now: float) -> VisitFolder:
        """A new one beside those of earlier visits, named by the time and this process."""
        return cls(folder / f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}")

    def write(self, name: str, data: bytes) -> Path:
        path = self.path / Path(name).name
        write_whole(path, data, MODE)
        return path

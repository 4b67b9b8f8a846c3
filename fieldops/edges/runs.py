"""Runbook runs as append-only files under <home>/runs. A line is on disk before the step it announces begins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from fieldops.errors import StorageFault, UsageFault
from fieldops.ports import Clock, RunRecord

_ID = re.compile(r"\d{14}-\d+")


def _unwritable(path: Path, error: OSError) -> StorageFault:
    return StorageFault(
        f"{path}: {error.strerror or error}",
        reason="unwritable",
        next_step="make room or correct the permissions of the home folder, then run the same command again",
    )


@dataclass(frozen=True, slots=True)
class FileRun:
    """Implements ports.RunRecord."""

    id: str
    path: Path

    def append(self, line: bytes) -> None:
        try:
            with self.path.open("ab") as file:
                if file.tell() and not self._ends_whole():
                    file.write(b"\n")  # a torn line stays a line of its own, which lines() leaves out
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def lines(self) -> list[bytes]:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        *whole, _torn = data.split(b"\n")
        return [line for line in whole if line.startswith(b"{") and line.endswith(b"}")]

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Implements ports.Runs."""

    folder: Path
    clock: Clock

    def create(self) -> RunRecord:
        from datetime import UTC, datetime

        stamp = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%Y%m%d%H%M%S")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, 1000):
                path = self.folder / f"{stamp}-{number}.jsonl"
                try:
                    path.open("xb").close()
                except FileExistsError:
                    continue
                self._sync()
                return FileRun(path.stem, path)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        raise StorageFault("a thousand runs in one second", reason="busy", next_step="try again")

    def open(self, run: str) -> RunRecord:
        path = self.folder / f"{run}.jsonl"
        if not _ID.fullmatch(run) or not path.is_file():
            known = ", ".join(self.ids()[:5]) or "none"
            raise UsageFault(f"no run {run!r}", reason="unknown_run", next_step=f"newest runs: {known}")
        return FileRun(run, path)

    def ids(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted((path.stem for path in self.folder.glob("*.jsonl") if _ID.fullmatch(path.stem)), reverse=True)

    def _sync(self) -> None:
        if os.name == "posix":  # Windows cannot open a folder; it journals the name itself
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

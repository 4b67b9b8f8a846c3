"""Benchmarks this laptop took, one JSON file a run under <home>/runs/bench. A power cut leaves a whole run or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from fieldops.decoding import decoder
from fieldops.edges.disk import storage_faults, write_whole
from fieldops.errors import UsageFault
from fieldops.ports import Clock
from fieldops.wire import BenchResult

_ID = re.compile(r"\d{14}-\d+")


class Kept(Struct, frozen=True, kw_only=True):
    """device: its name, or "local" for a file measured on the laptop. time: Unix seconds by the laptop's clock."""

    id: str
    time: float
    device: str
    result: BenchResult


@dataclass(frozen=True, slots=True)
class BenchRecords:
    folder: Path
    clock: Clock

    def keep(self, device: str, result: BenchResult) -> Kept:
        """Durable when it returns. Raises StorageFault."""
        now = self.clock.now()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")
        with storage_faults(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            number = 1
            while (path := self.folder / f"{stamp}-{number}.json").exists():
                number += 1
        kept = Kept(id=path.stem, time=now, device=device, result=result)
        write_whole(path, msgspec.json.encode(kept))
        return kept

    def read(self, wanted: str) -> Kept:
        """By id, or the newest of `DEVICE:MODEL`. Raises UsageFault when there is none."""
        device, colon, model = wanted.partition(":")
        for kept in self.newest_first():
            if kept.id == wanted or (colon and kept.device == device and kept.result.model == model):
                return kept
        raise UsageFault(
            f"no benchmark {wanted!r}",
            reason="unknown_benchmark",
            next_step="see `fieldops bench list`; name one by its id, or the newest of a model as DEVICE:MODEL",
        )

    def newest_first(self) -> Iterator[Kept]:
        """A file that cannot be read as a run is left out: it hides no other."""
        with storage_faults(self.folder):
            if not self.folder.is_dir():
                return
            names = [path.stem for path in self.folder.glob("*.json") if _ID.fullmatch(path.stem)]
        for name in sorted(names, key=lambda name: (name[:14], int(name[15:])), reverse=True):
            try:
                yield decoder(Kept).decode((self.folder / f"{name}.json").read_bytes())
            except (OSError, msgspec.DecodeError):
                continue

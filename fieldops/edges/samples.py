"""Inputs that devices kept, on this laptop: `<home>/samples/<device id>/<model>.jsonl`, and labels beside them as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.edges.disk import storage_faults, write_whole
from fieldops.errors import Fault, UsageFault
from fieldops.wire import Sample

MODE = 0o600  # they may show people


@dataclass(frozen=True, slots=True)
class SampleFolder:
    """Implements operations.samples.Samples."""

    folder: Path

    def _file(self, device: str, model: str, end: str) -> Path:
        if not device.isalnum() or Path(model).name != model or model.startswith("."):
            raise UsageFault(f"{model!r} is no model's name", reason="usage", next_step="use a name of `fieldops models`")
        return self.folder / device / f"{model}.{end}"

    def samples(self, device: str, model: str) -> list[Sample]:
        """Oldest first; none before the first pull."""
        path = self._file(device, model, "jsonl")
        with storage_faults(path):
            if not path.exists():
                return []
            return [decoder(Sample).decode(line) for line in path.read_bytes().splitlines() if line]

    def add(self, device: str, model: str, new: list[Sample]) -> None:
        """Each once, by its id."""
        known = {sample.id: sample for sample in self.samples(device, model)} | {sample.id: sample for sample in new}
        lines = [msgspec.json.encode(known[number]) for number in sorted(known)]
        write_whole(self._file(device, model, "jsonl"), b"\n".join(lines) + b"\n", MODE)

    def labels(self, device: str, model: str) -> dict[int, int]:
        """By sample id."""
        path = self._file(device, model, "labels.csv")
        with storage_faults(path):
            return read_labels(path.read_text("utf-8"), str(path)) if path.exists() else {}

    def put_labels(self, device: str, model: str, labels: dict[int, int]) -> Path:
        """All of them, the new ones too. Returns where they stand."""
        path = self._file(device, model, "labels.csv")
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("id", "label"))
        writer.writerows(sorted(labels.items()))
        write_whole(path, out.getvalue().encode("utf-8"), MODE)
        return path

    def read_csv(self, path: Path) -> dict[int, int]:
        """A person's own file. Raises UsageFault with every fault and its line."""
        try:
            return read_labels(path.read_text("utf-8-sig"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageFault(f"{path}: {error}", reason="bad_file", next_step="give a readable CSV file in UTF-8") from error


def read_labels(text: str, file: str) -> dict[int, int]:
    """Lines `id,label`, with or without a heading. Raises UsageFault."""
    found: dict[int, int] = {}
    faults: list[Fault] = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[:2] == ["id", "label"]):
            continue
        if len(cells) != 2 or not all(cell.isascii() and cell.isdigit() for cell in cells):
            faults.append(Fault(file, number, ",".join(row), "id,label as whole numbers"))
        elif found.setdefault(int(cells[0]), int(cells[1])) != int(cells[1]):
            faults.append(Fault(file, number, ",".join(row), f"one label for {cells[0]}"))
    if faults:
        raise UsageFault.in_file(file, faults)
    return found

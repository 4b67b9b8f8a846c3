"""Inputs that devices kept, on this laptop: `<home>/samples/<device id>/<model>.jsonl`, and labels beside them as CSV."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.edges import sealed
from fieldops.edges.disk import storage_faults, write_whole
from fieldops.errors import DeviceCannot, Fault, UsageFault
from fieldops.wire import Sample, SealedSample, b64, unb64

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
        """Oldest first; none before the first pull. A line that is damaged is left out: it hides no other."""
        path = self._file(device, model, "jsonl")
        with storage_faults(path):
            lines = path.read_bytes().splitlines() if path.exists() else []
        return [sample for line in lines if (sample := _sample(line)) is not None]

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


def _sample(line: bytes) -> Sample | None:
    try:
        return decoder(Sample).decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def new_key(file: Path) -> str:
    """Write a private key that opens kept inputs; its public key, for the policy. Raises UsageFault where a file is."""
    if file.exists():
        raise UsageFault(
            f"{file} is there already", reason="exists", next_step="name another file: a key that is lost opens nothing any more"
        )
    private = os.urandom(sealed.KEY_BYTES)
    write_whole(file, sealed.key_text(private).encode("ascii"), MODE)
    return b64(sealed.public_key_of(private))


def open_export(export: Path, key_file: Path, to: Path) -> tuple[int, int]:
    """(inputs written to `to`, a JSON text a line like those of a pull; how many the key does not open). Raises UsageFault."""
    opened: list[bytes] = []
    faults: list[Fault] = []
    unreadable = 0
    key = sealed.read_key(_text(key_file))
    for number, line in enumerate(_text(export).splitlines(), 1):
        try:
            sample = decoder(SealedSample).decode(line)
            request = sealed.unseal(key, unb64(sample.sealed))
        except DeviceCannot:
            unreadable += 1
        except (msgspec.DecodeError, ValueError):
            faults.append(Fault(str(export), number, line[:40], "a sealed input, as `fieldops visit close` writes them"))
        else:
            told = {name: getattr(sample, name) for name in Sample.__struct_fields__ if name != "request"}
            opened.append(msgspec.json.encode(Sample(**told, request=b64(request))))
    if faults:
        raise UsageFault.in_file(str(export), faults)
    write_whole(to, b"".join(line + b"\n" for line in opened), MODE)
    return len(opened), unreadable


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{file}: {error}", reason="bad_file", next_step="name a readable file") from error


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

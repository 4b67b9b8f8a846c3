"""The golden set of a task: inputs, labels, the accuracy floor and how far numbers may differ per instruction set.

Signed by the policy role, never by the bundle that is judged. One `.npz`: an array `input.<name>` for each input tensor,
`labels`, and `meta` (JSON text as bytes). Nothing in it is ever unpickled.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fieldops.decoding import decoder
from fieldops.errors import UsageFault
from fieldops.wire import refuse_duplicate_keys

LEAST_DISTINCT_INPUTS = 32
GOLDEN_LIMIT_BYTES = 64 << 20  # of the file, and of all arrays in it
_INPUT = "input."
ANY_ISA = "default"


class _Meta(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: int
    task: str
    floor: float
    tolerance: dict[str, float]


@dataclass(frozen=True, slots=True)
class Golden:
    """inputs: tensor name -> (n, ...) rows; labels: (n,) int64; floor: 0..1 of rows that must be right.

    tolerance: largest absolute difference of an output, by machine (`x86_64`); `default` holds where none is named.
    """

    task: str
    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64]
    floor: float
    tolerance: Mapping[str, float] = field(default_factory=lambda: {ANY_ISA: 1e-4})

    @property
    def n(self) -> int:
        return int(self.labels.shape[0])

    def tolerance_for(self, machine: str) -> float:
        return self.tolerance.get(machine, self.tolerance[ANY_ISA])


def encode_golden(golden: Golden) -> bytes:
    """The file's bytes; the same set gives the same bytes. Raises UsageFault when the set could not judge anything."""
    _check(golden)
    meta = _Meta(v=1, task=golden.task, floor=golden.floor, tolerance=dict(golden.tolerance))
    arrays: dict[str, Any] = {f"{_INPUT}{name}": rows for name, rows in golden.inputs.items()}
    arrays["labels"] = golden.labels
    arrays["meta"] = np.frombuffer(msgspec.json.encode(meta), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def decode_golden(data: bytes) -> Golden:
    """Raises UsageFault (reason bad_golden) for anything that is no golden set, or one too weak to judge."""
    arrays = _arrays(data)
    try:
        text = arrays.pop("meta").astype(np.uint8).tobytes()
        json.loads(text, object_pairs_hook=refuse_duplicate_keys)
        meta = decoder(_Meta).decode(text)
        labels = arrays.pop("labels")
    except KeyError as error:
        raise _bad(f"it has no array {error}") from error
    except (ValueError, RecursionError) as error:
        raise _bad(f"its `meta` is not understood: {error}") from error
    if labels.dtype.kind not in "iu":
        raise _bad(f"labels are {labels.dtype}, not integers")
    inputs = {name.removeprefix(_INPUT): rows for name, rows in arrays.items() if name.startswith(_INPUT)}
    golden = Golden(
        task=meta.task, inputs=inputs, labels=labels.astype(np.int64), floor=meta.floor, tolerance=dict(meta.tolerance)
    )
    _check(golden)
    return golden


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    if len(data) > GOLDEN_LIMIT_BYTES:
        raise _bad(f"{len(data)} bytes; the limit is {GOLDEN_LIMIT_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # A small file may unpack to gigabytes; zipfile never yields more than a member's stated size.
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > GOLDEN_LIMIT_BYTES:
            raise _bad(f"it unpacks to {unpacked} bytes; the limit is {GOLDEN_LIMIT_BYTES}")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError) as error:
        raise _bad(f"no intact npz: {error}") from error


def _check(golden: Golden) -> None:
    if golden.labels.ndim != 1 or not golden.inputs:
        raise _bad("it needs at least one input and a row of labels")
    for name, rows in golden.inputs.items():
        if rows.ndim < 1 or rows.shape[0] != golden.n:
            raise _bad(f"input {name!r} has shape {rows.shape} for {golden.n} labels")
        if rows.dtype.kind not in "biuf":
            raise _bad(f"input {name!r} is {rows.dtype}, not numbers")
        if rows.dtype.kind == "f" and not bool(np.isfinite(rows).all()):
            raise _bad(f"input {name!r} holds values that are no numbers")
    distinct = len({b"".join(rows[index].tobytes() for rows in golden.inputs.values()) for index in range(golden.n)})
    if distinct < LEAST_DISTINCT_INPUTS:
        raise _bad(f"{distinct} distinct inputs; at least {LEAST_DISTINCT_INPUTS} are needed")
    if np.unique(golden.labels).size < 2:
        raise _bad("all labels are equal: a model that answers always the same would pass")
    if not 0.0 < golden.floor <= 1.0:
        raise _bad(f"accuracy floor {golden.floor}; it must be above 0 and at most 1")
    if ANY_ISA not in golden.tolerance or any(not 0.0 <= value < 1e9 for value in golden.tolerance.values()):
        raise _bad("tolerance needs a `default`, and no negative values")


def _bad(what: str) -> UsageFault:
    return UsageFault(f"golden set: {what}", reason="bad_golden", next_step="rebuild the golden set and sign it again")

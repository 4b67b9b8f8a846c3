"""Frozen-bin sketches: edges are fixed at release, so counts of any two windows or devices add up exactly."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from msgspec import Struct

MOST_CELLS = 4096


class Feature(Struct, frozen=True, kw_only=True):
    """One observed quantity. `source` says how the worker takes it from a request.

    edges: strictly rising, len(edges) == bins + 1. reference: counts of the release data, in the layout of `Window.counts`.
    """

    name: str
    source: str  # input.mean, input.std, input.p10, input.p90, input.column:3, output.confidence, output.label
    edges: list[float]
    reference: list[int]


class Reference(Struct, frozen=True, kw_only=True):
    """The reference sketch of one version (the bundle's sketch file)."""

    v: int
    features: list[Feature]
    temperature: float = 1.0  # softmax temperature the confidence was calibrated with
    accuracy: float | None = None  # on the calibration set
    ece: float | None = None  # expected calibration error there, 0..1


class Window(Struct, frozen=True, kw_only=True):
    """Counts over a span of requests. counts[feature] = [under, bin 1..B, over, nan]; sums to n."""

    started: float  # Unix seconds by the device's clock
    ended: float
    n: int
    counts: dict[str, list[int]]


class PackedWindow(Struct, frozen=True, kw_only=True):
    """A window for a slow line: half the bytes, and exactly the same counts. counts[feature]: see `pack`."""

    started: float
    ended: float
    n: int
    counts: dict[str, str]


def packed(window: Window) -> PackedWindow:
    counts = {name: pack(cells) for name, cells in window.counts.items()}
    return PackedWindow(started=window.started, ended=window.ended, n=window.n, counts=counts)


def unpacked(window: PackedWindow) -> Window:
    """Raises ValueError."""
    counts = {name: unpack(text) for name, text in window.counts.items()}
    return Window(started=window.started, ended=window.ended, n=window.n, counts=counts)


def pack(cells: Iterable[int]) -> str:
    """Counts as LEB128 (seven bits a byte, lowest first), then base64 without padding: a count below 128 takes 1.3 letters."""
    data = bytearray()
    for cell in cells:
        if cell < 0:
            raise ValueError("counts are not negative")
        while cell >= 0x80:
            data.append(cell & 0x7F | 0x80)
            cell >>= 7
        data.append(cell)
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def unpack(text: str) -> list[int]:
    """Raises ValueError for what `pack` never makes."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"no packed counts: {error}") from error
    cells: list[int] = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            cells.append(value)
            value = shift = 0
        elif shift > 63:
            raise ValueError("a packed count of more than 64 bits")
    if shift or len(cells) > MOST_CELLS:
        raise ValueError("packed counts that end in the middle, or too many")
    return cells

"""Frozen-bin sketches: edges are fixed at release, so counts of any two windows or devices add up exactly."""

from __future__ import annotations

from msgspec import Struct


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

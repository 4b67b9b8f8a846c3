"""Runs, and comparisons of runs."""

from __future__ import annotations

from fieldops.cli.documents import Document, Part
from fieldops.wire import BenchResult


class BenchRecord(Part, frozen=True, kw_only=True):
    """A run this laptop keeps. device: "local" for a file measured on the laptop."""

    id: str
    time: float
    device: str
    result: BenchResult


class BenchRun(Document, frozen=True, kw_only=True, tag="fieldops.bench/v1"):
    """verdict: against the device's own baseline; null without one. reason: why it is not comparable."""

    run: BenchRecord
    verdict: str | None
    reason: str


class BenchList(Document, frozen=True, kw_only=True, tag="fieldops.benches/v1"):
    runs: list[BenchRecord]


class ComparedRow(Part, frozen=True, kw_only=True):
    """ratio: now / before after allowing for the machine's own speed; null where one is missing."""

    name: str
    before_ms: float | None
    now_ms: float | None
    ratio: float | None


class BenchComparison(Document, frozen=True, kw_only=True, tag="fieldops.bench-comparison/v1"):
    """before, now: ids of runs. reason: why they are not comparable."""

    before: str
    now: str
    comparable: bool
    verdict: str
    reason: str
    kernel_ratio: float | None
    rows: list[ComparedRow]

"""What a device says about the drift of one model: counts, and evidence for the cause. It crosses the wire (wire.DriftReports)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from fieldops.drift.sketch import PackedWindow, Reference, Window, packed, unpacked


class Stats(Struct, frozen=True, kw_only=True):
    """Evidence for the cause of a drift alarm. None: not measured."""

    golden_ok: bool | None = None  # the golden set replayed on the device as it is now
    replay_bit_equal: bool | None = None
    digest_ok: bool | None = None
    p50_ms: float | None = None
    baseline_p50_ms: float | None = None
    throttled: bool | None = None
    labelled: int = 0
    labelled_correct: int = 0


class DriftReport(Struct, frozen=True, kw_only=True):
    """Counts only; the laptop compares. windows: newest last."""

    model: str
    version: str
    reference: Reference | None
    windows: list[Window]
    stats: Stats = Stats()
    packed: list[PackedWindow] = []  # instead of windows, for who asks with ?packed=1

    def for_a_slow_line(self) -> DriftReport:
        return msgspec.structs.replace(self, windows=[], packed=[packed(window) for window in self.windows])

    def plain(self) -> DriftReport:
        """With windows, however it came. Raises ValueError."""
        return msgspec.structs.replace(self, windows=[*self.windows, *(unpacked(each) for each in self.packed)], packed=[])

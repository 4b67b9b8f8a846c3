"""Records of devices added up: counts are exact, latencies as narrow as their bins (5 % either way)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fieldops.wire import TelemetryRecord

BIN = 1.1  # bin k holds (1.1^(k-1), 1.1^k] milliseconds


@dataclass(slots=True)
class Sums:
    """Of any records, in any order, of any devices."""

    requests: int = 0
    failed: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("routes", "rested", "latency", "drift")}
    )

    @classmethod
    def of(cls, records: Iterable[TelemetryRecord]) -> Sums:
        sums = cls()
        for record in records:
            sums.requests += record.requests
            sums.failed += record.failed
            for name, counts in sums.counts.items():
                counts.update(getattr(record, name))
        return sums

    def latency_ms(self, share: float) -> float | None:
        """The latency that `share` (0..1) of the answers did not pass; None without answers."""
        return quantile_ms(self.counts["latency"], share)


def quantile_ms(bins: Mapping[str, int], share: float) -> float | None:
    """The middle of the bin that holds it."""
    total = sum(bins.values())
    left = share * total
    for place in sorted(bins, key=int):
        left -= bins[place]
        if left <= 0 and total:
            return float(BIN ** (int(place) - 0.5))
    return None

"""What a benchmark says: ours beside a peer, taken in turns in one run, as a ratio of minima.

The machine's speed flips between regimes for seconds, so times of two runs are never compared, and the minimum of turns is the
figure least moved by neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bar:
    """ours, peer: seconds. ratio: ours / peer, or peer / ours where more is better (`at_least`). limit None: only reported."""

    what: str
    peer_is: str
    ours_s: float
    peer_s: float
    limit: float | None
    at_least: bool = False
    note: str = ""
    unit: Literal["s", "B"] = "s"  # of ours_s and peer_s

    @property
    def ratio(self) -> float:
        return self.peer_s / self.ours_s if self.at_least else self.ours_s / self.peer_s

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def minima(turns: int, *works: Callable[[], object]) -> list[float]:
    """The least time of each, taken in turns; one turn before is thrown away."""
    for work in works:
        work()
    best = [float("inf")] * len(works)
    for _ in range(turns):
        for index, work in enumerate(works):
            best[index] = min(best[index], timed(work))
    return best


def summed_minima(turns: int, works: Sequence[Callable[[T], object]], items: Sequence[T]) -> list[float]:
    """For each work the sum, over the items, of its least time on that item: a neighbour's burst spoils single calls, not the sum."""
    for work in works:
        for item in items:
            work(item)
    best = [[float("inf")] * len(items) for _ in works]
    for _ in range(turns):
        for place, item in enumerate(items):
            for index, work in enumerate(works):
                start = time.perf_counter()
                work(item)
                best[index][place] = min(best[index][place], time.perf_counter() - start)
    return [sum(times) for times in best]

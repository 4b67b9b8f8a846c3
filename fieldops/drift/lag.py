"""Accuracy from labels that come late: what is known, over how many, and how old. Few labels give a wide interval, never a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Given:
    """An answer the device gave. at: Unix seconds."""

    request: str
    label: int
    at: float


@dataclass(frozen=True, slots=True)
class LateLabel:
    """What a person or a later process says it was. at: Unix seconds when it became known."""

    label: int
    at: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """low, high: Wilson's 95 % interval. accuracy None: no label yet. lag_s: median time from answer to label; None likewise."""

    labelled: int
    correct: int
    waiting: int
    accuracy: float | None
    low: float
    high: float
    lag_s: float | None


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when nothing is known."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = correct / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy(given: Iterable[Given], labels: Mapping[str, LateLabel]) -> Accuracy:
    """labels: by request. A label for an answer not in `given` is left out; one before its answer counts with lag 0."""
    from statistics import median  # loads decimal and random, which no start-up should pay for

    labelled = correct = waiting = 0
    lags: list[float] = []
    for answer in given:
        late = labels.get(answer.request)
        if late is None:
            waiting += 1
            continue
        labelled += 1
        correct += late.label == answer.label
        lags.append(max(0.0, late.at - answer.at))
    low, high = wilson(correct, labelled)
    return Accuracy(
        labelled=labelled,
        correct=correct,
        waiting=waiting,
        accuracy=correct / labelled if labelled else None,
        low=low,
        high=high,
        lag_s=median(lags) if lags else None,
    )

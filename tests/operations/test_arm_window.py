"""A window as a person writes it, in the laptop's time of day."""

from __future__ import annotations

import datetime as dt

import pytest

from fieldops.errors import UsageFault
from fieldops.operations.sideload import window_of


def at(hour: int, minute: int = 0, day: int = 10) -> float:
    return dt.datetime(2026, 3, day, hour, minute).astimezone().timestamp()


@pytest.mark.parametrize(
    ("text", "now", "start", "end"),
    [
        ("22:00-04:00", at(15), at(22), at(4, day=11)),
        ("22:00-04:00", at(23), at(22), at(4, day=11)),
        ("22:00-04:00", at(3), at(22, day=9), at(4)),
        ("22:00-04:00", at(4), at(22), at(4, day=11)),
        ("6:30-7:00", at(6), at(6, 30), at(7)),
        ("6:30-7:00", at(8), at(6, 30, day=11), at(7, day=11)),
        ("+8h", at(8), at(8), at(16)),
        ("+30m", at(8), at(8), at(8, 30)),
    ],
)
def test_the_next_window_or_the_one_that_runs(text: str, now: float, start: float, end: float) -> None:
    found = window_of(text, now)
    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("text", ["", "22-4", "25:00-04:00", "22:00-22:00", "+h", "tonight"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageFault, match="--arm"):
        window_of(text, at(1))

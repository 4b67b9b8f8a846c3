"""Columns and cells of a list, and how columns share the width of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldops.tui.panels.ink import Tone

GAP = 1
POINTER = 2  # cells for the pointer and its gap


@dataclass(frozen=True, slots=True)
class Column:
    """width: at 80 columns. grows: share of the room a wider screen leaves."""

    title: str
    width: int
    right: bool = False
    grows: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    tone: Tone = "plain"


def fitted(columns: Sequence[Column], width: int) -> tuple[int, ...]:
    """The widths at this screen width; the columns that grow share what is left, and none falls below 3."""
    fixed = sum(column.width for column in columns) + GAP * (len(columns) - 1) + POINTER + 1
    left = width - fixed
    shares = sum(column.grows for column in columns) or 1
    widths = [column.width + (left * column.grows // shares if left > 0 else 0) for column in columns]
    growing = [n for n, column in enumerate(columns) if column.grows]
    if left > 0 and growing:
        widths[growing[-1]] += left - sum(left * column.grows // shares for column in columns)
    while left < 0 and growing:
        widest = max(growing, key=lambda n: widths[n])
        if widths[widest] <= 3:
            break
        widths[widest] -= 1
        left += 1
    return tuple(widths)

"""Columns and cells of a list, and how columns share the width of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldops.tui.panels.ink import Tone

GAP = 1
POINTER = 2  # cells for the pointer and its gap


@dataclass(frozen=True, slots=True)
class Column:
    """width: at 80 columns. grows: share of the room a wider screen leaves. goes: on a narrower one it is left out, 1 first."""

    title: str
    width: int
    right: bool = False
    grows: int = 0
    goes: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    tone: Tone = "plain"


def fitted(columns: Sequence[Column], width: int) -> tuple[int, ...]:
    """The widths at this screen width, 0 for a column left out; those that grow share what is left, and none falls below 3."""
    shown = list(range(len(columns)))
    for spare in sorted((n for n in shown if columns[n].goes), key=lambda n: columns[n].goes):
        if _left(columns, shown, width) >= 0:
            break
        shown.remove(spare)
    left = _left(columns, shown, width)
    widths = [column.width if n in shown else 0 for n, column in enumerate(columns)]
    growing = [n for n in shown if columns[n].grows]
    if left > 0 and growing:
        shares = [left * columns[n].grows // sum(columns[each].grows for each in growing) for n in growing]
        shares[-1] += left - sum(shares)
        for n, share in zip(growing, shares, strict=True):
            widths[n] += share
    while left < 0 and growing:
        widest = max(growing, key=lambda n: widths[n])
        if widths[widest] <= 3:
            break
        widths[widest] -= 1
        left += 1
    return tuple(widths)


def _left(columns: Sequence[Column], shown: Sequence[int], width: int) -> int:
    return width - sum(columns[n].width for n in shown) - GAP * (len(shown) - 1) - POINTER - 1

"""A list that is read while it is looked at: rows of any kind, newest first, narrowed by words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.table import LineTable

R = TypeVar("R")


def holds(text: str, words: Sequence[str]) -> bool:
    """Every word stands in the text; `!` before one turns it round."""
    low = text.lower()
    return all((word[1:] not in low) if word.startswith("!") and len(word) > 1 else word in low for word in words)


class ReadTable(LineTable, Generic[R]):
    """name: what a row is known by, so that the cursor stays on it. shown: its cells."""

    def __init__(
        self,
        columns: Sequence[Column],
        name: Callable[[R], str],
        shown: Callable[[R], tuple[Cell, ...]],
        glyphs: Glyphs,
        *,
        none: str,
        id: str,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(columns, lambda key: shown(self._rows[key]), glyphs, empty="reading ...", id=id)
        self._rows: dict[str, R] = {}
        self._named = name
        self._cells = shown
        self._none = none
        self._words: tuple[str, ...] = ()
        self.was_read = False

    def put(self, newest_first: Sequence[R]) -> None:
        """The same row twice is two rows."""
        rows: dict[str, R] = {}
        counted: dict[str, int] = {}
        for row in reversed(newest_first):
            name = self._named(row)
            counted[name] = number = counted.get(name, 0) + 1
            rows[f"{name} {number}"] = row
        self._rows = dict(reversed(rows.items()))
        self.was_read = True
        self._arrange()

    def fail(self, text: str) -> None:
        """Said in place of rows; rows that were read before stay."""
        self.set_empty(text)

    def narrow(self, text: str) -> None:
        self._words = tuple(text.lower().split())
        self._arrange()

    @property
    def chosen(self) -> R | None:
        return self._rows.get(self.cursor or "")

    @property
    def count(self) -> tuple[int, int]:
        """(shown, all)."""
        return len(self.keys), len(self._rows)

    def text_of(self, row: R) -> str:
        return "  ".join(cell.text for cell in self._cells(row) if cell.text)

    def _arrange(self) -> None:
        if self.was_read:
            self.set_empty("nothing matches; Esc shows all" if self._words and self._rows else self._none)
        rows: dict[str, Any] = self._rows
        self.set_rows([key for key, row in rows.items() if holds(self.text_of(row), self._words)])
        self.redraw_changed()

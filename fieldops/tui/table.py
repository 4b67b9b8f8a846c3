"""A list of rows drawn by the line API: only visible lines are ever made, so 10,000 rows cost what 20 do.

Column widths are fixed by the size of the screen and never by the data. The cursor is bound to a row's key: refreshing,
sorting and filtering move the row, and the cursor stays on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.columns import GAP, POINTER, Cell, Column, fitted


class LineTable(ScrollView, can_focus=True, inherit_bindings=False):
    """draw: the cells of a row, called for visible rows only."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--head", "table--cursor", "table--strong", "table--muted", "table--ok", "table--warn", "table--fail",
        "table--off", "table--accent",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Next row", id="list.down", show=False),
        Binding("up,k", "move(-1)", "Previous row", id="list.up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Next page", id="list.page_down", show=False),
        Binding("pageup", "page(-1)", "Previous page", id="list.page_up", show=False),
        Binding("home,g", "edge(0)", "First row", id="list.first", show=False),
        Binding("end,G", "edge(-1)", "Last row", id="list.last", show=False),
    ]

    class Highlighted(Message):
        def __init__(self, table: LineTable, key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> LineTable:
            return self.table

    class Opened(Message):
        """A double click; Enter is a command of the screen."""

        def __init__(self, table: LineTable, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> LineTable:
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        draw: Callable[[str], Sequence[Cell]],
        glyphs: Glyphs,
        *,
        empty: str = "",
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._draw = draw
        self._glyphs = glyphs
        self._empty = empty
        self._keys: tuple[str, ...] = ()
        self._cursor = 0
        self._moved = False
        self._drawn: dict[int, tuple[tuple[Cell, ...], bool]] = {}

    # --- rows and cursor -------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[str, ...]:
        return self._keys

    @property
    def cursor(self) -> str | None:
        """Key of the selected row; None when there is none."""
        return self._keys[self._cursor] if self._keys else None

    @property
    def moved(self) -> bool:
        """Whether the person ever moved the cursor."""
        return self._moved

    def set_empty(self, text: str) -> None:
        """What is said in place of rows."""
        if text != self._empty:
            self._empty = text
            if not self._keys:
                self.refresh()

    def set_rows(self, keys: Sequence[str]) -> None:
        """The cursor stays on its key; when that is gone, on its place. One never moved stays on the first row: the worst."""
        new = tuple(keys)
        if new == self._keys:
            return
        before = self.cursor
        index = self._cursor - self._top
        self._keys = new
        if before in new and self._moved:
            self._cursor = new.index(before)
        self._cursor = max(0, min(self._cursor, len(new) - 1))
        self._resize_content()
        if self._top and self._moved and before is not None and before == self.cursor:  # at the top, the worst stay in sight
            self.scroll_to(y=max(0, self._cursor - index), animate=False, immediate=True)
        self._reveal()
        self.refresh()
        if self.cursor != before:
            self.post_message(self.Highlighted(self, self.cursor))

    def select(self, key: str) -> None:
        if key in self._keys:
            self._move_to(self._keys.index(key))

    def redraw_changed(self) -> None:
        """Draw again the visible lines whose cells differ from what stands there."""
        for y in range(1, self.size.height):
            index = self._top + y - 1
            if index >= len(self._keys):
                break
            now = (tuple(self._draw(self._keys[index])), index == self._cursor)
            if self._drawn.get(y) != now:
                self.refresh(Region(0, y, self.size.width, 1))

    @property
    def _top(self) -> int:
        return int(self.scroll_offset.y)

    def _visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    def _resize_content(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._keys) + 1)

    def _reveal(self) -> None:
        top = self._top
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + self._visible_rows():
            self.scroll_to(y=self._cursor - self._visible_rows() + 1, animate=False, immediate=True)

    def _move_to(self, index: int) -> None:
        index = max(0, min(index, len(self._keys) - 1))
        if not self._keys or index == self._cursor:
            return
        old, top = self._cursor, self._top
        self._moved = True
        self._cursor = index
        self._reveal()
        if self._top == top:
            for row in (old, index):
                self.refresh(Region(0, row - top + 1, self.size.width, 1))
        else:
            self.refresh()
        self.post_message(self.Highlighted(self, self.cursor))

    def action_move(self, rows: int) -> None:
        self._move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        self._move_to(self._cursor + pages * max(1, self._visible_rows() - 1))

    def action_edge(self, index: int) -> None:
        self._move_to(index if index >= 0 else len(self._keys) - 1)

    def on_resize(self) -> None:
        self._resize_content()
        self._reveal()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        index = self._top + event.y - 1
        if event.y >= 1 and index < len(self._keys):
            self._move_to(index)
            if event.chain > 1:
                self.post_message(self.Opened(self, self._keys[index]))

    # --- drawing ---------------------------------------------------------------------------------------------------------

    def watch_has_focus(self, _has_focus: bool) -> None:
        """The cursor row is the same with and without focus; nothing to restyle."""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._strip(
                [(text, "table--head") for text in self._texts([Cell(c.title) for c in self._columns])], width, "table--head"
            )
        index = self._top + y - 1
        if index >= len(self._keys):
            if not self._keys and y == 2 and self._empty:
                return self._strip([("  " + figures.clip(self._empty, width - 4, self._glyphs), "table--muted")], width)
            return Strip.blank(width, self.rich_style)
        cells = tuple(self._draw(self._keys[index]))
        selected = index == self._cursor
        self._drawn[y] = (cells, selected)
        pointer = self._glyphs.pointer if selected else " "
        parts = [(f"{pointer} ", "table--accent")]
        parts += [(text, f"table--{cell.tone}") for text, cell in zip(self._texts(cells)[1:], cells, strict=True)]
        return self._strip(parts, width, "table--cursor" if selected else None)

    def _texts(self, cells: Sequence[Cell]) -> list[str]:
        """The pointer's room, then each cell padded to its column and followed by the gap."""
        widths = fitted(self._columns, self.size.width)
        texts = [" " * POINTER]
        for column, cell, width in zip(self._columns, cells, widths, strict=True):
            texts.append(_padded(cell.text, width, self._glyphs, right=column.right) + " " * GAP if width else "")
        return texts

    def _strip(self, parts: Sequence[tuple[str, str]], width: int, ground: str | None = None) -> Strip:
        base = self.rich_style
        if ground is not None:
            base += self.get_component_rich_style(ground, partial=True)
        segments = [Segment(text, base + self._tone(name, on_cursor=ground == "table--cursor")) for text, name in parts]
        return Strip(segments).adjust_cell_length(width, base)

    def _tone(self, name: str, *, on_cursor: bool) -> Style:
        if name in {"table--plain", "table--head"}:
            return Style.null()
        style = self.get_component_rich_style(name, partial=True)
        return style + Style(bold=True) if on_cursor else style


@lru_cache(maxsize=4096)
def _padded(text: str, width: int, glyphs: Glyphs, *, right: bool) -> str:
    from rich.cells import cell_len

    clipped = figures.clip(text, width, glyphs)
    pad = " " * max(0, width - cell_len(clipped))
    return pad + clipped if right else clipped + pad

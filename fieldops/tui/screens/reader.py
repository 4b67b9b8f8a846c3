"""A text over the screen: help, one audit entry, an outcome, the messages. Esc closes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from fieldops.tui.copying import copy
from fieldops.tui.panels.ink import line

if TYPE_CHECKING:
    from fieldops.tui.front import Front

WIDEST = 92


class ReaderScreen(ModalScreen[None]):
    """draw: the text for a width in cells."""

    hint = "j k scroll   y copy   Esc close"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "close", "Close", id="reader.close"),
        Binding("down,j", "scroll(1)", "Down", id="reader.down"),
        Binding("up,k", "scroll(-1)", "Up", id="reader.up"),
        Binding("pagedown,space", "scroll(10)", "Next page", id="reader.page_down"),
        Binding("pageup", "scroll(-10)", "Previous page", id="reader.page_up"),
        Binding("y", "copy", "Copy the text", id="reader.copy"),
    ]

    def __init__(self, title: str, draw: Callable[[int], Content]) -> None:
        super().__init__()
        self._title = title
        self._draw = draw

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="reader", can_focus=False) as box:
            box.border_title = Content(self._title).markup
            box.border_subtitle = line(self.hint).markup
            yield Static(id="reader-text", markup=False)

    def on_mount(self) -> None:
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        width = min(WIDEST, self.app.size.width - 4)
        self.query_one("#reader").styles.width = width
        self.query_one("#reader-text", Static).update(self._draw(width - 6))

    def action_scroll(self, rows: int) -> None:
        self.query_one("#reader").scroll_relative(y=rows, animate=False)

    def action_copy(self) -> None:
        copy(cast("Front", self.app), self._draw(WIDEST).plain)

    def action_close(self) -> None:
        self.dismiss(None)

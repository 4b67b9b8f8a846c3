"""Text that is longer than its place. Its keys are named, and stand in the help as one line each."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll


class Page(VerticalScroll, inherit_bindings=False):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "rows(1)", "Scroll down", id="page.down", show=False),
        Binding("up,k", "rows(-1)", "Scroll up", id="page.up", show=False),
        Binding("pagedown,space", "pages(1)", "Scroll a page down", id="page.page_down", show=False),
        Binding("pageup", "pages(-1)", "Scroll a page up", id="page.page_up", show=False),
        Binding("home,g", "edge(0)", "To the top", id="page.top", show=False),
        Binding("end,G", "edge(-1)", "To the end", id="page.end", show=False),
    ]

    def action_rows(self, rows: int) -> None:
        self.scroll_relative(y=rows, animate=False)

    def action_pages(self, pages: int) -> None:
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def action_edge(self, edge: int) -> None:
        if edge:
            self.scroll_end(animate=False)
        else:
            self.scroll_home(animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """What fits whole has nothing to scroll, so its keys are not offered."""
        return action not in {"rows", "pages", "edge"} or self.max_scroll_y > 0

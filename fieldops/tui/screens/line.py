"""The `:` command line, at the bottom of any screen. Tab or Right completes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from fieldops.tui.commands import Command
from fieldops.tui.panels.ink import Part, line, page

MOST_SHOWN = 8


class LineScreen(ModalScreen[str | None]):
    """Dismissed with what was typed, or None. commands: those that can be used now; arguments: completions by command id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Close", id="line.cancel"),
        Binding("tab", "complete", "Complete", id="line.complete", priority=True),
    ]

    def __init__(self, commands: Sequence[Command], arguments: dict[str, Sequence[str]], text: str = "") -> None:
        """text: what stands on the line at first."""
        super().__init__()
        self._text = text
        self._early, self._early_ends = "", len(text)
        self._commands = [command for command in commands if command.words]
        self._completions = [command.words[0] for command in self._commands]
        for command in self._commands:
            self._completions += [f"{word} {value}" for word in command.words for value in arguments.get(command.id, ())]

    def compose(self) -> ComposeResult:
        with Vertical(id="line-box"):
            yield Static(id="line-hints", markup=False)
            with Horizontal(id="line-row"):
                yield Static(":", id="line-colon", markup=False)
                yield Input(
                    self._text, id="line", select_on_focus=False, suggester=SuggestFromList(self._completions), compact=True
                )

    def on_mount(self) -> None:
        self._hint(self._text)
        self.query_one("#line").focus()

    def _hint(self, typed: str) -> None:
        word = typed.split(" ", 1)[0]
        shown = [command for command in self._commands if any(each.startswith(word) for each in command.words)][:MOST_SHOWN]
        rows = []
        for command in shown:
            parts: list[Part] = [" ", (f"{command.words[0]} {command.argument}".ljust(20), "accent"), command.title]
            if command.changes:
                parts.append(("  asks first", "muted"))
            rows.append(line(*parts))
        self.query_one("#line-hints", Static).update(page(rows or [line((" no such command", "warn"))]))

    def take_early(self, text: str) -> None:
        """What was typed before the field had the focus: a fast hand loses no letter."""
        self._early += text
        self.call_after_refresh(self._insert_early)

    def _insert_early(self) -> None:
        """Before what the field took by itself meanwhile."""
        early, self._early = self._early, ""
        box, at = self.query_one("#line", Input), self._early_ends
        self._early_ends += len(early)
        box.value = box.value[:at] + early + box.value[at:]
        box.cursor_position = len(box.value)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._hint(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_complete(self) -> None:
        self.query_one("#line", Input).action_cursor_right()

    def action_cancel(self) -> None:
        self.dismiss(None)

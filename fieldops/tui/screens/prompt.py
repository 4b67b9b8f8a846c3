"""One word that only the person can say: for which device, to which host key it goes, and how long it is waited for."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from fieldops.tui.panels import prompt as panel
from fieldops.tui.panels.ink import line
from fieldops.tui.prompts import Asked

GUARD_S = 0.3
LOOK_S = 0.25
LONGEST = 1024


class SecretInput(Input):
    """What is typed is never shown, and never leaves by copy or cut."""

    def action_copy(self) -> None:
        """Nothing: it would hand the secret to the terminal."""

    def action_cut(self) -> None:
        """Likewise."""


class PromptScreen(ModalScreen[str | None]):
    """Dismissed with what was said, or None. It goes by itself when nobody waits for the answer any more."""

    hint = "Enter answer   Esc cancel what waits for it"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel", id="prompt.cancel")]

    def __init__(self, asked: Asked, *, guard_s: float = GUARD_S) -> None:
        super().__init__()
        self._asked = asked
        self._guard_s = guard_s

    def compose(self) -> ComposeResult:
        question = self._asked.question
        with Vertical(id="prompt") as box:
            box.border_title = panel.title(question)
            box.border_subtitle = line(self.hint).markup
            yield Static(panel.text(question, panel.WIDTH - 6), id="prompt-text", markup=False)
            kind = Input if question.echo else SecretInput
            yield kind(id="secret", password=not question.echo, max_length=LONGEST, compact=True, disabled=True)
            yield Static(id="prompt-left", markup=False)

    def on_mount(self) -> None:
        self.set_timer(self._guard_s, self._arm)
        self.set_interval(LOOK_S, self._look)
        self._look()

    def _arm(self) -> None:
        """Until now nothing had the focus: keys typed ahead, for a list or for another field, are no part of the answer."""
        box = self.query_one("#secret", Input)
        box.disabled = False
        box.focus()

    def _look(self) -> None:
        if self._asked.withdrawn:
            self._end(None)
        else:
            self.query_one("#prompt-left", Static).update(panel.left(self._asked.deadline.left()))

    def _end(self, said: str | None) -> None:
        box = self.query_one("#secret", Input)
        box.value = ""  # it stays in no widget that outlives the question
        if self.is_current:
            self.dismiss(said)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._end(event.value)

    def action_cancel(self) -> None:
        self._end(None)

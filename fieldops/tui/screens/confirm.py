"""The one dialog before a change. The focus is on Cancel, keys typed ahead are ignored, and the name unlocks the button."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from fieldops.tui.panels import asking
from fieldops.tui.panels.asking import Answer, Question
from fieldops.tui.panels.ink import Part, line

GUARD_S = 0.3
WIDTH = 76


class ConfirmScreen(ModalScreen[Answer | None]):
    """Dismissed with the person's words, or with None."""

    AUTO_FOCUS = ""
    hint = "Tab next field   Enter press the button   Esc cancel"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel", id="confirm.cancel")]

    def __init__(self, question: Question, *, guard_s: float = GUARD_S) -> None:
        super().__init__()
        self._question = question
        self._guard_s = guard_s
        self._armed = False

    def compose(self) -> ComposeResult:
        asked = self._question
        with VerticalScroll(id="confirm", can_focus=False, classes="loud" if asked.loud else None) as box:
            box.border_title = line(asked.title).markup
            box.border_subtitle = line(self.hint).markup
            yield Static(asking.question(asked, WIDTH - 6), id="confirm-text", markup=False)
            with Vertical(id="fields"):
                for each in asked.fields:
                    yield from _field(each.name, f"field-{each.name}", each.note, each.value)
                if asked.reason_asked:
                    yield from _field("reason", "reason", "for the audit log; may stay empty")
            if asked.unlock:
                what: tuple[Part, ...] = (asked.unlock_note,) if asked.unlock_note else ("type ", (asked.unlock, "accent"))
                yield Static(line(("unlock   ", "muted"), *what, " to unlock the button"), markup=False, classes="label")
                yield from _field("", "unlock", "")
            with Horizontal(id="buttons"):
                yield Button(asked.no, id="cancel", compact=True)
                if asked.third:
                    yield Button(asked.third, id="third", compact=True)
                yield Button(self._label(locked=bool(asked.unlock)), id="go", compact=True, disabled=True)

    def _label(self, *, locked: bool) -> str:
        return f"{self._question.verb} (locked)" if locked else self._question.verb

    def on_mount(self) -> None:
        self.set_timer(self._guard_s, self._arm)

    def _arm(self) -> None:
        """Until now nothing had the focus, so keys typed ahead went nowhere."""
        self._armed = True
        self._unlock()
        cancel = self.query_one_optional("#cancel")
        if cancel is not None:
            cancel.focus()

    @property
    def armed(self) -> bool:
        return self._armed

    def _unlock(self) -> None:
        asked = self._question
        if self.query_one_optional("#go") is None:
            return  # answered meanwhile
        typed = self.query_one("#unlock", Input).value if asked.unlock else ""
        locked = typed != asked.unlock
        go = self.query_one("#go", Button)
        go.disabled = locked or not self._armed
        go.label = self._label(locked=locked)

    def on_input_changed(self) -> None:
        self._unlock()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field goes on to the next one; it never says yes by itself."""
        event.stop()
        if event.input.id == "unlock" and not self.query_one("#go").disabled:
            self.query_one("#go").focus()
        else:
            self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "go":
            reason = self.query_one("#reason", Input).value.strip() if self._question.reason_asked else ""
            self.dismiss(Answer(reason, fields=self._typed()))
        elif event.button.id == "third":
            self.dismiss(Answer("", third=True, fields=self._typed()))
        else:
            self.dismiss(None)

    def _typed(self) -> dict[str, str]:
        return {each.name: self.query_one(f"#field-{each.name}", Input).value.strip() for each in self._question.fields}

    def action_cancel(self) -> None:
        if self._armed:
            self.dismiss(None)


def _field(name: str, id_: str, note: str, value: str = "") -> ComposeResult:
    """One row: a name, and where to type, with what belongs there until something does."""
    with Horizontal(classes="field"):
        yield Static(line((f"{name:<9}", "muted")), markup=False, classes="name")
        yield Input(value, placeholder=note, id=id_, max_length=500, compact=True)

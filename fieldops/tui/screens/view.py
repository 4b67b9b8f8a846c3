"""What all full screens share: the header row, the strip of the running job, the key bar, and a tick four times a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from fieldops.errors import FieldopsError
from fieldops.tui import figures
from fieldops.tui.commands import BY_ID, COMMANDS
from fieldops.tui.jobs import Job
from fieldops.tui.panels.ink import Part, line
from fieldops.tui.panels.progress import progress_bar

if TYPE_CHECKING:
    from fieldops.tui.app import Console
    from fieldops.tui.snapshots import Key

T = TypeVar("T")
KEY_NAMES = {
    "slash": "/", "colon": ":", "question_mark": "?", "enter": "Enter", "escape": "Esc", "space": "Space", "up": "Up", "down": "Down",
    "left": "Left", "right": "Right", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End", "tab": "Tab",
    "shift+tab": "Shift+Tab", "less_than_sign": "<", "greater_than_sign": ">", "delete": "Del", "backspace": "Backspace",
}  # fmt: skip
MOST_KEYS = 8  # in the key bar
SMALLEST = (60, 16)


def key_name(key: str) -> str:
    if key in KEY_NAMES:
        return KEY_NAMES[key]
    *modifiers, last = key.split("+")
    shown = KEY_NAMES.get(last, last)
    names = {"ctrl": "Ctrl", "shift": "Shift", "alt": "Alt", "super": "Super"}
    return "+".join([*(names.get(each, each) for each in modifiers), shown.upper() if modifiers and len(shown) == 1 else shown])


class Line(Static):
    """One row of content that is written to the terminal only when it differs from what stands there."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self._shown: Content | None = None

    def show(self, content: Content) -> None:
        if self._shown is None or content != self._shown or content.markup != self._shown.markup:
            self._shown = content
            self.update(content)


class View(Screen[None]):
    """scope: as commands name this screen in `where`."""

    scope: ClassVar[str] = ""
    AUTO_FOCUS = ""

    def compose(self) -> ComposeResult:
        yield Line(id="top")
        yield from self.body()
        yield Line(id="strip")
        yield Line(id="keys")
        yield Static(id="small", markup=False)

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    @property
    def console_app(self) -> Console:
        return cast("Console", self.app)

    @property
    def selected(self) -> Key | None:
        """The device that commands act on."""
        return None

    def on_mount(self) -> None:
        self.bindings_updated_signal.subscribe(self, lambda _screen: self.draw_keys())

    def on_screen_resume(self) -> None:
        self.tick()

    def on_resize(self) -> None:
        width, height = self.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        notice = self.query_one("#small", Static)
        notice.display = small
        if small:
            notice.update(
                f"This window is {width}x{height}; the console needs {SMALLEST[0]}x{SMALLEST[1]}. Esc, : and Ctrl+Q work."
            )
        self.tick()

    def tick(self) -> None:
        """Redraw what depends on time and on new snapshots. Cheap when nothing changed."""
        if not self.is_attached or self.query_one_optional("#small") is None:
            return  # not composed yet, or going away
        self.look()
        self.query_one("#top", Line).show(self.top(self.size.width))
        self.draw()
        self.draw_strip()
        self.draw_keys()

    def look(self) -> None:
        """Take the newest values before anything is drawn."""

    def draw(self) -> None:
        """The screen's own part, between header and key bar."""
        raise NotImplementedError

    def top(self, width: int) -> Content:
        raise NotImplementedError

    def draw_strip(self) -> None:
        strip = self.query_one("#strip", Line)
        shown = [job for job in self.console_app.jobs.running if job.title]
        strip.display = bool(shown)
        if shown:
            job = shown[-1]
            head = line((f" {figures.clean(job.title)}  ", "strong"))
            room = max(10, self.size.width - head.cell_length - 1)
            strip.show(head.append(progress_bar(job.progress, room, self.console_app.glyphs)))

    def draw_keys(self) -> None:
        width = self.size.width
        front = self.app.screen
        if front is not self:
            self.query_one("#keys", Line).show(line((f" {getattr(front, 'hint', '')}", "muted")))
            return
        shown: list[tuple[str, str]] = []
        for key, active in self.active_bindings.items():
            command = BY_ID.get(active.binding.id or "")
            if command is None or not active.binding.show or any(command.label == label for _, label in shown):
                continue
            shown.append((command.key_shown or key_name(key), command.label))
        order = {command.label: number for number, command in enumerate(COMMANDS) if command.label}
        shown.sort(key=lambda item: order[item[1]])
        self.query_one("#keys", Line).show(_fitting(shown[:MOST_KEYS], width))

    def open_filter(self, text: str, placeholder: str, *, after: str) -> None:
        """The focus moves at once, so that no letter typed next can be taken for a command."""
        from textual.widgets import Input

        box = self.query_one_optional("#filter", Input)
        if box is None:
            box = Input(id="filter", placeholder=placeholder, compact=True)
            self.mount(box, after=after)
        box.display = True
        box.value = text
        self.set_focus(box)

    def close_filter(self, then: Widget) -> bool:
        """Whether it was open. Its text stays for the next time."""
        box = self.query_one_optional("#filter")
        if box is None or not box.display:
            return False
        box.display = False
        self.set_focus(then)
        return True

    def may(self, command_id: str) -> bool:  # noqa: ARG002 - screens override
        """Whether a command of this screen can be used in the state it is in."""
        return True

    def start(
        self,
        title: str,
        work: Callable[[Job[T]], T],
        done: Callable[[T], None],
        failed: Callable[[FieldopsError], None] | None = None,
        *,
        changes: bool = False,
    ) -> Job[T]:
        """A job whose result is dropped when this screen is gone by then; failures go to the messages in any case."""

        def done_here(value: T) -> None:
            if self.is_attached:
                done(value)
                self.tick()

        def failed_here(error: FieldopsError) -> None:
            if failed is None or not self.is_attached:
                self.console_app.tell_error(error)
                return
            failed(error)
            self.tick()

        return self.console_app.jobs.start(Job(title, changes=changes), work, done_here, failed_here)


def _fitting(keys: list[tuple[str, str]], width: int) -> Content:
    """As many keys as the row holds; `? help` keeps its place."""
    parts: list[Part] = [" "]
    used = 1
    for key, label in keys:
        room = len(key) + len(label) + 3
        if used + room - 2 > width:
            break
        parts += [(key, "accent"), f" {label}  "]
        used += room
    return line(*parts)

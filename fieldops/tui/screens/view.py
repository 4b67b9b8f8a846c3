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
from fieldops.tui.commands import BY_ID, COMMANDS
from fieldops.tui.jobs import Job
from fieldops.tui.keynames import key_name
from fieldops.tui.panels.ink import Part, line
from fieldops.tui.panels.progress import job_strip

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.tui.front import Front
    from fieldops.tui.snapshots import Key
    from fieldops.wire import SlotStatus, VersionInfo

T = TypeVar("T")
MOST_KEYS = 8  # in the key bar, with help
MORE_FROM, MOST_IF_WIDE = 100, 13  # columns from which it holds more
GAP = 2  # between two keys of the bar
SMALLEST = (60, 16)


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
    def console_app(self) -> Front:
        return cast("Front", self.app)

    @property
    def selected(self) -> Key | None:
        """The device that commands act on."""
        return None

    @property
    def selected_version(self) -> tuple[SlotStatus, VersionInfo | None] | None:
        """The version under the cursor, where versions are listed."""
        return None

    @property
    def stranger(self) -> DeviceEntry | None:
        """A device under the cursor that is not in the list yet."""
        return None

    @property
    def text_to_copy(self) -> str:
        """The selected thing in full; "" for nothing."""
        return ""

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

    @property
    def ready(self) -> bool:
        """Neither coming up still nor going away already: its parts are there."""
        return self.is_attached and self.query_one_optional("#small") is not None

    def tick(self) -> None:
        """Redraw what depends on time and on new snapshots. Cheap when nothing changed."""
        if not self.ready:
            return
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
        shown = self.console_app.jobs.shown
        strip.display = bool(shown)
        if shown:
            strip.show(job_strip(shown[-1], len(shown) - 1, self.size.width, self.console_app.glyphs))

    def draw_keys(self) -> None:
        width = self.size.width
        front = self.app.screen
        if front is not self:
            self.query_one("#keys", Line).show(line())  # they are not for now; the dialog has its own
            return
        shown: list[tuple[str, str]] = []
        for key, active in self.active_bindings.items():
            command = BY_ID.get(active.binding.id or "")
            if command is None or not active.binding.show or any(command.label == label for _, label in shown):
                continue
            shown.append((command.key_shown or key_name(key), command.label))
        order = {command.label: number for number, command in enumerate(COMMANDS) if command.label}
        shown.sort(key=lambda item: order[item[1]])
        most = MOST_IF_WIDE if width >= MORE_FROM else MOST_KEYS
        helps = [item for item in shown if item[1] == BY_ID["app.help"].label]
        others = [item for item in shown if item not in helps]
        self.query_one("#keys", Line).show(_fitting(others[: most - len(helps)], helps, width))

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


def _fitting(keys: list[tuple[str, str]], last: list[tuple[str, str]], width: int) -> Content:
    """As many keys as the row holds; the last ones keep their place."""
    parts: list[Part] = [" "]
    used = 1 + sum(_room(*each) for each in last)
    for key, label in keys:
        if used + _room(key, label) - GAP > width:
            break
        parts += [(key, "accent"), f" {label}{' ' * GAP}"]
        used += _room(key, label)
    for key, label in last:
        parts += [(key, "accent"), f" {label}{' ' * GAP}"]
    return line(*parts)


def _room(key: str, label: str) -> int:
    return len(key) + 1 + len(label) + GAP

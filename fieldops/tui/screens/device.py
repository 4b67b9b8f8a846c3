"""One device: resources, drift, models. On a wide screen drift stands beside the resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from fieldops.tui.commands import bindings
from fieldops.tui.panels import device as panel
from fieldops.tui.panels import top
from fieldops.tui.panels.columns import Cell
from fieldops.tui.screens.view import Line, View
from fieldops.tui.snapshots import Key, Sight
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from fieldops.wire import SlotStatus, VersionInfo

BESIDE_FROM = 110  # columns
MOST_ROWS = 10  # of the version list, so that the slot below keeps its room


class DeviceScreen(View):
    scope = "device"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("device"))

    def __init__(self, sight: Sight, key: Key) -> None:
        super().__init__()
        self._key = key
        self._sight = sight
        self._tab = panel.TABS[0]
        self._rows: dict[str, tuple[SlotStatus, VersionInfo | None]] = {}

    def body(self) -> ComposeResult:
        yield Line(id="tabs")
        with Horizontal(id="pages"):
            with VerticalScroll(id="left", can_focus=True):
                yield Static(id="left-text", markup=False)
            with VerticalScroll(id="right", can_focus=False):
                yield Static(id="right-text", markup=False)
        with Vertical(id="models"):
            yield LineTable(panel.VERSION_COLUMNS, self._cells, self.console_app.glyphs, empty="no models here", id="versions")
            with VerticalScroll(id="slot", can_focus=False):
                yield Static(id="slot-text", markup=False)

    def on_mount(self) -> None:
        self._show_tab(self._tab)

    @property
    def table(self) -> LineTable:
        return self.query_one("#versions", LineTable)

    @property
    def selected(self) -> Key:
        return self._key

    @property
    def selected_version(self) -> tuple[SlotStatus, VersionInfo | None] | None:
        """The row under the cursor; None outside the models tab."""
        if self._tab != "models" or self.table.cursor is None:
            return None
        return self._rows.get(self.table.cursor)

    @property
    def tab(self) -> str:
        return self._tab

    @property
    def on_trial(self) -> SlotStatus | None:
        """The first model that waits for a commit."""
        snapshot = self._sight.snapshot
        slots = snapshot.models.slots if snapshot and snapshot.models else []
        return next((slot for slot in slots if slot.state == "trial" and slot.candidate), None)

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return panel.version_cells(*self._rows[key])

    # --- drawing -------------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        self._sight = self.console_app.store.get(self._key) or self._sight

    def draw(self) -> None:
        self.query_one("#tabs", Line).show(panel.tabs(self._tab, self.size.width))
        if self._tab == "models":
            self._draw_models()
        else:
            self._draw_pages()

    def _draw_pages(self) -> None:
        glyphs = self.console_app.glyphs
        beside = self._tab == "resources" and self.size.width >= BESIDE_FROM
        right = self.query_one("#right")
        right.display = beside
        width = (self.size.width - 3) // 2 - 5 if beside else self.size.width - 5
        width = min(width, 100)
        if self._tab == "resources":
            left = panel.resources(self._sight, width, glyphs, causes=not beside)
        else:
            left = panel.drift(self._sight, width, glyphs)
        _put(self.query_one("#left-text", Static), left)
        if beside:
            _put(self.query_one("#right-text", Static), panel.drift(self._sight, width, glyphs))

    def _draw_models(self) -> None:
        rows = panel.version_rows(self._sight.snapshot)
        self._rows = {f"{slot.model} {info.version if info else ''}": (slot, info) for slot, info in rows}
        self.table.set_rows(list(self._rows))
        self.table.styles.height = min(len(self._rows), MOST_ROWS) + 2
        self.table.redraw_changed()
        chosen = self.selected_version
        width = min(self.size.width - 5, 110)
        _put(self.query_one("#slot-text", Static), panel.slot(chosen[0] if chosen else None, width, self.console_app.glyphs))

    def top(self, width: int) -> Content:
        app = self.console_app
        now = app.site.now()
        right: list[str | tuple[str, object]] = [("PAUSED", "warn")] if app.paused else []
        return top.titled(self._sight.entry.name, panel.title_parts(self._sight, now, width), right, now, width, app.glyphs)  # type: ignore[arg-type]

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        self.tick()

    # --- commands --------------------------------------------------------------------------------------------------------------

    def _show_tab(self, name: str) -> None:
        self._tab = name
        models = name == "models"
        self.query_one("#models").display = models
        self.query_one("#pages").display = not models
        (self.table if models else self.query_one("#left")).focus()
        self.query_one("#left").scroll_home(animate=False)
        self.tick()

    def do_tab_resources(self, _argument: str = "") -> None:
        self._show_tab("resources")

    def do_tab_drift(self, _argument: str = "") -> None:
        self._show_tab("drift")

    def do_tab_models(self, _argument: str = "") -> None:
        self._show_tab("models")

    def do_next_tab(self, _argument: str = "") -> None:
        self._show_tab(panel.TABS[(panel.TABS.index(self._tab) + 1) % len(panel.TABS)])

    def do_previous_tab(self, _argument: str = "") -> None:
        self._show_tab(panel.TABS[panel.TABS.index(self._tab) - 1])

    def may(self, command_id: str) -> bool:
        return command_id != "device.commit" or self.on_trial is not None


def _put(widget: Static, content: Content) -> None:
    if content != widget.content:
        widget.update(content)

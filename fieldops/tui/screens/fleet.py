"""The root: all devices, worst first, and beside them on a wide screen the one under the cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from fieldops.tui.commands import BY_ID, bindings
from fieldops.tui.panels import fleet as panel
from fieldops.tui.panels import top
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import Part, line
from fieldops.tui.screens.view import Line, View
from fieldops.tui.snapshots import SORTS, Key, Sight, arranged, counts, parse_filter
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from textual.widgets import Input

SIDE_FROM = 110  # columns
SIDE_WIDTH = 40
ORDER_EVERY_S = 1.0
ORDER_AT_ONCE = 500  # up to so many rows the worst comes to the top at every tick until a key is pressed
STILL_S = 1.0  # rows never move within this time of a key

_OF_A_DEVICE = {
    "fleet.open", "device.sideload", "device.rollback", "setup.trust_host", "setup.enrol", "setup.log_in",
}  # fmt: skip


class FleetScreen(View):
    scope = "fleet"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("fleet"))

    def __init__(self) -> None:
        super().__init__()
        self._sights: Mapping[Key, Sight] = {}
        self._filter = ""
        self._faults_only = False
        self._sort = 0
        self._reversed = False
        self._ordered_at = float("-inf")
        self._moved_at = float("-inf")

    def body(self) -> ComposeResult:
        app = self.console_app
        with Horizontal(id="fleet"):
            yield LineTable(panel.COLUMNS, self._cells, app.glyphs, empty="reading the inventory ...", id="devices")
            yield Static(id="side", markup=False)
        yield Static(id="first", markup=False)
        yield Line(id="status")

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> LineTable:
        return self.query_one("#devices", LineTable)

    @property
    def selected(self) -> Key | None:
        cursor = self.table.cursor
        return Key(cursor) if cursor is not None else None

    @property
    def text_to_copy(self) -> str:
        """The whole of the panel beside the list, with the way to the device."""
        key = self.selected
        sight = self._sights.get(key) if key is not None else None
        if sight is None:
            return ""
        entry = sight.entry
        text = panel.side(sight, self.console_app.site.now(), 100, self.console_app.glyphs).plain
        return f"{text}\naddress {entry.lan or entry.ssh or '-'}  id {entry.id or '-'}"

    @property
    def shown(self) -> Sequence[str]:
        return self.table.keys

    def _cells(self, key: str) -> tuple[Cell, ...]:
        sight = self._sights.get(Key(key))
        return panel.cells(sight, self.console_app.site.now()) if sight else (Cell("-"),) * len(panel.COLUMNS)

    # --- drawing -----------------------------------------------------------------------------------------------------------

    def show_sights(self, sights: Mapping[Key, Sight]) -> None:
        """All devices as they are known now."""
        self._sights = sights
        monotonic = self.console_app.site.monotonic()
        untouched = not self.table.moved and len(sights) <= ORDER_AT_ONCE
        if untouched or (monotonic - self._ordered_at >= ORDER_EVERY_S and monotonic - self._moved_at >= STILL_S):
            self.rearrange()

    def rearrange(self) -> None:
        """Order and filter anew."""
        app = self.console_app
        self._ordered_at = app.site.monotonic()
        self.table.set_rows(
            arranged(
                self._sights,
                terms=parse_filter(self._filter),
                faults_only=self._faults_only,
                sort=SORTS[self._sort],
                backwards=self._reversed,
                now=app.site.now(),
            )
        )
        if not self._sights:
            self.table.set_empty("reading the inventory ..." if not app.inventory_read else "no devices yet")
        else:
            self.table.set_empty("no device matches; Esc shows all")

    def _draw_first(self) -> None:
        """In place of an empty list: how to get devices, or why the list cannot be read."""
        app = self.console_app
        empty = not self._sights and (app.inventory_read or app.inventory_fault is not None)
        first = self.query_one("#first", Static)
        self.query_one("#fleet").display = not empty
        first.display = empty
        if empty:
            content = panel.first_run(app.site.inventory_place, app.inventory_fault, min(self.size.width - 4, 96), app.glyphs)
            if content != first.content:
                first.update(content)

    def draw(self) -> None:
        self._draw_first()
        self.table.redraw_changed()
        self.query_one("#status", Line).show(self._status() if self._sights else line())
        side = self.query_one("#side", Static)
        side.display = self.size.width >= SIDE_FROM
        if side.display:
            key = self.selected
            content = panel.side(
                self._sights.get(key) if key else None, self.console_app.site.now(), SIDE_WIDTH - 3, self.console_app.glyphs
            )
            if content != side.content:
                side.update(content)

    def top(self, width: int) -> Content:
        app = self.console_app
        now = app.site.now()
        status = app.sync_state
        oldest = now - status.oldest if status and status.oldest is not None else None
        queued = status.queued if status else None
        return top.fleet(counts(self._sights), queued, oldest, now, width, app.glyphs, paused=app.paused, store=app.store_state)

    def _status(self) -> Content:
        parts: list[Part] = [f" {len(self.table.keys)} of {len(self._sights)} shown"]
        dot = f"  {self.console_app.glyphs.dot}  "
        if self._filter:
            parts += [dot, ("/" + self._filter, "accent")]
        if self._faults_only:
            parts += [dot, ("faults only", "warn")]
        by = "" if self._sort == 0 else "by "
        parts += [(f"{dot}{by}{SORTS[self._sort]}{', reversed' * self._reversed}", "muted")]
        return line(*parts).truncate(self.size.width)

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        if self.table.moved:
            self._moved_at = self.console_app.site.monotonic()
        self.tick()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_open()

    # --- commands ------------------------------------------------------------------------------------------------------------

    def do_open(self, _argument: str = "") -> None:
        key = self.selected
        if key is not None:
            self.console_app.open_device(key)

    def do_filter(self, argument: str = "") -> None:
        """With an argument sets it at once; without one asks, with the last filter still there."""
        if argument:
            self._set_filter(argument)
            return
        self.open_filter(self._filter, "site:north  drift:data  !st:ok  text", after="#status")

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.display:
            self._set_filter(event.value)

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.close_filter(self.table)

    def _set_filter(self, text: str) -> None:
        self._filter = text.strip()
        self.rearrange()
        self.tick()

    def do_faults(self, _argument: str = "") -> None:
        self._faults_only = not self._faults_only
        self.rearrange()
        self.tick()

    def do_sort(self, argument: str = "") -> None:
        if argument and argument not in SORTS:
            self.console_app.tell(f"no column {argument!r}; there are: {', '.join(SORTS)}", "warning")
            return
        self._sort = SORTS.index(argument) if argument else (self._sort + 1) % len(SORTS)
        self._reversed = False
        self.rearrange()
        self.tick()

    def do_reverse(self, _argument: str = "") -> None:
        self._reversed = not self._reversed
        self.rearrange()
        self.tick()

    def do_back(self, _argument: str = "") -> None:
        """Esc leaves the filter box, then clears what hides rows; then it stops what runs. It never quits."""
        if self.close_filter(self.table):
            self._set_filter("")
        elif self._filter or self._faults_only:
            self._faults_only = False
            self._set_filter("")
        elif self.console_app.jobs.shown:
            self.console_app.run_command(BY_ID["job.stop"])

    def may(self, command_id: str) -> bool:
        if command_id in _OF_A_DEVICE:
            return self.selected is not None
        return True

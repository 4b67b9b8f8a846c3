"""One device: resources, drift, models, its log, its acts, its benchmarks. On a wide screen drift stands beside the resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from fieldops.tui.commands import bindings
from fieldops.tui.page import Page
from fieldops.tui.panels import bench, models, record, top
from fieldops.tui.panels import device as panel
from fieldops.tui.panels import drift as drift_panel
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import line, page
from fieldops.tui.readtable import ReadTable
from fieldops.tui.screens.view import Line, View
from fieldops.tui.snapshots import Key, Sight
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from textual.widgets import Input

    from fieldops.errors import FieldopsError
    from fieldops.tui.jobs import Job
    from fieldops.wire import SlotStatus, VersionInfo

BESIDE_FROM = 110  # columns
MOST_ROWS = 10  # of the version list, so that the slot below keeps its room
LISTS = ("log", "acts", "bench")
READ_EVERY_S = 3.0
READ_S = 10.0
NEWEST = 500


class DeviceScreen(View):
    scope = "device"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("device"))

    def __init__(self, sight: Sight, key: Key) -> None:
        super().__init__()
        self._key = key
        self._sight = sight
        self._tab = panel.TABS[0]
        self._rows: dict[str, tuple[SlotStatus, VersionInfo | None]] = {}
        self._filter = ""
        self._reading = False
        self._read_at = float("-inf")

    def body(self) -> ComposeResult:
        glyphs = self.console_app.glyphs
        yield Line(id="tabs")
        with Horizontal(id="pages"):
            with Page(id="left", can_focus=True):
                yield Static(id="left-text", markup=False)
            with Page(id="right", can_focus=False):
                yield Static(id="right-text", markup=False)
        with Vertical(id="models"):
            yield LineTable(models.VERSION_COLUMNS, self._cells, glyphs, empty="no models here", id="versions")
            with Page(id="slot", can_focus=False):
                yield Static(id="slot-text", markup=False)
        with Vertical(id="lists"):
            yield ReadTable(record.LOG_COLUMNS, str, record.log_cells, glyphs, none="its agent has logged nothing", id="log")
            yield ReadTable(
                record.ACT_COLUMNS, lambda act: str(act.seq), record.act_cells, glyphs, none="it has done nothing yet", id="acts"
            )
            yield ReadTable(
                bench.COLUMNS, lambda run: str(run[0]), bench.cells, glyphs, none="no runs from here yet: b measures", id="bench"
            )
        yield Line(id="status")

    def on_mount(self) -> None:
        self._show_tab(self._tab)

    @property
    def table(self) -> LineTable:
        return self.query_one("#versions", LineTable)

    @property
    def lines(self) -> ReadTable[Any] | None:
        """The list in front; None on the other tabs."""
        return self.query_one(f"#{self._tab}", ReadTable) if self._tab in LISTS else None

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
    def text_to_copy(self) -> str:
        """The line under the cursor of a list, else the whole tab."""
        shown = self.lines
        if shown is not None:
            row = shown.chosen
            return row if isinstance(row, str) else shown.text_of(row) if row is not None else ""
        if self._tab == "models":
            rows = ["  ".join(cell.text for cell in self._cells(key)) for key in self._rows]
            return "\n".join([*rows, str(self.query_one("#slot-text", Static).content)])
        entry = self._sight.entry
        return f"{entry.name}  {entry.lan or entry.ssh or ''}\n{self.query_one('#left-text', Static).content}"

    def _slots(self) -> list[SlotStatus]:
        snapshot = self._sight.snapshot
        return list(snapshot.models.slots) if snapshot and snapshot.models else []

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return models.version_cells(*self._rows[key])

    # --- drawing -------------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        self._sight = self.console_app.store.get(self._key) or self._sight

    def draw(self) -> None:
        note = panel.history_note(self._sight) if self._tab == "resources" else ""
        self.query_one("#tabs", Line).show(panel.tabs(self._tab, self.size.width, note))
        status = self.query_one("#status", Line)
        status.display = self._tab in LISTS
        if self._tab in LISTS:
            self._draw_list(status)
        elif self._tab == "models":
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
            left = drift_panel.drift(self._sight, width, glyphs)
        _put(self.query_one("#left-text", Static), left)
        if beside:
            _put(self.query_one("#right-text", Static), drift_panel.drift(self._sight, width, glyphs))

    def _draw_models(self) -> None:
        rows = models.version_rows(self._sight.snapshot)
        self._rows = {f"{slot.model} {info.version if info else ''}": (slot, info) for slot, info in rows}
        width = min(self.size.width - 5, 110)
        self.table.set_empty(models.none_text(self._sight))
        self.table.set_rows(list(self._rows))
        self.table.styles.height = max(1, min(len(self._rows), MOST_ROWS)) + 2
        self.table.redraw_changed()
        chosen = self.selected_version
        trouble = drift_panel.trouble(self._sight.snapshot, width)
        slot = models.slot(chosen[0], self.console_app.site.now(), width, self.console_app.glyphs) if chosen else page([])
        _put(self.query_one("#slot-text", Static), page([*trouble, slot]))

    def _draw_list(self, status: Line) -> None:
        shown, app = self.lines, self.console_app
        if shown is None:
            return
        part, whole = shown.count
        said = f" {part} of {whole} shown" if shown.was_read else " reading"
        words = (f"  {app.glyphs.dot}  /{self._filter}", "accent") if self._filter else ""
        status.show(line(said, words).truncate(self.size.width))  # type: ignore[arg-type]
        if not self._reading and not app.paused and app.site.monotonic() - self._read_at >= READ_EVERY_S:
            self._read()

    def top(self, width: int) -> Content:
        app = self.console_app
        now = app.site.now()
        right: list[str | tuple[str, object]] = [("PAUSED", "warn")] if app.paused else []
        return top.titled(self._sight.entry.name, panel.title_parts(self._sight, now, width), right, now, width, app.glyphs)  # type: ignore[arg-type]

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        self.tick()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_row()

    # --- the lists -------------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        site, entry, tab, shown = self.console_app.site, self._sight.entry, self._tab, self.lines
        self._reading, self._read_at = True, site.monotonic()

        def work(job: Job[list[Any]]) -> list[Any]:
            deadline = site.deadline(READ_S, job.cancel)
            if tab == "log":
                return list(reversed(site.logs(entry, NEWEST, deadline)))
            if tab == "acts":
                return list(reversed(site.acts(entry, NEWEST, deadline)))
            return list(site.benches(entry.name))

        def read(rows: list[Any]) -> None:
            self._reading = False
            if shown is not None:
                shown.put(rows)

        def failed(error: FieldopsError) -> None:
            self._reading = False
            if shown is not None:
                shown.fail(f"{error.message} - {error.next_step}")

        self.start("", work, read, failed)

    def do_row(self, _argument: str = "") -> None:
        """Enter on a row of a list: the whole of it."""
        shown, app = self.lines, self.console_app
        row = shown.chosen if shown is not None else None
        if shown is None or row is None:
            return
        if self._tab == "bench":
            app.read_text("BENCHMARK", lambda width: bench.bench_text(row[1], width))
        else:
            text = row if self._tab == "log" else shown.text_of(row)
            app.read_text(self._tab.upper(), lambda width: record.in_full(text, width))

    def do_filter(self, argument: str = "") -> None:
        if argument:
            self._narrow(argument)
        else:
            self.open_filter(self._filter, "words of the line; !word leaves out", after="#status")

    def _narrow(self, text: str) -> None:
        self._filter = text
        shown = self.lines
        if shown is not None:
            shown.narrow(text)
        self.tick()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.display:
            self._narrow(event.value)

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.close_filter(self.lines or self.query_one("#left"))

    # --- commands --------------------------------------------------------------------------------------------------------------

    def _show_tab(self, name: str) -> None:
        self.close_filter(self.query_one("#left"))
        self._tab, self._read_at, self._filter = name, float("-inf"), ""
        self.query_one("#models").display = name == "models"
        self.query_one("#pages").display = name in {"resources", "drift"}
        self.query_one("#lists").display = name in LISTS
        for each in LISTS:
            self.query_one(f"#{each}").display = each == name
        shown = self.lines
        if shown is not None:
            shown.narrow("")
        (shown or (self.table if name == "models" else self.query_one("#left"))).focus()
        self.query_one("#left").scroll_home(animate=False)
        self.refresh_bindings()
        self.tick()

    def do_tab_resources(self, _argument: str = "") -> None:
        self._show_tab("resources")

    def do_tab_drift(self, _argument: str = "") -> None:
        self._show_tab("drift")

    def do_tab_models(self, _argument: str = "") -> None:
        self._show_tab("models")

    def do_tab_log(self, _argument: str = "") -> None:
        self._show_tab("log")

    def do_tab_acts(self, _argument: str = "") -> None:
        self._show_tab("acts")

    def do_tab_bench(self, _argument: str = "") -> None:
        self._show_tab("bench")

    def do_next_tab(self, _argument: str = "") -> None:
        self._show_tab(panel.TABS[(panel.TABS.index(self._tab) + 1) % len(panel.TABS)])

    def do_previous_tab(self, _argument: str = "") -> None:
        self._show_tab(panel.TABS[panel.TABS.index(self._tab) - 1])

    def do_back(self, _argument: str = "") -> None:
        """Esc leaves the filter, then clears it, then goes back."""
        if self.close_filter(self.lines or self.query_one("#left")) or self._filter:
            self._narrow("")
        else:
            self.console_app.leave()

    def may(self, command_id: str) -> bool:
        slots = self._slots()
        if command_id == "device.commit":
            return any(slot.state == "trial" and slot.candidate for slot in slots)
        if command_id == "device.disarm":
            return any(slot.armed_until is not None for slot in slots)
        if command_id in {"device.row", "device.filter"}:
            return self._tab in LISTS
        if command_id in {"device.bench", "device.baseline", "device.rollback"}:
            return bool(slots)
        return True


def _put(widget: Static, content: Content) -> None:
    if content != widget.content:
        widget.update(content)

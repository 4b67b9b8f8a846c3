"""The laptop's own log, newest first: what was done, by whose word, and what the centre has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.commands import bindings
from fieldops.tui.panels import top
from fieldops.tui.panels import trail as panel
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import Part
from fieldops.tui.readtable import holds
from fieldops.tui.screens.view import Line, View
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from textual.widgets import Input

    from fieldops.audit.entry import Entry
    from fieldops.operations.trail import TrailReport
    from fieldops.tui.jobs import Job

NEWEST = 2000
READ_EVERY_S = 2.0
VERIFY_S = 60.0


class AuditScreen(View):
    scope = "audit"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("audit"))

    def __init__(self, words: str = "") -> None:
        """words: what it is narrowed to at first."""
        super().__init__()
        self._entries: dict[str, Entry] = {}
        self._report: TrailReport | None = None
        self._filter = words
        self._read_at = float("-inf")
        self._reading = False

    def body(self) -> ComposeResult:
        yield Line(id="status")
        yield LineTable(panel.COLUMNS, self._cells, self.console_app.glyphs, empty="reading the log ...", id="entries")

    def on_mount(self) -> None:
        self.table.focus()
        self.do_refresh()

    @property
    def text_to_copy(self) -> str:
        key = self.table.cursor
        return panel.entry_in_full(self._entries[key], 100).plain if key is not None else ""

    @property
    def table(self) -> LineTable:
        return self.query_one("#entries", LineTable)

    def _cells(self, key: str) -> tuple[Cell, ...]:
        status = self.console_app.sync_state
        entry = self._entries[key]
        return panel.cells(entry, status.acked if status else None, self.console_app.device_name(entry.device))

    def _show(self, entries: list[Entry]) -> None:
        self._reading = False
        self._entries = {str(entry.seq): entry for entry in entries}
        self.table.set_empty("nothing was done yet" if not self._filter else "no entry matches; Esc shows all")
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._filter.lower().split()

        def text(key: str) -> str:
            """Also what has no column: who, why and the ticket."""
            entry = self._entries[key]
            return " ".join([*(cell.text for cell in self._cells(key)), entry.actor, entry.reason, entry.ticket])

        self.table.set_rows([key for key in self._entries if holds(text(key), wanted)])

    def draw(self) -> None:
        app = self.console_app
        self.query_one("#status", Line).show(
            panel.state_line(app.sync_state, self._report, app.site.now(), self.size.width, app.glyphs)
        )
        self.table.redraw_changed()
        if not self._reading and app.site.monotonic() - self._read_at >= READ_EVERY_S:
            self.do_refresh()

    def top(self, width: int) -> Content:
        app = self.console_app
        parts: list[Part] = [figures.clip(app.actor, 24, app.glyphs)]
        if self._filter:
            parts.append((f"/{self._filter}", "accent"))
            parts.append(f"{len(self.table.keys)} of {len(self._entries)}")
        return top.titled("Audit", parts, [], app.site.now(), width, app.glyphs)

    # --- commands --------------------------------------------------------------------------------------------------------------

    def do_refresh(self, _argument: str = "") -> None:
        site = self.console_app.site
        self._reading = True
        self._read_at = site.monotonic()
        self.start("", lambda _job: site.trail(NEWEST), self._show, self._not_read)
        self.console_app.read_sync_state()

    def _not_read(self, error: Exception) -> None:
        self._reading = False
        self.table.set_empty(str(error))

    def do_verify(self, _argument: str = "") -> None:
        site = self.console_app.site

        def verified(report: TrailReport) -> None:
            self._report = report
            if not report.ok:
                self.console_app.tell("log BROKEN: " + "; ".join(report.problems), "error")

        def work(job: Job[TrailReport]) -> TrailReport:
            return site.verify_trail(site.deadline(VERIFY_S, job.cancel))

        self.start("verifying the log", work, verified)

    def do_open(self, _argument: str = "") -> None:
        key = self.table.cursor
        if key is not None:
            entry = self._entries[key]
            self.console_app.read_text(f"ENTRY {entry.seq}", lambda width: panel.entry_in_full(entry, width))

    def do_filter(self, argument: str = "") -> None:
        if argument:
            self._filter = argument
            self._arrange()
            return
        self.open_filter(self._filter, "text in any column", after="#entries")

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.display:
            self._filter = event.value
            self._arrange()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.close_filter(self.table)

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_open()

    def do_back(self, _argument: str = "") -> None:
        if self.close_filter(self.table) or self._filter:
            self._filter = ""
            self._arrange()
        else:
            self.console_app.leave()

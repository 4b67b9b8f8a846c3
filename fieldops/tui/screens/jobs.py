"""All work of this session: what runs, how far it is, and how the rest ended."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from fieldops.tui.commands import bindings
from fieldops.tui.jobs import Job
from fieldops.tui.panels import jobs as panel
from fieldops.tui.panels import top
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import page
from fieldops.tui.running import stop
from fieldops.tui.screens.view import View
from fieldops.tui.table import LineTable


class JobsScreen(View):
    scope = "jobs"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("jobs"))

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, Job[Any]] = {}

    def body(self) -> ComposeResult:
        yield LineTable(panel.COLUMNS, self._cells, self.console_app.glyphs, empty="no work in this session yet", id="jobs")

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> LineTable:
        return self.query_one("#jobs", LineTable)

    @property
    def chosen(self) -> Job[Any] | None:
        return self._jobs.get(self.table.cursor or "")

    @property
    def text_to_copy(self) -> str:
        job = self.chosen
        return panel.text(job, 100).plain if job is not None else ""

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return panel.cells(self._jobs[key], self.console_app.glyphs)

    def draw(self) -> None:
        self._jobs = {str(id(job)): job for job in self.console_app.jobs.newest_first}
        self.table.set_rows(list(self._jobs))
        self.table.redraw_changed()

    def draw_strip(self) -> None:
        """The list itself shows the progress."""
        self.query_one("#strip").display = False

    def top(self, width: int) -> Content:
        app = self.console_app
        running = len(app.jobs.shown)
        return top.titled("Jobs", [f"{running} running" if running else "nothing runs"], [], app.site.now(), width, app.glyphs)

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        self.refresh_bindings()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_open()

    # --- commands ----------------------------------------------------------------------------------------------------------

    def do_open(self, _argument: str = "") -> None:
        job = self.chosen
        if job is not None:
            self.console_app.read_text(job.title, lambda width: page([panel.text(job, width)]))

    def do_stop(self, _argument: str = "") -> None:
        job = self.chosen
        if job is not None and not job.ended:
            stop(self.console_app, job)

    def may(self, command_id: str) -> bool:
        if command_id == "jobs.open":
            return self.chosen is not None
        return True

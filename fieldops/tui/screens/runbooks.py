"""Signed runbooks, and the runs of this laptop: begin one, go on with one that was cut off, look at what each did."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static

from fieldops.operations.gate import Words
from fieldops.ports import Progress
from fieldops.tui.commands import bindings
from fieldops.tui.jobs import Job
from fieldops.tui.page import Page
from fieldops.tui.panels import runbooks as panel
from fieldops.tui.panels import top
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import page
from fieldops.tui.screens.view import View
from fieldops.tui.snapshots import Key, key_of
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.runbook import RunReport
    from fieldops.runbooks.engine import Action, Fact
    from fieldops.runbooks.format import Runbook
    from fieldops.tui.front import Front
    from fieldops.tui.panels.asking import Answer

READ_EVERY_S = 2.0
RUN_S = 3600.0
MOST_ROWS = 9
Shown = tuple[list["Runbook"], list["RunReport"]]


class RunbooksScreen(View):
    scope = "runbooks"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("runbooks"))

    def __init__(self, entry: DeviceEntry | None) -> None:
        """entry: the device one came from."""
        super().__init__()
        self._entry = entry
        self._books: dict[str, Runbook] = {}
        self._runs: dict[str, RunReport] = {}
        self._read_at = float("-inf")
        self._reading = False

    def body(self) -> ComposeResult:
        yield LineTable(panel.COLUMNS, self._cells, self.console_app.glyphs, empty="reading the signed runbooks ...", id="books")
        with Page(id="book", can_focus=False):
            yield Static(id="book-text", markup=False)

    def on_mount(self) -> None:
        self.table.focus()
        self.do_refresh()

    @property
    def table(self) -> LineTable:
        return self.query_one("#books", LineTable)

    @property
    def selected(self) -> Key | None:
        return key_of(self._entry) if self._entry is not None else None

    @property
    def text_to_copy(self) -> str:
        return self._text(100).plain

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return panel.run_cells(self._runs[key]) if key in self._runs else panel.book_cells(self._books[key])

    # --- drawing -------------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        rows = len(self._books) + len(self._runs)
        self.table.styles.height = max(3, min(rows, MOST_ROWS, self.size.height // 2 - 2) + 2)
        self.table.redraw_changed()
        text = self.query_one("#book-text", Static)
        content = self._text(min(self.size.width - 5, 110))
        if content != text.content:
            text.update(content)
        site = self.console_app.site
        if not self._reading and site.monotonic() - self._read_at >= READ_EVERY_S:
            self.do_refresh()

    def _text(self, width: int) -> Content:
        key, glyphs = self.table.cursor or "", self.console_app.glyphs
        if key in self._runs:
            return panel.run_text(self._runs[key], width, glyphs)
        return panel.book_text(self._books[key], width, glyphs) if key in self._books else page([])

    def top(self, width: int) -> Content:
        app = self.console_app
        parts = [self._entry.name] if self._entry is not None else []
        return top.titled("Runbooks", parts, [], app.site.now(), width, app.glyphs)  # type: ignore[arg-type]

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        self.tick()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_open()

    # --- commands ------------------------------------------------------------------------------------------------------------

    def do_refresh(self, _argument: str = "") -> None:
        site = self.console_app.site
        self._reading, self._read_at = True, site.monotonic()

        def read(_job: Job[Shown]) -> Shown:
            return site.runbooks(), site.runs()

        self.start("", read, self._show, self._not_read)

    def _show(self, shown: Shown) -> None:
        self._reading = False
        books, runs = shown
        self._books = {f"runbook {book.id}": book for book in books}
        self._runs = {f"run {run.run}": run for run in runs}
        open_runs = [key for key, run in self._runs.items() if run.outcome is None]
        ended = [key for key in self._runs if key not in open_runs]
        self.table.set_empty("no signed runbooks yet: they come with the policy, from a stick (S on a device)")
        self.table.set_rows([*open_runs, *self._books, *ended])
        self.refresh_bindings()

    def _not_read(self, error: FieldopsError) -> None:
        self._reading = False
        self.table.set_empty(f"{error.message} - {error.next_step}")

    def do_open(self, _argument: str = "") -> None:
        """Begin a runbook; go on with a run that is not over; read one that is."""
        app, key = self.console_app, self.table.cursor or ""
        run, book = self._runs.get(key), self._books.get(key)
        if run is not None and run.outcome is None:
            app.ask(panel.resume_question(run), lambda answer: self._resume(run, answer))
        elif run is not None:
            app.read_text(f"RUN {run.run}", lambda width: panel.run_text(run, width, app.glyphs))
        elif book is not None:
            sight = app.sight
            snapshot = sight.snapshot if sight is not None else None
            models = [slot.model for slot in snapshot.models.slots] if snapshot and snapshot.models else []
            name = self._entry.name if self._entry is not None else ""
            app.ask(panel.begin_question(book, name, models), lambda answer: self._begin(book, answer))

    def _begin(self, book: Runbook, answer: Answer | None) -> None:
        if answer is None:
            return
        app, site = self.console_app, self.console_app.site
        typed, words = answer.fields["params"], Words(reason=answer.reason)

        def begin(_job: Job[tuple[str, dict[str, str]]]) -> tuple[str, dict[str, str]]:
            params = site.resolve_run(book.id, typed)
            return site.begin_run(book.id, params, words), params

        app.jobs.start(Job(""), begin, lambda begun: go_on(app, book.id, *begun), app.tell_error)

    def _resume(self, run: RunReport, answer: Answer | None) -> None:
        if answer is not None:
            go_on(self.console_app, run.runbook, run.run, run.params)


def go_on(app: Front, runbook: str, run: str, params: dict[str, str]) -> None:
    """Its steps are on disk as they begin and end, so the list shows them as they go, whoever looks."""
    site, title = app.site, f"Runbook {runbook} on {params.get('device', 'this laptop')}"

    def work(job: Job[RunReport]) -> RunReport:
        count = 0

        def said(action: Action, fact: Fact | None) -> None:
            nonlocal count
            count += fact is None
            job.report(Progress(f"{count}. {action.id}", 0, None))

        return site.go_on_run(run, params, site.deadline(RUN_S, job.cancel), said)

    def ended(report: RunReport) -> None:
        app.history.append((site.now(), "information", f"{title}: {report.outcome or 'not over'}"))
        app.read_text(title, lambda width: panel.run_text(report, width, app.glyphs))
        app.poller.ask_now()

    def failed(error: FieldopsError) -> None:
        from fieldops.tui.panels.change import refusal

        app.remember(error)
        app.read_text(title, lambda width: page(refusal(error, width)))

    app.jobs.start(Job(title, changes=True), work, ended, failed)

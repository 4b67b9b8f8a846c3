"""Who answers: the list's devices, those that announce themselves, and whoever is at the other end of a cable."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from fieldops.errors import FieldopsError
from fieldops.tui.commands import BY_ID, bindings
from fieldops.tui.panels import setup as panel
from fieldops.tui.panels import top
from fieldops.tui.panels.columns import Cell
from fieldops.tui.screens.view import View
from fieldops.tui.snapshots import Key, key_of
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.discover import Found
    from fieldops.tui.jobs import Job

DISCOVER_S = 12.0


class DiscoverScreen(View):
    scope = "discover"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("discover"))

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Found] = {}

    def body(self) -> ComposeResult:
        yield LineTable(
            panel.FOUND_COLUMNS, self._cells, self.console_app.glyphs, empty="listening for a few seconds ...", id="found"
        )

    def on_mount(self) -> None:
        self.table.focus()
        self.do_refresh()

    @property
    def table(self) -> LineTable:
        return self.query_one("#found", LineTable)

    @property
    def _chosen(self) -> Found | None:
        return self._found.get(self.table.cursor or "")

    @property
    def selected(self) -> Key | None:
        found = self._chosen
        return key_of(found.entry) if found is not None and found.known else None

    @property
    def stranger(self) -> DeviceEntry | None:
        found = self._chosen
        return found.entry if found is not None and not found.known else None

    @property
    def text_to_copy(self) -> str:
        found = self._chosen
        return "  ".join(cell.text for cell in panel.found_cells(found)) if found is not None else ""

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return panel.found_cells(self._found[key])

    def draw(self) -> None:
        self.table.redraw_changed()

    def top(self, width: int) -> Content:
        app = self.console_app
        new = sum(not each.known for each in self._found.values())
        parts = [f"{len(self._found)} asked", (f"{new} new", "accent" if new else "muted")]
        return top.titled("Discover", parts, [], app.site.now(), width, app.glyphs)  # type: ignore[arg-type]

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()
        self.refresh_bindings()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_open()

    # --- commands ----------------------------------------------------------------------------------------------------------

    def do_refresh(self, _argument: str = "") -> None:
        site = self.console_app.site

        def work(job: Job[tuple[Found, ...]]) -> tuple[Found, ...]:
            return site.discover(site.deadline(DISCOVER_S, job.cancel))

        def found(all_of_them: tuple[Found, ...]) -> None:
            strangers_first = sorted(all_of_them, key=lambda each: each.known)
            self._found = {f"{each.entry.name} {each.known}": each for each in strangers_first}
            self.table.set_empty("nobody answers: check the cable, then press r; + adds a device by its address")
            self.table.set_rows(list(self._found))
            self.refresh_bindings()

        def failed(error: FieldopsError) -> None:
            self.table.set_empty(f"{error.message} - {error.next_step}")
            self.console_app.tell_error(error)

        self.start("looking for devices", work, found, failed)

    def do_open(self, _argument: str = "") -> None:
        """A known device is opened; a stranger is added first."""
        key = self.selected
        if key is not None:
            self.console_app.open_device(key)
        elif self.stranger is not None:
            self.console_app.run_command(BY_ID["setup.add"])

    def may(self, command_id: str) -> bool:
        if command_id == "discover.open":
            return self._chosen is not None
        if command_id in {"setup.trust_host", "setup.enrol", "setup.log_in"}:
            return self.selected is not None
        return True

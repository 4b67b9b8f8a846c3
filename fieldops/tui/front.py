"""What screens and the desks may ask of the console as a whole. The app implements it, so that no part imports the app.

`Place` is likewise what others may ask of the full screen in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from textual.content import Content
    from textual.screen import Screen

    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.sync import SyncStatus
    from fieldops.tui.commands import Command
    from fieldops.tui.glyphs import Glyphs
    from fieldops.tui.jobs import Jobs
    from fieldops.tui.panels.asking import Answer, Question
    from fieldops.tui.polling import Poller
    from fieldops.tui.site import Site
    from fieldops.tui.snapshots import Key, Sight, SnapshotStore
    from fieldops.wire import SlotStatus, VersionInfo


class Place(Protocol):
    """The full screen in front. scope: as commands name it in `where`."""

    @property
    def scope(self) -> str: ...

    @property
    def selected(self) -> Key | None:
        """The device that commands act on."""

    @property
    def selected_version(self) -> tuple[SlotStatus, VersionInfo | None] | None:
        """The version under the cursor, where versions are listed."""

    @property
    def stranger(self) -> DeviceEntry | None:
        """A device under the cursor that is not in the list yet."""

    @property
    def text_to_copy(self) -> str:
        """What `y` takes along: the selected thing in full; "" for nothing."""

    @property
    def active_bindings(self) -> Mapping[str, Any]: ...

    def may(self, command_id: str) -> bool: ...


class Front(Protocol):
    """The console, as its parts see it. Only the thread of the screen calls it."""

    history: list[tuple[float, str, str]]
    store_state: str
    sync_state: SyncStatus | None

    @property
    def site(self) -> Site: ...

    @property
    def store(self) -> SnapshotStore: ...

    @property
    def jobs(self) -> Jobs: ...

    @property
    def poller(self) -> Poller: ...

    @property
    def glyphs(self) -> Glyphs: ...

    @property
    def actor(self) -> str: ...

    @property
    def inventory_read(self) -> bool: ...

    @property
    def inventory_fault(self) -> FieldopsError | None: ...

    @property
    def paused(self) -> bool: ...

    @property
    def view(self) -> Place | None: ...

    @property
    def sight(self) -> Sight | None:
        """The device that commands act on now."""

    def theme_names(self) -> list[str]: ...

    def copy_to_clipboard(self, text: str) -> None: ...

    @property
    def shown_sights(self) -> list[Sight]:
        """The devices that the fleet list shows now, in its order."""

    def device_name(self, device_id: str) -> str: ...

    def read_inventory(self) -> None: ...

    def redraw(self) -> None: ...

    def read_sync_state(self) -> None: ...

    # --- telling and asking ---

    def tell(self, text: str, severity: str = "information") -> None: ...

    def remember(self, error: FieldopsError) -> None: ...

    def tell_error(self, error: FieldopsError) -> None: ...

    def read_text(self, title: str, draw: Callable[[int], Content]) -> None: ...

    def ask(self, question: Question, answered: Callable[[Answer | None], None]) -> None: ...

    # --- going ---

    def available(self, command: Command) -> bool: ...

    def run_command(self, command: Command, argument: str = "") -> None: ...

    def open_device(self, key: Key) -> None: ...

    def leave(self) -> None:
        """The screen in front goes."""

    def go_home(self) -> None:
        """All screens above the fleet go."""

    def go(self, screen: Screen[Any], answered: Callable[[Any], None] | None = None) -> None:
        """Another screen on top."""

    def after_change(self, entry: DeviceEntry) -> None: ...

"""The console: a Textual app that draws snapshots and calls the Site from threads. It decides nothing.

The first paint waits for no I/O: the inventory is read by the first job, screens other than the fleet are imported when
they are opened, theme files only when another theme than the built-in one is wanted. Commands are methods `do_<name>` of the
screen in front, of the app, or of one of its desks.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.message import Message

from fieldops.errors import FieldopsError, next_step_of
from fieldops.tui.centre import Centre
from fieldops.tui.commands import BY_ID, EVERYWHERE, Command, bindings
from fieldops.tui.glyphs import ASCII, Glyphs
from fieldops.tui.jobs import Bug, Job, Jobs
from fieldops.tui.looks import Themes, known_keys
from fieldops.tui.plaintext import PlainText
from fieldops.tui.polling import Poller
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.view import View
from fieldops.tui.site import Site
from fieldops.tui.snapshots import Key, Sight, SnapshotStore, key_of

if TYPE_CHECKING:
    from textual.content import Content
    from textual.screen import Screen

    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.sync import SyncStatus
    from fieldops.tui.panels.asking import Answer, Question
    from fieldops.tui.prompts import Asked, Asker

TICK_S = 0.25


class Delivered(Message):
    """A result of a job, on its way to the screen's thread."""

    def __init__(self, callback: Callable[[Any], None], value: object) -> None:
        super().__init__()
        self.callback = callback
        self.value = value


class Console(App[int], inherit_bindings=False):
    """Implements front.Front. asker: where threads put what only the person can say; None: nobody is asked."""

    TITLE = "fieldops"
    CSS_PATH = "fieldops.tcss"
    ENABLE_COMMAND_PALETTE = False  # ours is a command of the registry like any other
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(EVERYWHERE), Binding("ctrl+c", "help_quit", show=False, system=True)]

    def __init__(
        self,
        site: Site,
        *,
        glyphs: Glyphs,
        theme: str | None = None,
        theme_folders: Callable[[], Iterable[Path]] = tuple,
        keys: Mapping[str, str] | None = None,
        no_color: bool = False,
        asker: Asker | None = None,
    ) -> None:
        super().__init__(ansi_color=no_color)
        self.site = site
        self.glyphs = glyphs
        self.store = SnapshotStore()
        self.jobs = Jobs(self._deliver)
        self.poller = Poller(site, self.store, lambda error: self._deliver(self.tell_error, error))
        self.sync_state: SyncStatus | None = None
        self.store_state = ""  # what the last try to reach the central store gave
        self.inventory_read = False
        self.inventory_fault: FieldopsError | None = None
        self.actor = ""
        self.history: list[tuple[float, str, str]] = []
        self._themes = Themes(theme, theme_folders, no_color=no_color)
        self._names: dict[str, str] = {}
        self._keys = dict(keys or {})
        self._leaving = False
        self._no_color = no_color
        self._asker = asker
        self._centre = Centre(self)
        self._desks: tuple[object, ...] = ()
        self.animation_level = "none"
        self._set_first_theme()

    # --- start and end ---------------------------------------------------------------------------------------------------

    def _set_first_theme(self) -> None:
        """Before anything is drawn, so its watcher, which parses every style again, is not called."""
        first = self._themes.first()
        for theme in (*self._themes.all(), first):
            self.register_theme(theme)
        self.set_reactive(Console.theme, first.name)
        self.stylesheet.set_variables(self.get_css_variables())
        self.set_class(first.dark, "-dark-mode", update=False)
        self.set_class(not first.dark, "-light-mode", update=False)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Texts of devices and of Textual's own widgets go through here as well: with ASCII glyphs no byte is above 0x7f."""
        filters = list(super().get_line_filters())
        if self._no_color and not self.no_color:
            filters.append(NoColor())
        if self.glyphs is ASCII:
            filters.append(PlainText())
        return filters

    def get_default_screen(self) -> Screen[None]:
        return FleetScreen()

    def on_mount(self) -> None:
        self.set_class(self.glyphs is ASCII, "-ascii")
        self.set_class(self._no_color, "-no-color")
        if self._keys:
            known, faults = known_keys(self._keys)
            self.set_keymap(known)
            for text in faults:
                self.tell(f"[keys] in config.toml: {text}", "warning")
        if self._themes.unknown is not None:
            self.tell(self._themes.unknown, "warning")
        self.set_interval(TICK_S, self.redraw)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint."""
        if not gc.isenabled():  # as fieldops.__main__ left it
            gc.freeze()
            gc.enable()
        if self._asker is not None:
            self._asker.show_with(lambda asked: self._deliver(self._asked, asked))
        self.poller.start()
        self.read_inventory()
        site = self.site
        self.jobs.start(Job(""), lambda _job: site.actor(), self._set_actor, self.tell_error)

    def read_sync_state(self) -> None:
        self._centre.read_state()

    def _set_actor(self, actor: str) -> None:
        self.actor = actor

    def read_inventory(self) -> None:
        site = self.site

        def read(inventory: Inventory) -> None:
            self.inventory_read, self.inventory_fault = True, None
            self._names = {entry.id: entry.name for entry in inventory.devices if entry.id}
            self.store.set_inventory(inventory)
            self.poller.set_inventory(inventory)
            self.redraw()

        def failed(error: FieldopsError) -> None:
            self.inventory_fault = error
            if self.store.drain()[0]:
                self.tell_error(error)  # the list goes on with the devices it knows
            else:
                self.remember(error)
            self.redraw()

        self.jobs.start(Job(""), lambda _job: site.inventory(), read, failed)

    def _deliver(self, callback: Callable[[Any], None], value: object) -> None:
        """From any thread to the screen's."""
        self.post_message(Delivered(callback, value))

    def on_delivered(self, message: Delivered) -> None:
        message.stop()
        if not self._leaving:  # nothing is drawn on a screen that is going away
            message.callback(message.value)

    def redraw(self) -> None:
        """What depends on time and on new snapshots."""
        if not self.screen_stack:
            return  # going away
        sights, _changed = self.store.drain()
        fleet = self.screen_stack[0]
        if isinstance(fleet, FleetScreen) and fleet.ready and (self.inventory_read or self.inventory_fault is not None):
            fleet.show_sights(sights)
        self._centre.tick()
        screen = self.view
        if screen is not None and screen.is_mounted:
            screen.tick()

    @property
    def view(self) -> View | None:
        """The full screen that is in front, below any dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, View)), None)

    @property
    def sight(self) -> Sight | None:
        screen = self.view
        key = screen.selected if screen is not None and screen.ready else None
        return self.store.get(key) if key else None

    @property
    def shown_sights(self) -> list[Sight]:
        fleet = self.screen_stack[0]
        keys = fleet.shown if isinstance(fleet, FleetScreen) and fleet.ready else ()
        return [sight for key in keys if (sight := self.store.get(Key(key))) is not None]

    def stop(self) -> None:
        if self._asker is not None:
            self._asker.stop()
        self.poller.stop()
        self.jobs.cancel_all()

    # --- telling and asking ------------------------------------------------------------------------------------------------

    def tell(self, text: str, severity: str = "information") -> None:
        """A toast, and a line that stays in the messages."""
        self.history.append((self.site.now(), severity, text))
        self.notify(text, severity=severity, markup=False, timeout=6)  # type: ignore[arg-type]

    def remember(self, error: FieldopsError) -> None:
        """Into the messages only: the screen itself shows it."""
        stack = f"\n{error.stack}" if isinstance(error, Bug) else ""
        self.history.append((self.site.now(), "error", f"{error}\nnext: {next_step_of(error)}{stack}"))

    def tell_error(self, error: FieldopsError) -> None:
        self.remember(error)
        self.notify(
            f"{error}\nnext: {next_step_of(error)}",
            title=error.reason.replace("_", " "),
            severity="error",
            markup=False,
            timeout=10,
        )

    def device_name(self, device_id: str) -> str:
        return self._names.get(device_id, "")

    def read_text(self, title: str, draw: Callable[[int], Content]) -> None:
        from fieldops.tui.screens.reader import ReaderScreen

        self.push_screen(ReaderScreen(title, draw))

    def ask(self, question: Question, answered: Callable[[Answer | None], None]) -> None:
        from fieldops.tui.screens.confirm import ConfirmScreen

        self.push_screen(ConfirmScreen(question), answered)

    def _asked(self, asked: Asked) -> None:
        """A thread needs a word that only the person knows."""
        from fieldops.tui.screens.prompt import PromptScreen

        self.push_screen(PromptScreen(asked), asked.answer)

    # --- commands ------------------------------------------------------------------------------------------------------------

    def available(self, command: Command) -> bool:
        """Whether a command belongs to the screen in front and can be used in its state."""
        screen = self.view
        if command.demo_only and not self.site.is_demo:
            return False
        if command.while_job and not any(job.title for job in self.jobs.running):
            return False
        if screen is None or not (EVERYWHERE in command.where or screen.scope in command.where):
            return False
        return screen.ready and screen.may(command.id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "command" and parameters:
            command = BY_ID.get(str(parameters[0]))
            return command is not None and isinstance(self.screen, View) and self.available(command)
        return super().check_action(action, parameters)

    def on_key(self, event: events.Key) -> None:
        """Comes here only when nothing took it: a letter that was typed before the command line had the focus."""
        take = getattr(self.screen, "take_early", None) if self.screen_stack else None
        if take is not None and event.is_printable and event.character:
            take(event.character)

    def action_command(self, command_id: str) -> None:
        self.run_command(BY_ID[command_id])

    def run_command(self, command: Command, argument: str = "") -> None:
        """The method `do_<name>` of the screen in front, else of the app, else of a desk."""
        if not self.available(command):
            self.tell(f"{command.title}: not on this screen", "warning")
            return
        name = f"do_{command.do}"
        owner = next(each for each in (self.view, self, *self._at_desks()) if hasattr(each, name))
        getattr(owner, name)(argument)
        self.refresh_bindings()

    def _at_desks(self) -> tuple[object, ...]:
        """Loaded with the first command: the first paint needs none of them."""
        if not self._desks:
            from fieldops.tui.changes import Changes
            from fieldops.tui.going import Going
            from fieldops.tui.running import Running
            from fieldops.tui.setup import Setup
            from fieldops.tui.visits import Visits

            self._desks = (self._centre, Running(self), Changes(self), Setup(self), Visits(self), Going(self))
        return self._desks

    def do_back(self, _argument: str = "") -> None:
        self.leave()

    def do_quit(self, _argument: str = "") -> None:
        from fieldops.tui.panels.asking import quit_question

        running = [job.title for job in self.jobs.running if job.changes]
        if not running:
            self._leave_all()
        else:
            self.ask(quit_question(running), lambda answer: self._leave_all() if answer else None)

    def _leave_all(self) -> None:
        self._leaving = True
        self.stop()
        self.exit(0)

    def do_pause(self, _argument: str = "") -> None:
        self.poller.paused = not self.poller.paused
        self.redraw()

    @property
    def paused(self) -> bool:
        return self.poller.paused

    def do_refresh(self, _argument: str = "") -> None:
        screen = self.view
        self.read_inventory()
        self.poller.ask_now(screen.selected if screen and screen.scope == "device" else None)

    def do_theme(self, argument: str = "") -> None:
        """`reload` is no theme's name: every use reads the files again."""
        if self._no_color:
            self.tell("colours are off (--no-color or NO_COLOR)", "warning")
            return
        for fault in self._themes.read():
            self.tell(str(fault), "error")
        for theme in self._themes.all():
            self.register_theme(theme)
        if argument in {"", "reload"}:
            self.theme = self._themes.after(self.theme) if not argument else self.theme
            self.tell(f"theme {self.theme}: {self._themes.title(self.theme)}")
        elif argument in self._themes.names:
            self.theme = argument
        else:
            self.tell(self._themes.no_such(argument), "warning")

    def theme_names(self) -> list[str]:
        return self._themes.names

    # --- going ---------------------------------------------------------------------------------------------------------------

    def go(self, screen: Screen[Any], answered: Callable[[Any], None] | None = None) -> None:
        self.push_screen(screen, answered)

    def leave(self) -> None:
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def go_home(self) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def open_device(self, key: Key) -> None:
        from fieldops.tui.screens.device import DeviceScreen

        sight = self.store.get(key)
        if sight is not None:
            self.poller.watch(key)
            fleet = self.screen_stack[0]
            if isinstance(fleet, FleetScreen):
                fleet.table.select(key)  # coming back, the cursor is on what was looked at
            self.push_screen(DeviceScreen(sight, key))

    def after_change(self, entry: DeviceEntry) -> None:
        """Look at the device again at once."""
        self.poller.ask_now(key_of(entry))
        self.redraw()

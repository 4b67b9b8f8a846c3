"""The console: a Textual app that draws snapshots and calls the Site from threads. It decides nothing.

The first paint waits for no I/O: the inventory is read by the first job, screens other than the fleet are imported when
they are opened, theme files only when another theme than the built-in one is wanted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from textual.app import App
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.filter import LineFilter, NoColor
from textual.message import Message

from fieldops.errors import Fault, FieldopsError, StoreFault, UsageFault, next_step_of
from fieldops.tui.commands import BY_ID, COMMANDS, EVERYWHERE, Command, bindings, by_word
from fieldops.tui.glyphs import ASCII, Glyphs, glyphs_for, to_ascii
from fieldops.tui.jobs import Bug, Job, Jobs
from fieldops.tui.polling import Poller
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.view import View
from fieldops.tui.site import Site
from fieldops.tui.snapshots import Key, SnapshotStore, key_of
from fieldops.tui.themes import BUILTIN, Palette, colourless, load_themes, to_textual

if TYPE_CHECKING:
    from textual.content import Content
    from textual.screen import Screen

    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.gate import Words
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.tui.applying import Applying
    from fieldops.tui.panels.change import Question
    from fieldops.tui.screens.confirm import Answer

TICK_S = 0.25
SYNC_STATE_EVERY_S = 5.0
SYNC_S = 60.0


class Delivered(Message):
    """A result of a job, on its way to the screen's thread."""

    def __init__(self, callback: Callable[[Any], None], value: object) -> None:
        super().__init__()
        self.callback = callback
        self.value = value


class PlainText(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's signature
        return [
            segment if segment.control or segment.text.isascii() else Segment(to_ascii(segment.text), segment.style)
            for segment in segments
        ]


class Console(App[int], inherit_bindings=False):
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
    ) -> None:
        super().__init__(ansi_color=no_color)
        self.site = site
        self.glyphs = glyphs
        self.store = SnapshotStore()
        self.jobs = Jobs(lambda callback, value: self.post_message(Delivered(callback, value)))
        self.poller = Poller(site, self.store, lambda error: self.post_message(Delivered(self._tell_value, error)))
        self.sync_state: SyncStatus | None = None
        self.store_state = ""  # what the last try to reach the central store gave
        self.inventory_read = False
        self.inventory_fault: FieldopsError | None = None
        self.actor = ""
        self.history: list[tuple[float, str, str]] = []
        self._theme_folders = theme_folders
        self._palettes: dict[str, Palette] = {BUILTIN.name: BUILTIN}
        self._first_theme = theme
        self._names: dict[str, str] = {}
        self._applying: dict[Key, Applying] = {}
        self._sync_read_at = float("-inf")
        self._keys = dict(keys or {})
        self._leaving = False
        self._no_color = no_color
        self.animation_level = "none"
        self._set_first_theme()

    # --- start and end -------------------------------------------------------------------------------------------------------------

    def _set_first_theme(self) -> None:
        """Before anything is drawn, so its watcher, which parses every style again, is not called."""
        if self._no_color:
            first = colourless()
        else:
            first = to_textual(BUILTIN)
            if self._first_theme not in {None, BUILTIN.name}:
                self._read_themes()
                if self._first_theme in self._palettes:
                    first = to_textual(self._palettes[self._first_theme])
        self.register_theme(to_textual(BUILTIN))
        self.register_theme(first)
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
            self._remap()
        if self._first_theme is not None and self._first_theme not in self._palettes and not self._no_color:
            self.tell(f"no theme {self._first_theme!r}; there are: {', '.join(sorted(self._palettes))}", "warning")
        self.set_interval(TICK_S, self._tick)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint."""
        if not gc.isenabled():  # as fieldops.__main__ left it
            gc.freeze()
            gc.enable()
        self.poller.start()
        self.read_inventory()
        site = self.site
        self.jobs.start(Job(""), lambda _job: site.actor(), self._set_actor, self.tell_error)

    def _set_actor(self, actor: str) -> None:
        self.actor = actor

    def read_inventory(self) -> None:
        site = self.site

        def read(inventory: Inventory) -> None:
            self.inventory_read, self.inventory_fault = True, None
            self._names = {entry.id: entry.name for entry in inventory.devices if entry.id}
            self.store.set_inventory(inventory)
            self.poller.set_inventory(inventory)
            self._tick()

        def failed(error: FieldopsError) -> None:
            self.inventory_fault = error
            if self.store.drain()[0]:
                self.tell_error(error)  # the list goes on with the devices it knows
            else:
                self.remember(error)
            self._tick()

        self.jobs.start(Job(""), lambda _job: site.inventory(), read, failed)

    def on_delivered(self, message: Delivered) -> None:
        message.stop()
        if not self._leaving:  # nothing is drawn on a screen that is going away
            message.callback(message.value)

    def _tick(self) -> None:
        sights, _changed = self.store.drain()
        fleet = self.screen_stack[0]
        if isinstance(fleet, FleetScreen) and (self.inventory_read or self.inventory_fault is not None):
            fleet.show_sights(sights)
        if self.site.monotonic() - self._sync_read_at >= SYNC_STATE_EVERY_S and self.inventory_read:
            self.read_sync_state()
        screen = self.view
        if screen is not None and screen.is_mounted:
            screen.tick()

    @property
    def view(self) -> View | None:
        """The full screen that is in front, below any dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, View)), None)

    def stop(self) -> None:
        self.poller.stop()
        self.jobs.cancel_all()

    # --- telling -------------------------------------------------------------------------------------------------------------------

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

    def _tell_value(self, error: object) -> None:
        if isinstance(error, FieldopsError):
            self.tell_error(error)

    def device_name(self, device_id: str) -> str:
        return self._names.get(device_id, "")

    # --- commands ------------------------------------------------------------------------------------------------------------------

    def available(self, command: Command) -> bool:
        """Whether a command belongs to the screen in front and can be used in its state."""
        screen = self.view
        if command.demo_only and not self.site.is_demo:
            return False
        if screen is None or not (EVERYWHERE in command.where or screen.scope in command.where):
            return False
        return screen.may(command.id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "command" and parameters:
            command = BY_ID.get(str(parameters[0]))
            return command is not None and isinstance(self.screen, View) and self.available(command)
        return super().check_action(action, parameters)

    def action_command(self, command_id: str) -> None:
        self.run_command(BY_ID[command_id])

    def run_command(self, command: Command, argument: str = "") -> None:
        """The method `do_<name>` of the screen in front, else of the app."""
        screen = self.view
        if not self.available(command):
            self.tell(f"{command.title}: not on this screen", "warning")
            return
        method = getattr(screen, f"do_{command.do}", None) or getattr(self, f"do_{command.do}")
        method(argument)
        self.refresh_bindings()

    def do_line(self, _argument: str = "") -> None:
        from fieldops.tui.screens.line import LineScreen

        names = sorted(sight.entry.name for sight in self.store.drain()[0].values())
        usable = [command for command in COMMANDS if self.available(command)]
        self.push_screen(LineScreen(usable, {"go.device": names, "app.theme": self.theme_names()}), self._typed)

    def _typed(self, text: str | None) -> None:
        if not text:
            return
        word, _, argument = text.partition(" ")
        found = by_word(word)
        if not found:
            self.tell(f"no command {word!r}; `?` lists all", "warning")
        else:
            usable = [command for command in found if self.available(command)]
            self.run_command((usable or found)[0], argument.strip())

    def do_palette(self, _argument: str = "") -> None:
        from textual.command import CommandPalette

        from fieldops.tui.palette import RegistryProvider

        self.push_screen(CommandPalette(providers=[RegistryProvider], placeholder="What do you want to do?"))

    def do_help(self, _argument: str = "") -> None:
        from fieldops.tui.panels.help import help_text, keys_of

        screen = self.view
        if screen is not None:
            rows = keys_of(screen.active_bindings.values())
            usable = [command for command in COMMANDS if command.words and self.available(command)]
            self.read_text("KEYS AND COMMANDS", lambda width: help_text(rows, usable, width))

    def do_messages(self, _argument: str = "") -> None:
        from fieldops.tui.panels.help import messages_text

        history = tuple(self.history)
        self.read_text("MESSAGES", lambda width: messages_text(history, width))

    def read_text(self, title: str, draw: Callable[[int], Content]) -> None:
        from fieldops.tui.screens.reader import ReaderScreen

        self.push_screen(ReaderScreen(title, draw))

    def ask(self, question: Question, answered: Callable[[Answer | None], None]) -> None:
        from fieldops.tui.screens.confirm import ConfirmScreen

        self.push_screen(ConfirmScreen(question), answered)

    def do_back(self, _argument: str = "") -> None:
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def do_quit(self, _argument: str = "") -> None:
        from fieldops.tui.panels.change import Question

        running = [job for job in self.jobs.running if job.changes]
        if not running:
            self._leave()
            return
        rows = (
            ("running", ", ".join(job.title for job in running)),
            ("then", "the device finishes or goes back by itself; the log says `unknown` until it is read again"),
        )
        self.ask(
            Question("QUIT while a change runs", "Quit", rows, reason_asked=False),
            lambda answer: self._leave() if answer else None,
        )

    def _leave(self) -> None:
        self._leaving = True
        self.stop()
        self.exit(0)

    def do_pause(self, _argument: str = "") -> None:
        self.poller.paused = not self.poller.paused
        self._tick()

    @property
    def paused(self) -> bool:
        return self.poller.paused

    def do_refresh(self, _argument: str = "") -> None:
        screen = self.view
        self.read_inventory()
        self.poller.ask_now(screen.selected if screen and screen.scope == "device" else None)

    # --- going somewhere -------------------------------------------------------------------------------------------------------------

    def do_fleet(self, _argument: str = "") -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def do_device(self, argument: str = "") -> None:
        sights, _ = self.store.drain()
        found = [key for key, sight in sights.items() if argument and argument in {sight.entry.name, sight.entry.id}]
        if not found:
            names = ", ".join(sight.entry.name for sight in list(sights.values())[:8]) or "none yet"
            self.tell(f"no device {argument!r}; there are: {names}", "warning")
            return
        self.open_device(found[0])

    def open_device(self, key: Key) -> None:
        from fieldops.tui.screens.device import DeviceScreen

        sight = self.store.get(key)
        if sight is not None:
            self.poller.watch(key)
            fleet = self.screen_stack[0]
            if isinstance(fleet, FleetScreen):
                fleet.table.select(key)  # coming back, the cursor is on what was looked at
            self.push_screen(DeviceScreen(sight, key))

    def do_audit(self, _argument: str = "") -> None:
        from fieldops.tui.screens.audit import AuditScreen

        self.push_screen(AuditScreen())

    # --- changing a device ---------------------------------------------------------------------------------------------------------

    def do_sideload(self, _argument: str = "") -> None:
        from fieldops.tui.screens.sideload import SideloadScreen

        screen = self.view
        key = screen.selected if screen else None
        sight = self.store.get(key) if key else None
        if key is None or sight is None:
            return
        self.poller.watch(key)
        running = self._applying.get(key)
        self.push_screen(SideloadScreen(sight, key, running if running and not running.over else None))

    def apply(self, key: Key, entry: DeviceEntry, plan: SideloadPlan, words: Words) -> Applying:
        """Begin the steps of a confirmed plan."""
        from fieldops.tui.applying import Applying

        applying = Applying(self, entry, plan, words)
        self._applying[key] = applying
        applying.go_on()
        return applying

    def after_change(self, entry: DeviceEntry) -> None:
        """Look at the device again at once."""
        self.poller.ask_now(key_of(entry))
        self._tick()

    def sideload_news(self, applying: Applying) -> None:
        """Tell only those who went elsewhere; the sideload screen itself shows it."""
        screen = self.view
        what = f"{applying.plan.model} {applying.plan.to_version} on {applying.entry.name}"
        if screen is None or screen.scope == "sideload":
            return
        if applying.fault is not None:
            self.notify(f"{applying.fault}", title=what, severity="error", markup=False)
        elif applying.done:
            self.tell(f"{what}: committed")
        else:
            self.tell(f"{what}: on trial, waits for your commit (S on the device)", "warning")

    def do_rollback(self, argument: str = "") -> None:
        from fieldops.tui.changes import begin_rollback

        begin_rollback(self, argument)

    def do_commit(self, _argument: str = "") -> None:
        from fieldops.tui.changes import begin_commit

        begin_commit(self)

    # --- centre --------------------------------------------------------------------------------------------------------------------

    def read_sync_state(self) -> None:
        site = self.site
        self._sync_read_at = site.monotonic()
        self.jobs.start(Job(""), lambda _job: site.sync_status(), self._set_sync_state, self.remember)

    def _set_sync_state(self, status: SyncStatus) -> None:
        self.sync_state = status

    def do_sync(self, _argument: str = "") -> None:
        site = self.site

        def pushed(report: SyncReport) -> None:
            self.store_state = "online"
            self.tell(f"sent {report.pushed} entries; the store has {report.size}")
            self.read_sync_state()

        def work(job: Job[SyncReport]) -> SyncReport:
            return site.sync(site.deadline(SYNC_S, job.cancel), job.report)

        def failed(error: FieldopsError) -> None:
            self.store_state = "offline" if isinstance(error, StoreFault) else self.store_state
            self.tell_error(error)

        self.jobs.start(Job("sending the log"), work, pushed, failed)

    def do_store_up(self, _argument: str = "") -> None:
        site = self.site
        self.jobs.start(
            Job("bringing up the store"),
            lambda job: site.bring_up_store(site.deadline(15, job.cancel)),
            lambda _none: self.tell("the central store is up: send the log with `u`"),
            self.tell_error,
        )

    # --- themes and keys -----------------------------------------------------------------------------------------------------------

    def _read_themes(self) -> list[Fault]:
        palettes, faults = load_themes(self._theme_folders())
        self._palettes |= palettes
        for palette in self._palettes.values():
            self.register_theme(to_textual(palette))
        return faults

    def theme_names(self) -> list[str]:
        return sorted(self._palettes)

    def do_theme(self, argument: str = "") -> None:
        """`reload` is no theme's name: every use reads the files again."""
        if self._no_color:
            self.tell("colours are off (--no-color or NO_COLOR)", "warning")
            return
        for fault in self._read_themes():
            self.tell(str(fault), "error")
        names = self.theme_names()
        if argument and argument != "reload":
            if argument not in names:
                self.tell(f"no theme {argument!r}; there are: {', '.join(names)}", "warning")
                return
            self.theme = argument
            return
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if not argument else self.theme
        self.tell(f"theme {self.theme}: {self._palettes[self.theme].title}")

    def _remap(self) -> None:
        """`[keys]` of config.toml. A command nobody has and a key used twice on one screen are told, not fatal."""
        known = {
            binding_id: keys for binding_id, keys in self._keys.items() if binding_id in BY_ID or binding_id.startswith("list.")
        }
        for binding_id in self._keys.keys() - known.keys():
            self.tell(f"[keys] in config.toml: no command {binding_id!r}", "warning")
        self.set_keymap(known)
        for text in clashes(known):
            self.tell(f"[keys] in config.toml: {text}", "warning")


def clashes(keymap: Mapping[str, str]) -> list[str]:
    """Keys that two commands of one screen would share."""
    found = []
    scopes = sorted({scope for command in COMMANDS for scope in command.where} - {EVERYWHERE})
    for scope in scopes:
        taken: dict[str, str] = {}
        for command in COMMANDS:
            if not ({scope, EVERYWHERE} & command.where):
                continue
            for key in filter(None, keymap.get(command.id, command.keys).split(",")):
                if key in taken and (command.id in keymap or taken[key] in keymap):
                    found.append(f"{key} is both {taken[key]} and {command.id} on {scope}")
                taken[key] = command.id
    return found


def run(home: Path | None = None, *, ascii_only: bool = False, no_color: bool = False) -> int:
    """The console over a laptop's home. Returns the exit code. Raises FieldopsError before the screen is taken over."""
    term = os.environ.get("TERM", "")
    if term == "dumb" or not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageFault(
            "the console needs a terminal that can be drawn on",
            reason="no_terminal",
            next_step="use the verbs instead: `fieldops --help`, or `fieldops demo --tour` for the whole job without a screen",
        )
    from fieldops.tui.laptop_site import LaptopSite
    from fieldops.wiring import Laptop

    with Laptop.open(home) as laptop:
        config = laptop.config
        with laptop.exclusive("console"):
            app = Console(
                LaptopSite(laptop),
                glyphs=glyphs_for(sys.stdout.encoding, term, ascii_only=ascii_only or bool(os.environ.get("FIELDOPS_ASCII"))),
                theme=config.theme,
                theme_folders=lambda: [laptop.data_dir("themes"), laptop.home / "themes"],
                keys=config.keys,
                no_color=no_color or bool(os.environ.get("NO_COLOR")),
            )
            result = app.run()
            app.stop()
    return app.return_code or result or 0

"""From here to there: the command line, the palette, help, messages, and the other screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldops.tui.commands import BY_ID, COMMANDS, by_word
from fieldops.tui.copying import copy

if TYPE_CHECKING:
    from fieldops.tui.front import Front


class Going:
    """Commands that change nothing but what is looked at."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def do_line(self, argument: str = "") -> None:
        """argument: what stands on the line already."""
        from fieldops.tui.screens.line import LineScreen

        front = self._front
        names = sorted(sight.entry.name for sight in front.store.drain()[0].values())
        usable = [command for command in COMMANDS if front.available(command)]
        front.go(LineScreen(usable, {"go.device": names, "app.theme": front.theme_names()}, argument), self._typed)

    def _typed(self, text: str | None) -> None:
        if not text:
            return
        front = self._front
        word, _, argument = text.partition(" ")
        found = by_word(word)
        if not found:
            front.tell(f"no command {word!r}; `?` lists all", "warning")
        else:
            usable = [command for command in found if front.available(command)]
            front.run_command((usable or found)[0], argument.strip())

    def do_palette(self, _argument: str = "") -> None:
        from textual.command import CommandPalette

        from fieldops.tui.palette import RegistryProvider

        self._front.go(CommandPalette(providers=[RegistryProvider], placeholder="What do you want to do?"))

    def do_help(self, _argument: str = "") -> None:
        from fieldops.tui.panels.help import help_text, keys_of

        front, screen = self._front, self._front.view
        if screen is not None:
            rows = keys_of(screen.active_bindings.values())
            usable = [command for command in COMMANDS if command.words and front.available(command)]
            front.read_text(f"KEYS AND COMMANDS: {screen.scope}", lambda width: help_text(rows, usable, width))

    def do_messages(self, _argument: str = "") -> None:
        from fieldops.tui.panels.help import messages_text

        history = tuple(self._front.history)
        self._front.read_text("MESSAGES", lambda width: messages_text(history, width))

    def do_copy(self, _argument: str = "") -> None:
        screen = self._front.view
        copy(self._front, screen.text_to_copy if screen is not None else "")

    def do_fleet(self, _argument: str = "") -> None:
        self._front.go_home()

    def do_device(self, argument: str = "") -> None:
        front = self._front
        if not argument:
            self.do_line(f"{BY_ID['go.device'].words[0]} ")
            return
        sights, _ = front.store.drain()
        found = [key for key, sight in sights.items() if argument in {sight.entry.name, sight.entry.id}]
        found = found or [key for key, sight in sights.items() if sight.entry.name.startswith(argument)]
        if len(found) != 1:
            names = ", ".join(sights[key].entry.name for key in (found or list(sights))[:8]) or "none yet"
            front.tell(f"{'several devices' if found else 'no device'} {argument!r}: {names}", "warning")
            return
        front.open_device(found[0])

    def do_audit(self, _argument: str = "") -> None:
        """From a device: what concerns that device."""
        from fieldops.tui.screens.audit import AuditScreen

        screen, sight = self._front.view, self._front.sight
        self._front.go(AuditScreen(sight.entry.name if screen and screen.scope == "device" and sight else ""))

    def do_jobs(self, _argument: str = "") -> None:
        from fieldops.tui.screens.jobs import JobsScreen

        self._front.go(JobsScreen())

    def do_runbooks(self, _argument: str = "") -> None:
        from fieldops.tui.screens.runbooks import RunbooksScreen

        sight = self._front.sight
        self._front.go(RunbooksScreen(sight.entry if sight else None))

    def do_discover(self, _argument: str = "") -> None:
        from fieldops.tui.screens.discover import DiscoverScreen

        self._front.go(DiscoverScreen())

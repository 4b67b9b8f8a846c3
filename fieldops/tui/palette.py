"""Ctrl+P: the registry's commands that can be used now, found by fuzzy match on their titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from fieldops.tui.commands import COMMANDS, Command
from fieldops.tui.keynames import key_name

if TYPE_CHECKING:
    from fieldops.tui.front import Front


class RegistryProvider(Provider):
    @property
    def _console(self) -> Front:
        return cast("Front", self.app)

    def _usable(self) -> list[Command]:
        return [command for command in COMMANDS if self._console.available(command) and command.id != "app.palette"]

    def _help(self, command: Command) -> str:
        ways = [key_name(command.keys.split(",")[0])] if command.keys else []
        ways += [f":{command.words[0]}"] if command.words else []
        return "  ".join([*ways, *(["asks first"] if command.changes else [])])

    async def discover(self) -> Hits:
        for command in self._usable():
            yield DiscoveryHit(command.title, self._runner(command), help=self._help(command))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in self._usable():
            score = matcher.match(f"{command.title} {' '.join(command.words)}")
            if score > 0:
                yield Hit(score, matcher.highlight(command.title), self._runner(command), help=self._help(command))

    def _runner(self, command: Command):  # type: ignore[no-untyped-def]  # noqa: ANN202 - Textual's IgnoreReturnCallbackType
        def run() -> None:
            self._console.run_command(command)

        return run

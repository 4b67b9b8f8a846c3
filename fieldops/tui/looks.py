"""Themes and keys as the person set them: read when wanted, and every fault of them told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.tui.commands import BY_ID, COMMANDS, EVERYWHERE
from fieldops.tui.themes import BUILTIN, Palette, colourless, load_themes, to_textual

if TYPE_CHECKING:
    from textual.theme import Theme

    from fieldops.errors import Fault


class Themes:
    """wanted: the name in config.toml; None: the built-in one. folders: later ones win. no_color: there is only one then."""

    def __init__(self, wanted: str | None, folders: Callable[[], Iterable[Path]], *, no_color: bool) -> None:
        self._wanted = wanted
        self._folders = folders
        self._no_color = no_color
        self._palettes: dict[str, Palette] = {BUILTIN.name: BUILTIN}

    def first(self) -> Theme:
        """Theme files are read only when another than the built-in one is wanted."""
        if self._no_color:
            return colourless()
        if self._wanted not in {None, BUILTIN.name}:
            self.read()
        return to_textual(self._palettes.get(self._wanted or "", BUILTIN))

    @property
    def unknown(self) -> str | None:
        """What is wrong with the name that was wanted."""
        if self._wanted is None or self._wanted in self._palettes or self._no_color:
            return None
        return self.no_such(self._wanted)

    def read(self) -> list[Fault]:
        palettes, faults = load_themes(self._folders())
        self._palettes |= palettes
        return faults

    def all(self) -> list[Theme]:
        return [to_textual(palette) for palette in self._palettes.values()]

    @property
    def names(self) -> list[str]:
        return sorted(self._palettes)

    def title(self, name: str) -> str:
        return self._palettes[name].title

    def after(self, name: str) -> str:
        return self.names[(self.names.index(name) + 1) % len(self.names)]

    def no_such(self, name: str) -> str:
        return f"no theme {name!r}; there are: {', '.join(self.names)}"


def known_keys(keymap: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """`[keys]` of config.toml: what can be used, and what is wrong with the rest. Nothing of it is fatal."""
    known = {
        binding_id: keys
        for binding_id, keys in keymap.items()
        if binding_id in BY_ID or binding_id.startswith(("list.", "page."))
    }
    faults = [f"no command {binding_id!r}" for binding_id in keymap.keys() - known.keys()]
    return known, faults + clashes(known)


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

"""`?`: the keys that are live now and the words that may be typed, made from the bindings and the registry; and `:messages`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.binding import ActiveBinding
from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.commands import BY_ID, EVERYWHERE, Command
from fieldops.tui.keynames import key_name
from fieldops.tui.panels.ink import Tone, line, page, wrapped


@dataclass(frozen=True, slots=True)
class KeyRow:
    """group: THIS SCREEN, LISTS or EVERYWHERE. keys: as Textual names them."""

    group: str
    keys: tuple[str, ...]
    title: str
    changes: bool


def keys_of(active: Iterable[ActiveBinding]) -> tuple[KeyRow, ...]:
    """One row a command; keys of the same command stand together."""
    rows: dict[tuple[str, str], KeyRow] = {}
    for each in active:
        binding = each.binding
        command = BY_ID.get(binding.id or "")
        if command is None:
            group = "LISTS AND FOCUS"
        else:
            group = "EVERYWHERE" if EVERYWHERE in command.where else "THIS SCREEN"
        title = binding.description or binding.action.rpartition(".")[2].replace("_", " ")
        old = rows.get((group, title))
        keys = (*(old.keys if old else ()), binding.key)
        rows[group, title] = KeyRow(group, keys, title, changes=bool(command and command.changes))
    order = ("THIS SCREEN", "LISTS AND FOCUS", "EVERYWHERE")
    return tuple(sorted(rows.values(), key=lambda row: order.index(row.group)))


def help_text(rows: Sequence[KeyRow], commands: Sequence[Command], width: int) -> Content:
    lines: list[Content] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ([Content("")] if lines else []) + [line((group, "title"))]
        keys = "  ".join(key_name(key) for key in row.keys)
        asks = ("  asks first", "muted") if row.changes else ""
        lines.append(line((f"  {keys:<22}", "accent"), row.title, asks))  # type: ignore[arg-type]
    lines += [Content(""), line((": COMMANDS HERE", "title"))]
    for command in commands:
        words = " or ".join(command.words) + (f" {command.argument}" if command.argument else "")
        lines.append(line((f"  {words:<22}", "accent"), command.title).truncate(width, ellipsis=True))
    lines += [
        Content(""),
        line(("FILTERS", "title")),
        *wrapped(
            "",
            [
                "fields: name site class st link model drift tag owner id, as field:value; a bare word looks in all; ! before a term turns it round. Every term must hold."
            ],
            width,
            2,
        ),
    ]
    return page(lines)


_SEVERITIES: dict[str, Tone] = {"information": "plain", "warning": "warn", "error": "fail"}


def messages_text(history: Sequence[tuple[float, str, str]], width: int) -> Content:
    """Newest first. Toasts go; these stay until the console ends."""
    if not history:
        return line(("no messages yet", "muted"))
    lines: list[Content] = []
    for at, severity, text in reversed(history):
        rows = [figures.clean(row) for row in text.splitlines()]
        lines += wrapped(figures.clock_time(at, seconds=True), rows, width, 10, _SEVERITIES.get(severity, "plain"))
    return page(lines)

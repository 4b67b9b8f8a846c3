"""The checks of a validation: word, name, measured against limit."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import Tone, line, wrapped
from fieldops.wire import Check


def checks(found: Iterable[Check], width: int, glyphs: Glyphs) -> list[Content]:
    """A note that has no room beside the figures stands below them."""
    lines = []
    known = list(found)
    names = max((len(each.name) for each in known), default=0)
    for each in known:
        word: tuple[str, Tone] = ("ok   ", "ok") if each.ok else ("FAIL ", "fail")
        against = figures.clean(f"{each.measured}" + (f"   limit {each.limit}" if each.limit else ""))
        note, indent = figures.clean(each.note), len(word[0]) + names + 2
        room = max(10, width - indent)
        beside = f"{against}   {note}" if note else against
        fits = len(beside) <= room
        lines.append(line(word, f"{each.name:<{names}}  ", figures.clip(beside if fits else against, room, glyphs)))
        if note and not fits:
            lines += wrapped("", [note], width, indent, "muted")
    return lines

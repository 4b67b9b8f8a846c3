"""The checks of a validation, one line each: word, name, measured against limit."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import Tone, line
from fieldops.wire import Check


def checks(found: Iterable[Check], width: int, glyphs: Glyphs) -> list[Content]:
    """One line a check of a validation: word, name, measured against limit."""
    lines = []
    known = list(found)
    names = max((len(each.name) for each in known), default=0)
    for each in known:
        word: tuple[str, Tone] = ("ok   ", "ok") if each.ok else ("FAIL ", "fail")
        against = f"{each.measured}" + (f"   limit {each.limit}" if each.limit else "")
        note = f"   {each.note}" if each.note else ""
        room = max(10, width - len(word[0]) - names - 2)
        lines.append(line(word, f"{each.name:<{names}}  ", figures.clip(figures.clean(against + note), room, glyphs)))
    return lines

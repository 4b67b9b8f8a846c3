"""How panels name colours: by what a thing means. The theme decides the hue; the word carries the meaning without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from textual.content import Content

Tone = Literal["plain", "strong", "muted", "ok", "warn", "fail", "off", "accent", "title"]

STYLES: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "muted": "$fo-muted",
    "ok": "bold $fo-ok",
    "warn": "bold $fo-warn",
    "fail": "bold $fo-fail",
    "off": "bold $fo-off",
    "accent": "bold $fo-accent",
    "title": "bold $fo-accent",
}
_OF_STATE: dict[str, Tone] = {"OK": "ok", "WARN": "warn", "FAIL": "fail", "OFF": "off", "BARE": "accent"}

ELLIPSIS = {"─": "…", "-": "~"}  # by the glyph of rules

Part = str | tuple[str, Tone]


def tone_of(state: str) -> Tone:
    return _OF_STATE.get(state, "muted")


def line(*parts: Part) -> Content:
    """One line. Texts are taken as they are: nothing in them is markup."""
    return Content.assemble(*(part if isinstance(part, str) else (part[0], STYLES[part[1]]) for part in parts))


def page(lines: Iterable[Content]) -> Content:
    return Content("\n").join(lines)


def heading(text: str, width: int, rule: str, note: str = "") -> Content:
    """`── TEXT ───────────────── note ──`"""
    head = f"{rule * 2} "
    room = width - len(head) - len(text) - 6
    if len(note) > room:
        note = note[: max(0, room - 1)].rstrip() + ELLIPSIS.get(rule, "~") if room > 8 else ""
    tail = f" {note} {rule * 2}" if note else ""
    fill = max(1, width - len(head) - len(text) - 1 - len(tail))
    return line((head, "muted"), (text, "title"), (" " + rule * fill, "muted"), (tail, "muted"))


def wrapped(label: str, texts: Iterable[str], width: int, indent: int, tone: Tone = "plain") -> list[Content]:
    """A label, then texts wrapped beside it; each text begins a line of its own."""
    import textwrap

    room = max(10, width - indent)
    rows = [row for text in texts for row in (textwrap.wrap(text, room, break_long_words=True) or [""])]
    return [line((f"{label if n == 0 else '':<{indent}}", "muted"), (row, tone)) for n, row in enumerate(rows)]

"""What a device says of itself over time: its agent's log, and its own journal of what it did and decided."""

from __future__ import annotations

import re

from textual.content import Content

from fieldops.slots import why
from fieldops.tui import figures
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Tone, page, wrapped
from fieldops.wire import JournalEntry

LOG_COLUMNS = (Column("NEWEST FIRST, TIMES ARE THE DEVICE'S OWN", 60, grows=1),)
ACT_COLUMNS = (
    Column("TIME UTC", 14),
    Column("WHO", 15),
    Column("DID", 12),
    Column("MODEL", 7, grows=1),
    Column("VERSION", 10),
    Column("WHY", 10, grows=6),
)
_PERSON = re.compile(r"person:SHA256:(\S{8})\S*")  # the whole of it stands in the line in full
_BAD = ("error", "fail", "critical", "traceback", "refus")
_ODD = ("warn", "revert", "quarantin")


def log_cells(text: str) -> tuple[Cell, ...]:
    low = text.lower()
    tone: Tone = "fail" if any(word in low for word in _BAD) else "warn" if any(word in low for word in _ODD) else "plain"
    return (Cell(_PERSON.sub(r"person \1", figures.clean(text)), tone),)


def act_cells(act: JournalEntry) -> tuple[Cell, ...]:
    said = "; ".join(part for part in (why(act.reason), act.detail) if part)
    return (
        Cell(figures.date_time(act.time)),
        Cell(who(act.actor), "muted"),
        Cell(figures.clean(act.action).replace("_", " "), "strong"),
        Cell(figures.clean(act.model) or figures.UNKNOWN),
        Cell(figures.clean(act.version) or figures.UNKNOWN),
        Cell(figures.clean(said)),
    )


def who(actor: str) -> str:
    """`device:<id>` acted alone."""
    kind, _, name = actor.partition(":")
    if kind == "device":
        return "the device"
    return f"{kind} {figures.clean(name).removeprefix('SHA256:')[:8]}"


def in_full(text: str, width: int) -> Content:
    return page(wrapped("", [figures.clean(row) for row in text.splitlines()], width, 0))

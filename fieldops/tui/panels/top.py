"""Row 1 of every screen: where am I, how is it, what waits to be sent, what time is it."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import Part, line, tone_of
from fieldops.tui.snapshots import WORST_FIRST


def bar(left: list[Part], right: list[Part], width: int) -> Content:
    """Left and right part in one row; the left part gives way."""
    right_content = line(*right)
    room = max(0, width - right_content.cell_length - 3)
    left_content = line(*left).truncate(room, ellipsis=True)
    gap = max(1, width - 2 - left_content.cell_length - right_content.cell_length)
    return line(" ").append(left_content).append(" " * gap).append(right_content).append(" ")


def fleet(
    counted: Mapping[str, int],
    queued: int | None,
    oldest_s: float | None,
    now: float,
    width: int,
    glyphs: Glyphs,
    *,
    paused: bool,
    store: str = "",
) -> Content:
    """counted: devices by state. queued: entries not yet at the store; None before the log was read.

    store: what the last try to reach the central store gave; "" before the first.
    """
    total = sum(counted.values())
    left: list[Part] = [
        ("fieldops", "title"),
        f" {glyphs.dot} ",
        ("Fleet", "strong"),
        f" {total}{' devices' if width >= 100 else ''} ",
    ]
    for state in WORST_FIRST:
        if counted.get(state):
            left += [" ", (f"{counted[state]} {state}", tone_of(state))]
    if counted.get("-"):
        left += [" ", (f"{counted['-']} unasked", "muted")]
    right: list[Part] = []
    if paused:
        right += [("PAUSED", "warn"), "  "]
    if store:
        right += [(f"store {store}", "ok" if store == "online" else "off"), "  "]
    if queued is not None:
        oldest = f", oldest {figures.age(oldest_s)}" if queued and oldest_s is not None and width >= 100 else ""
        right += [(f"outbox {queued}{oldest}", "plain" if queued else "muted"), "  "]
    right.append((f"{figures.clock_time(now)} UTC", "muted"))
    return bar(left, right, width)


def titled(title: str, parts: list[Part], right: list[Part], now: float, width: int, glyphs: Glyphs) -> Content:
    """`fieldops · Audit · ...          12:04 UTC`"""
    left: list[Part] = [("fieldops", "title"), f" {glyphs.dot} ", (title, "strong")]
    for part in parts:
        left += [f" {glyphs.dot} ", part]
    tail: list[Part] = [*right, ("  " if right else "") + f"{figures.clock_time(now)} UTC"]
    return bar(left, tail, width)

"""Closing a visit: what it takes along, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.tui import figures
from fieldops.tui.panels.asking import Field, Question
from fieldops.tui.panels.change import refusal
from fieldops.tui.panels.ink import line, page, wrapped

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.tui.site import VisitClosed

MOST_NAMES = 6


def close_question(names: Sequence[str]) -> Question:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return Question(
        title=f"CLOSE THE VISIT to {len(names)} device{'s' * (len(names) != 1)}",
        verb="Close it",
        rows=(
            ("devices", ", ".join(names[:MOST_NAMES]) + more + "; a filter on the list narrows them"),
            ("takes", "what they did alone, their telemetry, and kept inputs, still sealed; it changes nothing on them"),
            ("then", "one entry in the log and a report, which names what is not over"),
        ),
        fields=(Field("sync", "y: then send it all to the central store"),),
    )


def closed(report: VisitClosed, width: int) -> Content:
    lines = wrapped("report", [figures.clean(report.place)], width, 9)
    if report.failed:
        lines += wrapped("MISSING", [f"not reached to the end: {', '.join(report.failed)}"], width, 9, "fail")
    rows = [
        line(figures.clean(row)) if len(row) <= width else Content("\n").join(wrapped("", [figures.clean(row)], width, 2))
        for row in report.text.splitlines()
    ]
    return page([*lines, Content(""), *rows])


def failed(error: FieldopsError, width: int) -> Content:
    return page(refusal(error, width))

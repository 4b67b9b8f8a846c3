"""The audit log as a list, its state line, and one entry in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.audit.entry import Entry
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Part, Tone, line, page, wrapped

if TYPE_CHECKING:
    from fieldops.operations.sync import SyncStatus
    from fieldops.operations.trail import TrailReport

COLUMNS = (
    Column("SEQ", 4, right=True),
    Column("TIME UTC", 11),
    Column("PHASE", 7),
    Column("ACT", 12, grows=1),
    Column("DEVICE", 9, grows=1),
    Column("SUBJECT", 14, grows=3),
    Column("RESULT", 7),
    Column("SYNC", 6),
)
_RESULTS: dict[str, tuple[str, Tone]] = {
    "done": ("ok", "ok"),
    "refused": ("REFUSED", "warn"),
    "failed": ("FAILED", "fail"),
    "reverted": ("REVERTD", "warn"),
    "unknown": ("UNKNOWN", "warn"),
    "needs_human": ("PERSON!", "fail"),
    "dry_run": ("dry run", "muted"),
}


def cells(entry: Entry, acked: int | None, device_name: str) -> tuple[Cell, ...]:
    """acked: the store holds all up to this seq; None when that was not read yet. device_name: label of entry.device, if known."""
    result = _RESULTS[entry.result.status] if entry.result else ("", "plain")
    sent: tuple[str, Tone] = ("-", "muted") if acked is None else ("sent", "ok") if entry.seq <= acked else ("queued", "plain")
    return (
        Cell(str(entry.seq), "muted"),
        Cell(figures.date_time(entry.time)[:11]),
        Cell(entry.phase, "muted"),
        Cell(figures.clean(entry.act), "strong"),
        Cell(figures.clean(device_name or entry.device[:8]) or figures.UNKNOWN),
        Cell(figures.clean(subject(entry)) or figures.UNKNOWN),
        Cell(result[0], result[1]),
        Cell(*sent),
    )


def subject(entry: Entry) -> str:
    about = entry.subject
    if about is None:
        return ""
    versions = " -> ".join(text for text in (about.from_, about.to) if text)
    return " ".join(text for text in (about.name or about.kind, versions) if text)


def state_line(status: SyncStatus | None, report: TrailReport | None, now: float, width: int, glyphs: Glyphs) -> Content:
    """Size, queue and what the last verification said. Nothing is claimed before it was looked at."""
    parts: list[Part] = [" "]
    if status is None:
        parts.append(("reading the log", "muted"))
    else:
        parts += [f"{status.size} entries", f"  {glyphs.dot}  "]
        oldest = f", oldest {figures.age(now - status.oldest)}" if status.queued and status.oldest is not None else ""
        parts.append((f"{status.queued} queued{oldest}", "warn" if status.queued else "ok"))
    parts.append(f"  {glyphs.dot}  ")
    if report is None:
        parts.append(("log not verified in this session", "muted"))
    elif report.ok:
        root = report.root if isinstance(report.root, str) else report.root.hex()
        parts.append((f"log VERIFIED, {report.size} entries, root {root[:8]}", "ok"))
    else:
        parts.append((f"log BROKEN: {figures.clean(report.problems[0])}", "fail"))
    return line(*parts).truncate(width, ellipsis=True)


def entry_in_full(entry: Entry, width: int) -> Content:
    """Every field that has a value, in the order of the format."""
    lines: list[Content] = []

    def row(label: str, text: str) -> None:
        if text:
            lines.extend(wrapped(label, [figures.clean(text)], width, 12))

    row("seq", str(entry.seq))
    row("log", entry.log)
    row("time", f"{figures.date_time(entry.time)} UTC")
    row("actor", entry.actor)
    row("phase", entry.phase + (f" of {entry.of}" if entry.of else ""))
    row("act", entry.act)
    row("device", entry.device)
    if entry.subject is not None:
        row("subject", subject(entry))
        row("digest", entry.subject.digest)
    row("reason", entry.reason)
    row("ticket", entry.ticket)
    row("decision", entry.decision)
    if entry.result is not None:
        row(
            "result",
            f"{entry.result.status}, exit {entry.result.code}" + (f", {entry.result.reason}" if entry.result.reason else ""),
        )
        row("detail", entry.result.detail)
    row("session", entry.session)
    row("boot", entry.boot)
    return page(lines)

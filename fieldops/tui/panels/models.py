"""The models tab: versions on the device, the transaction of one model, and what its last validation found."""

from __future__ import annotations

from textual.content import Content

from fieldops.operations.observe import Snapshot
from fieldops.slots import why
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.checks import checks
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Part, Tone, heading, line, page, wrapped
from fieldops.tui.snapshots import Sight
from fieldops.wire import SlotStatus, VersionInfo

VERSION_COLUMNS = (
    Column("MODEL", 16, grows=2),
    Column("VERSION", 12, grows=1),
    Column("ROLE", 12),
    Column("SIGNED", 10, grows=1),
    Column("SIZE", 9, right=True),
    Column("DIGEST", 10),
)
_ROLES: dict[str, tuple[str, Tone]] = {
    "active": ("active", "ok"),
    "last_good": ("last good", "accent"),
    "candidate": ("on trial", "warn"),
    "stored": ("stored", "plain"),
    "quarantined": ("QUARANTINED", "fail"),
}
_ROLE_ORDER = ("active", "candidate", "last_good", "stored", "quarantined")


def version_rows(snapshot: Snapshot | None) -> list[tuple[SlotStatus, VersionInfo | None]]:
    """Slots in the order the device gives; the answering version first. None: the slot holds nothing yet."""
    rows: list[tuple[SlotStatus, VersionInfo | None]] = []
    for slot in snapshot.models.slots if snapshot and snapshot.models else []:
        known = sorted(slot.versions, key=lambda info: _ROLE_ORDER.index(info.role))
        rows += [(slot, info) for info in known] or [(slot, None)]
    return rows


def version_cells(slot: SlotStatus, info: VersionInfo | None) -> tuple[Cell, ...]:
    if info is None:
        return (Cell(figures.clean(slot.model), "strong"), *(Cell(figures.UNKNOWN, "muted"),) * 5)
    role = _ROLES[info.role]
    if info.role == "candidate" and slot.state != "trial":
        role = (slot.state.replace("_", " "), "accent")
    return (
        Cell(figures.clean(slot.model), "strong"),
        Cell(figures.clean(info.version)),
        Cell(*role),
        Cell(figures.clean(info.signed_by), "plain") if info.signed_by else Cell("unsigned", "warn"),
        Cell(figures.size(info.size_bytes)),
        Cell(info.manifest_sha256[:8] or figures.UNKNOWN, "muted"),
    )


def none_text(sight: Sight) -> str:
    """In place of versions."""
    snapshot = sight.snapshot
    if snapshot is None:
        return "not asked yet"
    if snapshot.models is None and snapshot.error is None:
        return "a bare device: without an agent it keeps no models; E enrols one with a kit"
    return "not known while it does not answer" if snapshot.models is None else "no models here yet; S sideloads one"


def slot(status: SlotStatus, now: float, width: int, glyphs: Glyphs) -> Content:
    """Below the list: the transaction of the selected model and what its last validation found. now: Unix seconds."""
    left = f"  {status.deadline_s:.0f} s left" if status.deadline_s is not None else ""
    tone: Tone = "strong"
    if status.state in _STATE_TONES:
        tone = _STATE_TONES[status.state]
    lines = [
        heading(figures.clean(status.model), width, glyphs.rule, f"task {figures.clean(status.task)}"),
        line(("state      ", "muted"), (status.state.replace("_", " ").upper(), tone), (left, "warn")),
        _answering(status),
    ]
    if status.armed_until is not None:
        lines += wrapped("ARMED", [_armed(status, now)], width, 11, "warn")
    if status.reason:
        lines += wrapped("because", [figures.clean(why(status.reason))], width, 11)
    if status.checks:
        lines += [Content(""), *checks(status.checks, width, glyphs)]
    return page(lines)


_STATE_TONES: dict[str, Tone] = {"trial": "warn", "needs_human": "fail", "settled": "ok", "committed": "ok"}


def _armed(status: SlotStatus, now: float) -> str:
    begins = status.armed_from is not None and status.armed_from > now
    opens = f"from {figures.date_time(status.armed_from)} UTC" if begins else "now"
    return f"the device tries {status.candidate} by itself, {opens} until {figures.date_time(status.armed_until)} UTC; D takes it back"


def _answering(status: SlotStatus) -> Content:
    """On trial the candidate answers, and the version before it is the way back."""
    back, answers = status.last_good, status.active
    parts: list[Part] = []
    if status.state == "trial":
        back, answers = status.active, status.candidate
        parts = [("   on trial", "warn")]
    if answers and back == answers:
        return line(("answers    ", "muted"), answers, ("   which is itself the last good one", "muted"))
    return line(("answers    ", "muted"), answers or "nothing", *parts, ("   goes back to  ", "muted"), back or figures.UNKNOWN)

"""The three tabs of one device: resources, drift and its cause, models and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from textual.content import Content

from fieldops.drift.cause import Diagnosis
from fieldops.drift.shift import FeatureShift
from fieldops.errors import next_step_of
from fieldops.fleet import Resources, Serving
from fieldops.operations.observe import Snapshot
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.fleet import temperature_tone
from fieldops.tui.panels.ink import Part, Tone, heading, line, page, tone_of, wrapped
from fieldops.tui.snapshots import Sample, Sight, memory_pct
from fieldops.wire import Check, SlotStatus, VersionInfo

TABS = ("resources", "drift", "models")
LABEL = 7
WIDE_TITLE = 100  # columns from which the address stands in the header
_VERDICT_TONES: dict[str, Tone] = {"ok": "ok", "data": "warn", "hardware": "warn", "both": "fail", "unknown": "muted"}
_VERDICT_TEXTS = {
    "ok": "inputs look like at release; the hardware keeps its figures",
    "data": "the inputs changed, the hardware is well: a rollback will not bring them back",
    "hardware": "the hardware changed, the inputs did not: look at heat, power and load first",
    "both": "inputs and hardware both changed",
    "unknown": "not enough was measured to say",
}


def tabs(current: str, width: int) -> Content:
    """`1 Resources  2 Drift  3 Models`, the current one marked by brackets as well as by colour."""
    parts: list[Part] = [" "]
    for number, name in enumerate(TABS, 1):
        text = f"{number} {name.capitalize()}"
        parts.append((f"[{text}]", "accent") if name == current else (f" {text} ", "muted"))
        parts.append("  ")
    return line(*parts).truncate(width)


def title_parts(sight: Sight, now: float, width: int) -> list[Part]:
    """State, link and age for the header row."""
    snapshot = sight.snapshot
    age = sight.age(now)
    parts: list[Part] = [(sight.state if snapshot else "not asked yet", tone_of(sight.state))]
    if snapshot is not None:
        address = sight.entry.lan if snapshot.link == "lan" else sight.entry.ssh
        room = width >= WIDE_TITLE and address is not None and snapshot.link != "-"
        parts.append(f"{snapshot.link} {address}" if room else f"link {snapshot.link}")
        stale = age is None or age > figures.STALE_AFTER_S
        parts.append(
            (
                f"{'STALE' if stale else 'seen'} {figures.age(age) if age is not None else 'never seen'}",
                "off" if stale else "muted",
            )
        )
    return parts


def trouble(snapshot: Snapshot | None, width: int) -> list[Content]:
    """Why nothing new comes, and what to do; empty when the device answers."""
    if snapshot is None or snapshot.error is None:
        return []
    error = snapshot.error
    return [
        *wrapped(f"{snapshot.state:<5}", [figures.clean(error.message)], width, LABEL, tone_of(snapshot.state)),
        *wrapped("next", [figures.clean(next_step_of(error))], width, LABEL),
        Content(""),
    ]


def resources(sight: Sight, width: int, glyphs: Glyphs, *, causes: bool = True) -> Content:
    """Every meter is a label, a value, a bar or the last two minutes, and what it is measured against.

    causes: with the cause of a drift below; without it where the drift tab stands beside.
    """
    snapshot = sight.snapshot
    lines = trouble(snapshot, width)
    if snapshot is None or snapshot.resources is None:
        return page([*lines, line(("no values yet", "muted"))])
    hardware = snapshot.resources
    lines += _meters(hardware, snapshot, sight.history, width, glyphs)
    lines += [Content(""), heading("ANSWERS", width, glyphs.rule, "last minute")]
    lines += _answers(hardware.serving, snapshot, width)
    lines += _verdicts(snapshot, width, causes=causes)
    return page(lines)


def _meters(hardware: Resources, snapshot: Snapshot, history: Sequence[Sample], width: int, glyphs: Glyphs) -> list[Content]:
    note = 22
    room = max(10, width - LABEL - 9 - note)
    memory = memory_pct(snapshot)
    mem_total = hardware.mem_total_bytes
    mem_used = mem_total - hardware.mem_available_bytes if mem_total and hardware.mem_available_bytes is not None else None
    disk_share = _used_share(hardware.disk_total_bytes, hardware.disk_free_bytes)
    load = (
        f"load {hardware.load_1m:.1f} of {hardware.cpu_count}" if hardware.load_1m is not None else f"{hardware.cpu_count} cores"
    )
    hot = temperature_tone(snapshot)
    limit = f"limit {figures.celsius(hardware.temp_limit_c)}" if hardware.temp_limit_c is not None else ""
    lines = [
        _meter(
            "CPU", figures.percent(hardware.cpu_pct), figures.spark([s.cpu_pct for s in history], room, glyphs, high=100), load
        ),
        _meter(
            "MEM",
            figures.percent(memory),
            figures.bar(_part(memory), room, glyphs),
            f"{figures.size(mem_used)} of {figures.size(mem_total)}",
        ),
        _meter(
            "TEMP",
            figures.celsius(hardware.soc_temp_c),
            figures.spark([s.temp_c for s in history], room, glyphs, low=20, high=hardware.temp_limit_c or 100),
            limit,
            tone=hot,
        ),
        _meter(
            "DISK",
            figures.percent(None if disk_share is None else 100 * disk_share),
            figures.bar(disk_share, room, glyphs),
            f"{figures.size(hardware.disk_free_bytes)} free",
        ),
    ]
    if hardware.quota_bytes:
        used = hardware.quota_used_bytes / hardware.quota_bytes if hardware.quota_used_bytes is not None else None
        lines.append(
            _meter(
                "QUOTA",
                figures.percent(None if used is None else 100 * used),
                figures.bar(used, room, glyphs),
                f"of {figures.size(hardware.quota_bytes)} for models",
            )
        )
    if hardware.clock_mhz is not None:
        top = hardware.clock_max_mhz
        lines.append(
            _meter(
                "CLOCK",
                f"{hardware.clock_mhz:.0f}",
                figures.spark([s.clock_mhz for s in history], room, glyphs, high=top),
                f"MHz of {top:.0f}" if top else "MHz",
            )
        )
    if hardware.power_w is not None:
        lines.append(_meter("POWER", f"{hardware.power_w:.1f}W", figures.spark([s.power_w for s in history], room, glyphs), ""))
    if hardware.throttled:
        why = [figures.clean(hardware.throttle_reason)] if hardware.throttle_reason not in {"", "throttled"} else []
        lines += wrapped("", ["THROTTLED", *why], width, LABEL, "warn")
    return lines


def _meter(label: str, value: str, drawn: str, note: str, *, tone: Tone = "plain") -> Content:
    return line(
        (f"{label:<{LABEL}}", "muted"),
        (f"{value:>6}  ", tone if value != figures.UNKNOWN else "muted"),
        (drawn, "accent"),
        (f"  {note}", "muted"),
    )


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _used_share(total: int | None, free: int | None) -> float | None:
    return None if not total or free is None else 1 - free / total


def _answers(serving: Iterable[Serving], snapshot: Snapshot, width: int) -> list[Content]:
    """Failures stand under the table where there is no room for a column of their own."""
    roomy = width >= 64
    name_width = max(13, min(30, width - (47 if roomy else 39)))
    head = f"{'MODEL':<{name_width}}{'P50':>10}{'P95':>10}{'BASELINE':>10}{'RATE':>9}{'FAILED':>8}"
    lines = [line((head if roomy else head[:-8], "muted"))]
    for each in serving:
        name = figures.clean(f"{each.model} {each.version}")[: name_width - 1]
        tail = f"{figures.milliseconds(each.p95_ms):>10}{figures.milliseconds(each.baseline_p50_ms):>10}{figures.rate(each.rate_per_s):>9}"
        lines.append(
            line(
                f"{name:<{name_width}}",
                (f"{figures.milliseconds(each.p50_ms):>10}", "warn" if f"{each.model} slow" in snapshot.reasons else "plain"),
                tail + (f"{each.failed:>8}" if roomy else ""),
            )
        )
        routes = "  ".join(f"{name} {count}" for name, count in sorted(each.routes.items()) if count)
        failed = "" if roomy else f"   failed {each.failed}"
        lines.append(line((f"  answered by  {routes or figures.UNKNOWN}{failed}", "muted")).truncate(width))
    return lines if len(lines) > 1 else [line(("no model answers here", "muted"))]


def _verdicts(snapshot: Snapshot, width: int, *, causes: bool) -> list[Content]:
    lines: list[Content] = []
    reasons = [figures.clean(reason) for reason in snapshot.reasons]
    if reasons and snapshot.error is None:
        lines += [Content(""), *wrapped("WHY", reasons, width, LABEL, tone_of(snapshot.state))]
    for each in snapshot.drift if causes else ():
        if each.verdict in {"ok", "unknown"}:
            continue
        lines += [Content(""), *verdict(each, width, short=True)]
    return lines


def verdict(diagnosis: Diagnosis, width: int, *, short: bool = False) -> list[Content]:
    """CAUSE in one word, what it means, and the evidence it rests on."""
    tone = _VERDICT_TONES.get(diagnosis.verdict, "muted")
    lines = [
        line(
            (f"{'CAUSE':<{LABEL}}", "muted"),
            (diagnosis.verdict.upper(), tone),
            f"  {figures.clean(diagnosis.model)} {figures.clean(diagnosis.version)}",
        )
    ]
    lines += wrapped("", [_VERDICT_TEXTS.get(diagnosis.verdict, "")], width, LABEL)
    if diagnosis.labels and not short:
        lines += wrapped("labels", [", ".join(sorted(label.replace("_", " ") for label in diagnosis.labels))], width, LABEL)
    if diagnosis.evidence:
        lines += wrapped("why", [figures.clean(text) for text in diagnosis.evidence[: 3 if short else 12]], width, LABEL)
    return lines


def drift(sight: Sight, width: int, glyphs: Glyphs) -> Content:
    """For each model: every watched feature against its limit, then the cause."""
    snapshot = sight.snapshot
    lines = trouble(snapshot, width)
    if snapshot is None or not snapshot.drift:
        return page([*lines, *wrapped("", ["no drift can be told: no model here has a reference sketch"], width, 0, "muted")])
    for number, diagnosis in enumerate(snapshot.drift):
        if number:
            lines.append(Content(""))
        name = figures.clean(f"{diagnosis.model} {diagnosis.version}")
        lines.append(heading(name, width, glyphs.rule, f"{diagnosis.n} requests"))
        lines += _features(diagnosis, width, glyphs)
        lines.append(Content(""))
        lines += verdict(diagnosis, width)
    return page(lines)


def _features(diagnosis: Diagnosis, width: int, glyphs: Glyphs) -> list[Content]:
    if not diagnosis.features:
        return [line(("no feature was measured yet", "muted"))]
    room = max(8, min(40, width - 20 - 9 - 9 - 8 - 3))
    outside = False
    lines = [line((f"{'FEATURE':<20}{'NOW':>8} {'LIMIT':>8}  {'STATE':<6}  {'TREND':<{room}}", "muted")).truncate(width)]
    for each in diagnosis.features:
        judged = isfinite(each.threshold)  # without a finite limit there were too few bins to compare
        word = _feature_word(each, judged=judged)
        limit = f"{each.threshold:.3f}" if judged else figures.UNKNOWN
        now = f"{each.statistic:.3f}" if judged else figures.UNKNOWN
        if each.newest.strays_fire and not each.statistic > each.threshold:  # what tells is not the distance
            now, limit, outside = f"{each.newest.strays:.0%} out", "range", True
        top = max([each.threshold * 1.5 if judged else 0.1, *each.history])
        lines.append(
            line(
                f"{figures.clip(figures.clean(each.name), 19, glyphs):<20}{now:>8} ",
                (f"{limit:>8}  ", "muted"),
                word,
                "  ",
                (
                    figures.spark(each.history, min(room, len(each.history)), glyphs, high=top),
                    "warn" if each.shifted else "accent",
                ),
            ).truncate(width)
        )
    if outside:
        lines += wrapped("", ["out: share of requests outside the range seen at release"], width, 0, "muted")
    return lines


def _feature_word(each: FeatureShift, *, judged: bool) -> tuple[str, Tone]:
    """once: one window alone says so, and two of three decide."""
    if each.shifted:
        return "SHIFT ", "warn"
    if each.newest.fires:
        return "once  ", "accent"
    return ("ok    ", "ok") if judged else ("-     ", "muted")


# --- models ----------------------------------------------------------------------------------------------------------------

VERSION_COLUMNS = (
    Column("MODEL", 16, grows=2),
    Column("VERSION", 12, grows=1),
    Column("ROLE", 12),
    Column("SIGNED BY", 10, grows=1),
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
        Cell(figures.clean(info.signed_by), "plain") if info.signed_by else Cell("UNSIGNED", "warn"),
        Cell(figures.size(info.size_bytes)),
        Cell(info.manifest_sha256[:8] or figures.UNKNOWN, "muted"),
    )


def slot(status: SlotStatus | None, width: int, glyphs: Glyphs) -> Content:
    """Below the list: the transaction of the selected model and what its last validation found."""
    if status is None:
        return Content("")
    left = f"  {status.deadline_s:.0f} s left" if status.deadline_s is not None else ""
    tone: Tone = {"trial": "warn", "needs_human": "fail", "settled": "ok", "committed": "ok"}.get(status.state, "strong")  # type: ignore[assignment]
    lines = [
        heading(figures.clean(status.model), width, glyphs.rule, f"task {figures.clean(status.task)}"),
        line(("state      ", "muted"), (status.state.replace("_", " ").upper(), tone), (left, "warn")),
        _answering(status),
    ]
    if status.reason:
        lines += wrapped("because", [figures.clean(status.reason)], width, 11)
    if status.checks:
        lines += [Content(""), *checks(status.checks, width, glyphs)]
    return page(lines)


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

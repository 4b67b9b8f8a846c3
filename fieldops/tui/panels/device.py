"""One device: its tabs, its header, and the tab of its resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from fieldops.fleet import Resources, Serving
from fieldops.operations.observe import Snapshot
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.drift import trouble, verdict
from fieldops.tui.panels.fleet import temperature_tone
from fieldops.tui.panels.ink import Part, Tone, heading, line, page, tone_of, wrapped
from fieldops.tui.snapshots import Sample, Sight, memory_pct

TABS = ("resources", "drift", "models", "log", "acts", "bench")
LABEL = 7
WIDE_TITLE = 100  # columns from which the address stands in the header


def tabs(current: str, width: int, note: str = "") -> Content:
    """`[1 Resources]  2 Drift  3 Models ...`, the current one marked by brackets as well as by colour. note: at the right."""
    parts: list[Part] = [" "]
    for number, name in enumerate(TABS, 1):
        text = f"{number} {name.capitalize()}"
        parts.append((f"[{text}]", "accent") if name == current else (f" {text} ", "muted"))
        parts.append(" ")
    named = line(*parts).truncate(width)
    room = width - named.cell_length - 1
    return named.append(line((f"{note:>{room}}", "muted"))) if 0 < len(note) <= room else named


def history_note(sight: Sight) -> str:
    """How long a time the sparklines show; each device is asked at its own pace."""
    return f"last {figures.age(sight.span_s)}" if sight.span_s >= 1 else ""


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

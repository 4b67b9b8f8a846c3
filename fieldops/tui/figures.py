"""Numbers as a technician reads them. None is "-": unknown is never shown as 0."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fieldops.tui.glyphs import Glyphs

UNKNOWN = "-"
STALE_AFTER_S = 15.0


def percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}%"


def celsius(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}C"


def milliseconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if value < 0.1:
        return f"{value:.3f} ms"
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def rate(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.1f}/s" if value < 100 else f"{value:.0f}/s"


def size(value: float | None) -> str:
    """Bytes in binary units, three significant figures at most."""
    if value is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def age(seconds: float | None) -> str:
    """`2s`, `4m`, `4h12`, `2d3h`: at most 5 cells up to 99 days."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600}h" if days < 10 else f"{days}d"


def clock_time(unix: float | None, *, seconds: bool = False) -> str:
    """UTC, because the laptop's zone says nothing about the plant's."""
    if unix is None:
        return UNKNOWN
    return datetime.fromtimestamp(unix, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def date_time(unix: float | None) -> str:
    return UNKNOWN if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%m-%d %H:%M:%S")


def short_id(value: str | None) -> str:
    return value[:8] if value else UNKNOWN


def clip(text: str, width: int, glyphs: Glyphs) -> str:
    """At most width cells, counting wide characters as the terminal does; the cut is marked."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if width <= len(glyphs.ellipsis):
        return glyphs.ellipsis[:width]
    return set_cell_size(text, width - len(glyphs.ellipsis)).rstrip() + glyphs.ellipsis


def clean(text: str) -> str:
    """Text of a device or a stick for one line of the screen: control characters never reach the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def bar(fraction: float | None, width: int, glyphs: Glyphs) -> str:
    """Fraction 0..1 as a bar of width cells; unknown is an empty row of dashes, distinct from 0."""
    if fraction is None:
        return (glyphs.unknown + " " * (width - 1))[:width]
    whole = round(max(0.0, min(1.0, fraction)) * width)
    return glyphs.full * whole + glyphs.empty * (width - whole)


def spark(values: Sequence[float | None], width: int, glyphs: Glyphs, *, low: float = 0.0, high: float | None = None) -> str:
    """The newest `width` values, newest at the right; gaps where nothing was measured. high None: the largest value."""
    shown = list(values[-width:])
    known = [value for value in shown if value is not None]
    top = high if high is not None else max(known, default=0.0)
    span = top - low
    levels = len(glyphs.spark)

    def glyph(value: float | None) -> str:
        if value is None:
            return " "
        if span <= 0:
            return glyphs.spark[0]
        level = int((value - low) / span * levels)
        return glyphs.spark[max(0, min(levels - 1, level))]

    return " " * (width - len(shown)) + "".join(glyph(value) for value in shown)

"""Benchmarks of a device: the runs taken from here, and one of them beside the device's own baseline."""

from __future__ import annotations

from textual.content import Content

from fieldops.bench import Comparison, compare
from fieldops.tui import figures
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Tone, line, page, wrapped
from fieldops.wire import BenchResult

Run = tuple[float, BenchResult]

COLUMNS = (
    Column("TIME UTC", 11),
    Column("MODEL", 10, grows=2),
    Column("VERSION", 9, grows=1),
    Column("P50", 8, right=True),
    Column("P90", 8, right=True),
    Column("RATE", 8, right=True),
    Column("VS BASELINE", 15),
)
_TONES: dict[str, Tone] = {"same": "ok", "faster": "ok", "slower": "fail", "not comparable": "warn"}
_WORDS = {"same": "as the baseline", "faster": "faster", "slower": "SLOWER", "not comparable": "NOT COMPARABLE"}


def against(result: BenchResult) -> Comparison | None:
    return compare(result, result.baseline) if result.baseline is not None else None


def cells(run: Run) -> tuple[Cell, ...]:
    at, result = run
    compared = against(result)
    word = Cell(_WORDS[compared.verdict], _TONES[compared.verdict]) if compared else Cell("no baseline", "muted")
    return (
        Cell(figures.date_time(at)[:11]),
        Cell(figures.clean(result.model), "strong"),
        Cell(figures.clean(result.version)),
        Cell(figures.milliseconds(result.p50_ms)),
        Cell(figures.milliseconds(result.p90_ms)),
        Cell(figures.rate(result.rate_per_s)),
        word,
    )


def bench_text(result: BenchResult, width: int, *, kept: bool = False) -> Content:
    """kept: the device keeps it as its baseline."""
    lines = [
        line(
            ("model    ", "muted"), (figures.clean(f"{result.model} {result.version}"), "strong"), f"   {result.samples} samples"
        )
    ]
    heat = f"{figures.celsius(result.temp_before_c)} to {figures.celsius(result.temp_after_c)}"
    facts = (
        ("cold", figures.milliseconds(result.cold_ms)),
        ("p50", figures.milliseconds(result.p50_ms)),
        ("p90", figures.milliseconds(result.p90_ms)),
        ("p99", figures.milliseconds(result.p99_ms) if result.p99_ms is not None else "-  (needs 662 samples)"),
        ("rate", figures.rate(result.rate_per_s)),
        ("kernel", figures.milliseconds(result.kernel_ms)),
        ("heat", heat),
        ("energy", f"{result.energy_j:.4f} J a request" if result.energy_j is not None else figures.UNKNOWN),
    )
    lines += [line((f"{name:<9}", "muted"), f"{value:>10}") for name, value in facts]
    if result.throttled:
        lines.append(line(("THROTTLED", "warn"), " meanwhile: it says nothing about the model"))
    compared = against(result)
    lines.append(Content(""))
    if compared is None:
        lines += wrapped("baseline", ["none on the device yet; N measures one and lets the device keep it"], width, 9)
    else:
        lines += _compared(compared, width)
    if kept:
        lines += wrapped("kept", ["by the device, as its baseline from now on"], width, 9, "ok")
    return page(lines)


def _compared(compared: Comparison, width: int) -> list[Content]:
    lines = [line((f"{'BASELINE':<9}{'THEN':>10}{'NOW':>11}{'RATIO':>8}", "muted"))]
    for row in compared.rows:
        ratio = f"x{row.ratio:.2f}" if row.ratio is not None else figures.UNKNOWN
        then, now = figures.milliseconds(row.before_ms), figures.milliseconds(row.now_ms)
        lines.append(line(f"{row.name:<9}{then:>10}{now:>11}{ratio:>8}"))
    lines += wrapped(
        "verdict",
        [_WORDS[compared.verdict] + (f": {compared.reason}" if compared.reason else "")],
        width,
        9,
        _TONES[compared.verdict],
    )
    if compared.kernel_ratio is not None and compared.comparable:
        lines += wrapped(
            "", [f"the machine itself took {compared.kernel_ratio:.2f}x its earlier time; ratios allow for it"], width, 9, "muted"
        )
    return lines

"""The fleet list's cells, and the panel that stands beside it on wide screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.errors import FieldopsError, next_step_of
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import Tone, heading, line, page, tone_of, wrapped
from fieldops.tui.snapshots import Sight, memory_pct

if TYPE_CHECKING:
    from fieldops.operations.observe import Snapshot


COLUMNS = (
    Column("ST", 4),
    Column("DEVICE", 11, grows=2),
    Column("SITE", 12, grows=1, goes=1),
    Column("LINK", 4, goes=2),
    Column("CPU", 4, right=True),
    Column("MEM", 4, right=True, goes=3),
    Column("TEMP", 4, right=True),
    Column("MODEL", 14, grows=2),
    Column("DRIFT", 5),
    Column("SEEN", 5, right=True),
)
_DRIFT_WORDS: dict[str, tuple[str, Tone]] = {
    "ok": ("ok", "ok"),
    "data": ("DATA", "warn"),
    "hardware": ("HW", "warn"),
    "both": ("BOTH", "fail"),
}
_WORST_DRIFT = ("both", "hardware", "data", "ok")
HOT_SHARE = 0.9  # of the temperature limit: shown in the warning colour from here


def drift_word(snapshot: Snapshot | None) -> tuple[str, Tone]:
    """The gravest verdict of all models; unknown is "-"."""
    verdicts = {each.verdict for each in snapshot.drift} if snapshot else set()
    worst = next((verdict for verdict in _WORST_DRIFT if verdict in verdicts), None)
    return _DRIFT_WORDS[worst] if worst else (figures.UNKNOWN, "muted")


def model_word(snapshot: Snapshot | None) -> tuple[str, Tone]:
    slots = snapshot.models.slots if snapshot and snapshot.models else []
    if not slots:
        return figures.UNKNOWN, "muted"
    slot = slots[0]
    more = f" +{len(slots) - 1}" if len(slots) > 1 else ""
    if slot.state == "trial":
        return f"{slot.model} {slot.candidate}*{more}", "warn"
    if slot.active is None:
        return f"{slot.model} none{more}", "fail"
    return f"{slot.model} {slot.active}{more}", "plain"


def temperature_tone(snapshot: Snapshot | None) -> Tone:
    hardware = snapshot.resources if snapshot else None
    if hardware is None or hardware.soc_temp_c is None:
        return "muted"
    if hardware.throttled:
        return "warn"
    limit = hardware.temp_limit_c
    return "warn" if limit is not None and hardware.soc_temp_c >= HOT_SHARE * limit else "plain"


def cells(sight: Sight, now: float) -> tuple[Cell, ...]:
    """One row of the list, in the order of COLUMNS. Values older than STALE_AFTER_S are muted: they are memories."""
    snapshot = sight.snapshot
    hardware = snapshot.resources if snapshot else None
    age = sight.age(now)
    stale = age is None or age > figures.STALE_AFTER_S

    def value(text: str, tone: Tone = "plain") -> Cell:
        return Cell(text, "muted" if stale or text == figures.UNKNOWN else tone)

    return (
        Cell(sight.state, tone_of(sight.state)),
        Cell(figures.clean(sight.entry.name), "strong"),
        Cell(figures.clean(sight.entry.site) or figures.UNKNOWN),
        value(snapshot.link if snapshot else figures.UNKNOWN),
        value(figures.percent(hardware.cpu_pct if hardware else None)),
        value(figures.percent(memory_pct(snapshot) if snapshot else None)),
        value(figures.celsius(hardware.soc_temp_c if hardware else None), temperature_tone(snapshot)),
        value(figures.clean(model_word(snapshot)[0]), model_word(snapshot)[1]),
        value(*drift_word(snapshot)),
        Cell(figures.age(age), "off" if stale and age is not None else "muted"),
    )


_FIRST_STEPS = (
    ("fieldops demo", "try it first: 8 real agents on this machine, with faults to find"),
    ("fieldops device add NAME --ssh USER@HOST", "your own device into the list; nothing is sent to it"),
    ("fieldops device trust NAME", "compare its SSH host key with its label"),
    ("fieldops device enrol NAME", "device and laptop know each other from then on"),
)


def first_run(place: str, fault: FieldopsError | None, width: int, glyphs: Glyphs) -> Content:
    """In place of the list: why it cannot be read, or what to type to get the first device."""
    if fault is not None:
        return page(
            [
                heading("THE LIST OF DEVICES CANNOT BE READ", width, glyphs.rule),
                Content(""),
                *wrapped("what", [figures.clean(text) for text in fault.message.splitlines()], width, 7, "warn"),
                *wrapped("next", [figures.clean(next_step_of(fault))], width, 7),
                *wrapped("", ["then press r here to read it again"], width, 7),
            ]
        )
    lines = [
        heading("NO DEVICES YET", width, glyphs.rule),
        Content(""),
        line("In a shell (Ctrl+Q leaves the console):"),
        Content(""),
    ]
    for command, what in _FIRST_STEPS:
        lines += [line("  ", (command, "accent")), *wrapped("", [what], width, 6, "muted")]
    lines += [
        Content(""),
        line("The list itself is a file you may edit; r reads it again:"),
        *wrapped("", [figures.clean(place)], width, 2, "strong"),
    ]
    return page(lines)


def side(sight: Sight | None, now: float, width: int, glyphs: Glyphs) -> Content:
    """What matters of the selected device, beside the list."""
    if sight is None:
        return Content("")
    snapshot = sight.snapshot
    title = line((figures.clip(sight.entry.name, width - 6, glyphs), "strong"))
    gap = max(1, width - title.cell_length - len(sight.state))
    lines = [title.append(" " * gap).append(line((sight.state, tone_of(sight.state))))]
    entry = sight.entry
    where = [text for text in (entry.site, entry.device_class, figures.short_id(entry.id)) if text]
    lines.append(line((figures.clean(f" {glyphs.dot} ".join(where)), "muted")))
    if snapshot is None:
        return page([*lines, Content(""), line(("not asked yet", "muted"))])
    lines += [Content(""), *_why(snapshot, width)]
    lines += [Content(""), *_hardware(sight, snapshot, now, width, glyphs)]
    lines += [Content(""), *_serving(snapshot, width, glyphs)]
    lines += _drift(snapshot, width, glyphs)
    return page(lines)


def _why(snapshot: Snapshot, width: int) -> list[Content]:
    if snapshot.error is not None:
        return [
            *wrapped("why", [figures.clean(snapshot.error.message)], width, 7),
            *wrapped("next", [figures.clean(next_step_of(snapshot.error))], width, 7),
        ]
    reasons = [figures.clean(reason) for reason in snapshot.reasons]
    return wrapped("why", reasons or ["nothing to report"], width, 7, tone_of(snapshot.state) if reasons else "muted")


def _hardware(sight: Sight, snapshot: Snapshot, now: float, width: int, glyphs: Glyphs) -> list[Content]:
    hardware = snapshot.resources
    age = sight.age(now)
    seen = figures.age(age) if age is not None else "never"
    stale = f"  STALE {seen}" if age is None or age > figures.STALE_AFTER_S else ""
    lines = [line(("link   ", "muted"), f"{snapshot.link}", ("   seen " + seen if not stale else "", "muted"), (stale, "off"))]
    if hardware is None:
        return lines
    room = max(8, width - 14)
    history = sight.history
    cpu = figures.spark([each.cpu_pct for each in history], room, glyphs, high=100)
    temp = figures.spark([each.temp_c for each in history], room, glyphs, low=20, high=hardware.temp_limit_c or 100)
    memory = memory_pct(snapshot)
    lines += [
        line(("cpu    ", "muted"), f"{figures.percent(hardware.cpu_pct):>5}  ", (cpu, "accent")),
        line(("mem    ", "muted"), f"{figures.percent(memory):>5}  ", (figures.bar(_share(memory), room, glyphs), "accent")),
        line(
            ("temp   ", "muted"), (f"{figures.celsius(hardware.soc_temp_c):>5}  ", temperature_tone(snapshot)), (temp, "accent")
        ),
        line(("disk   ", "muted"), f"{figures.size(hardware.disk_free_bytes)} free"),
    ]
    return lines


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _serving(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Content]:
    slots = snapshot.models.slots if snapshot.models else []
    answering = {each.model: each for each in snapshot.resources.serving} if snapshot.resources else {}
    lines = []
    for slot in slots:
        answering_now = slot.candidate if slot.state == "trial" else slot.active
        shown = figures.clip(figures.clean(f"{slot.model} {answering_now or 'none'}"), width - 20, glyphs)
        lines.append(line(("model  ", "muted"), (shown, "strong"), (f"  {slot.state.replace('_', ' ')}", "muted")))
        serving = answering.get(slot.model)
        if serving is not None:
            lines.append(
                line(
                    ("       ", "muted"),
                    f"p50 {figures.milliseconds(serving.p50_ms)}",
                    (f"   {figures.rate(serving.rate_per_s)}", "muted"),
                )
            )
            lines.append(
                line(
                    ("       ", "muted"),
                    f"p95 {figures.milliseconds(serving.p95_ms)}",
                )
            )
            if serving.baseline_p50_ms is not None:
                lines.append(line((f"       baseline p50 {figures.milliseconds(serving.baseline_p50_ms)}", "muted")))
    return lines or [line(("model  ", "muted"), figures.UNKNOWN)]


def _drift(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Content]:
    lines: list[Content] = []
    for each in snapshot.drift:
        if each.verdict in {"ok", "unknown"}:
            continue
        lines += [Content(""), heading(f"{each.verdict.upper()} DRIFT", width, glyphs.rule, figures.clean(each.model))]
        lines += wrapped("", [figures.clean(text) for text in each.evidence[:4]], width, 1)
    return lines

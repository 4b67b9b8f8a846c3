"""The drift tab: every watched feature against its limit, the cause, and what that rests on."""

from __future__ import annotations

from math import isfinite

from textual.content import Content

from fieldops.drift.cause import Diagnosis
from fieldops.drift.shift import FeatureShift
from fieldops.errors import next_step_of
from fieldops.operations.observe import Snapshot
from fieldops.tui import figures
from fieldops.tui.glyphs import Glyphs
from fieldops.tui.panels.ink import Tone, heading, line, page, tone_of, wrapped
from fieldops.tui.snapshots import Sight

LABEL = 7
_VERDICT_TONES: dict[str, Tone] = {"ok": "ok", "data": "warn", "hardware": "warn", "both": "fail", "unknown": "muted"}
_VERDICT_TEXTS = {
    "ok": "inputs look like at release; the hardware keeps its figures",
    "data": "the inputs changed, the hardware is well: a rollback will not bring them back",
    "hardware": "the hardware changed, the inputs did not: look at heat, power and load first",
    "both": "inputs and hardware both changed",
    "unknown": "not enough was measured to say",
}


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

"""Hardware or data? The evidence of one model turned into a set of labels, lines a technician understands, and one word.

The rules, in this order; labels add up, none hides another:

    digest differs from what was signed                        artifact       hardware
    golden set fails, though replay is bit-equal               model          data: no part of the device is at fault
    golden set fails                                           compute        hardware
    golden set holds, replay is not bit-equal                  numerics       a note: never a reason to roll back
    clock throttled, or too hot                                thermal        hardware
    p50 above this device's own baseline (1.3x, >= 1 ms)       contention     hardware
    a feature shifted in two of three windows                  data           data
    features quiet, golden set holds, labels say less right    concept        data

While the device is hot the core answers without the large model: then outputs that moved without the inputs are a note.
"Unknown" is a verdict: nothing points at hardware, and too little was counted to clear the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldops.drift.lag import wilson
from fieldops.drift.report import DriftReport, Stats
from fieldops.drift.shift import FEWEST, LOOK_BACK, FeatureShift, assess, fits
from fieldops.drift.sketch import Reference
from fieldops.fleet import Resources, Serving

__all__ = ["Diagnosis", "FeatureShift", "Verdict", "diagnose"]

SLOWER = 1.3  # references/bench_drift.md §C; two runs within one regime differ by 7 %
LEAST_SLOWER_MS = 1.0  # both are of served requests; below this no program notices
FEWEST_LABELS = 50
HARDWARE = frozenset({"artifact", "compute", "thermal", "contention"})
DATA = frozenset({"data", "concept", "model"})
LEANS = 0.1  # below it a moved feature is called "spread differently"

Verdict = Literal["ok", "data", "hardware", "both", "unknown"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """evidence: gravest first, one line a fact. features: empty when drift cannot be told. n: requests counted."""

    model: str
    version: str
    verdict: Verdict
    labels: frozenset[str]
    evidence: tuple[str, ...]
    features: tuple[FeatureShift, ...]
    n: int


@dataclass(frozen=True, slots=True)
class _Found:
    label: str  # "" when the line is only a note
    line: str


def diagnose(report: DriftReport, resources: Resources | None) -> Diagnosis:
    """Without resources the hardware could not be read, and only the model's own evidence speaks."""
    features = assess(report.reference, report.windows) if report.reference else ()
    found = [*_integrity(report.stats), *_hardware(report, resources)]
    found += _shifts(features, hot=any(each.label == "thermal" for each in found))
    found += _late_labels(report, moved=any(each.label == "data" for each in found))
    labels = frozenset(each.label for each in found if each.label)
    n = sum(window.n for window in report.windows)
    unsettled = any(feature.fired for feature in features) and len(_history(features)) < LOOK_BACK
    untold = _untold(report, n) if not features else ""
    if untold:
        found.append(_Found("", untold))
    return Diagnosis(
        model=report.model,
        version=report.version,
        verdict=_verdict(labels, told=bool(features) and not unsettled),
        labels=labels,
        evidence=tuple(each.line for each in found),
        features=features,
        n=n,
    )


def _history(features: tuple[FeatureShift, ...]) -> tuple[float, ...]:
    return features[0].history if features else ()


def _verdict(labels: frozenset[str], *, told: bool) -> Verdict:
    hardware, data = bool(labels & HARDWARE), bool(labels & DATA)
    if hardware and data:
        return "both"
    if hardware:
        return "hardware"
    if data:
        return "data"
    return "ok" if told else "unknown"


def _untold(report: DriftReport, n: int) -> str:
    if report.reference is None:
        return "no reference sketch came with this version: drift cannot be told"
    if report.windows and not any(fits(report.reference, window) for window in report.windows):
        return "the counts belong to another reference than this version's: drift cannot be told"
    return f"{n} requests counted; {FEWEST} are needed before drift can be told"


# --- hardware ----------------------------------------------------------------------------------------------------------


def _integrity(stats: Stats) -> list[_Found]:
    found: list[_Found] = []
    if stats.digest_ok is False:
        found.append(_Found("artifact", "the model file is not what was signed: storage damaged it; stage the version again"))
    if stats.golden_ok is False and stats.replay_bit_equal:
        found.append(
            _Found("model", "golden set fails, bit for bit as recorded at release: the version itself is at fault; roll back")
        )
    elif stats.golden_ok is False:
        found.append(_Found("compute", "golden set fails on this device: it computes other answers than at release"))
    elif stats.replay_bit_equal is False:
        found.append(_Found("", "last bits differ from release (another runtime or processor), within tolerance: no fault"))
    return found


def _hardware(report: DriftReport, resources: Resources | None) -> list[_Found]:
    serving = _serving(report.model, resources)
    p50, base = report.stats.p50_ms, report.stats.baseline_p50_ms
    if serving is not None:
        p50 = serving.p50_ms if p50 is None else p50
        base = serving.baseline_p50_ms if base is None else base
    ratio = p50 / base if p50 is not None and base else None
    heat = _heat(report.stats, resources)
    if heat:
        return [_Found("thermal", f"{heat}, {_speed(ratio)}")]
    if ratio is not None and is_slower(p50, base):
        known = report.stats.throttled is False or (resources is not None and resources.throttled is False)
        why = "no throttling: something else uses the processor" if known else "throttling is not measurable here"
        return [_Found("contention", f"p50 {ratio:.1f}x baseline, {why}")]
    return []


def is_slower(p50_ms: float | None, baseline_ms: float | None) -> bool:
    """Slower than this device's own baseline, by a share and by an amount that somebody could notice."""
    if p50_ms is None or not baseline_ms:
        return False
    return p50_ms > SLOWER * baseline_ms and p50_ms - baseline_ms >= LEAST_SLOWER_MS


def _serving(model: str, resources: Resources | None) -> Serving | None:
    return next((each for each in resources.serving if each.model == model), None) if resources else None


def _speed(ratio: float | None) -> str:
    if ratio is None:
        return "p50 has no baseline yet"
    return f"p50 {ratio:.1f}x baseline"


def _heat(stats: Stats, resources: Resources | None) -> str:
    """How heat shows, in words; "" when it does not."""
    if resources is not None and (resources.throttled or stats.throttled):
        words = ["clock throttled"]
        if resources.throttle_reason not in {"", "throttled"}:
            words.append(f"({resources.throttle_reason})")
        if resources.clock_mhz is not None and resources.clock_max_mhz:
            words.append(f"at {resources.clock_mhz:.0f} of {resources.clock_max_mhz:.0f} MHz")
        if resources.soc_temp_c is not None:
            words.append(f"at {resources.soc_temp_c:.0f} °C")
        return " ".join(words)
    if stats.throttled:
        return "clock throttled"
    if resources is None or resources.soc_temp_c is None or resources.temp_limit_c is None:
        return ""
    if resources.soc_temp_c >= resources.temp_limit_c:
        return f"{resources.soc_temp_c:.0f} °C, the limit is {resources.temp_limit_c:.0f} °C"
    return ""


# --- data --------------------------------------------------------------------------------------------------------------


def _shifts(features: tuple[FeatureShift, ...], *, hot: bool) -> list[_Found]:
    """hot: the large model is not asked meanwhile, so outputs alone say nothing of the data."""
    moved = sorted((each for each in features if each.shifted), key=lambda each: -each.statistic / each.threshold)
    if hot and not any(each.name.startswith("input.") for each in moved):
        found = [_Found("", f"{_moved(each)}; while it is hot the core answers alone") for each in moved]
    else:
        found = [_Found("data", _moved(each)) for each in moved]
    waiting = [each.name for each in features if each.fired and not each.shifted]
    if waiting and len(_history(features)) < LOOK_BACK:
        found.append(_Found("", f"{', '.join(waiting)} shifted once: one more window decides"))
    elif waiting:
        found.append(_Found("", f"{', '.join(waiting)} shifted in one of the last {LOOK_BACK} windows: taken as chance"))
    return found


def _moved(feature: FeatureShift) -> str:
    newest = feature.newest
    words: list[str] = []
    if newest.statistic > newest.threshold or not newest.strays_fire:
        words.append(f"{_direction(newest.lean)} ({newest.statistic:.2f}, limit {newest.threshold:.2f})")
    if newest.strays_fire:
        words.append(f"{newest.strays:.0%} outside the range seen at release ({newest.strays_before:.1%} then)")
    return f"{feature.name} shifted: {'; '.join(words)}"


def _direction(lean: float) -> str:
    if lean > LEANS:
        return "higher than at release"
    if lean < -LEANS:
        return "lower than at release"
    return "spread differently than at release"


def _late_labels(report: DriftReport, *, moved: bool) -> list[_Found]:
    """Right less often than at release, by more than chance, while nothing else explains it."""
    stats, wanted = report.stats, _accuracy(report.reference)
    if stats.labelled < FEWEST_LABELS or wanted is None:
        return []
    _, high = wilson(stats.labelled_correct, stats.labelled)
    share = stats.labelled_correct / stats.labelled
    line = f"{share:.1%} of {stats.labelled} labelled answers are right; {wanted:.1%} at release"
    if high >= wanted:
        return []
    if moved or stats.golden_ok is False:
        return [_Found("", line)]
    return [_Found("concept", f"{line}, and the inputs look as before: the task may have changed")]


def _accuracy(reference: Reference | None) -> float | None:
    return reference.accuracy if reference else None

"""Benchmarks: what a percentile may claim, what a run was like, and whether two runs may be compared at all.

Percentiles follow MLPerf LoadGen's early-stopping rule (mlcommons/inference, loadgen/early_stopping.cc and results.cc;
confidence 0.99, tolerance 0): with n samples the estimate is the t-th largest, where t is the most samples that may lie above
the true percentile and still be believed. It is pessimistic by design, and refused below 64 samples (p90) or 662 (p99).
A machine's speed flips between regimes, so a fixed kernel is timed beside every run and figures are compared after dividing
by its ratio; a throttled run, or a kernel that is too far off, makes two runs "not comparable".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fieldops.wire import BenchBaseline, BenchResult

CONFIDENCE = 0.99
KERNEL_RATIO_LIMIT = 1.5  # beyond it the regimes differ too much for the kernel to stand for the model
CHANGED = 1.1  # p50 of fresh processes varied by 7 % within one regime (references/bench_drift.md §A)
FEWEST_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """What a runner hands over: one latency a request, in milliseconds, in the order taken."""

    cold_ms: float  # the first request after the load
    samples_ms: tuple[float, ...]
    kernel_ms: float
    runtime: str


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """worst_difference: largest absolute difference of an output from a recorded one; None when none was recorded."""

    ok: bool
    accuracy: float
    floor: float
    n: int
    worst_difference: float | None = None
    finite: bool = True


# --- percentiles -------------------------------------------------------------------------------------------------------


def _log_tail(n: int, t: int, share: float) -> float:
    """The logarithm of P(at most t of n samples lie above), each with probability 1 - share. Binomial sum, exact to rounding."""
    over, under = math.log(1 - share), math.log(share)
    terms = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * over + (n - k) * under for k in range(t + 1)]
    top = max(terms)
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))


def discarded(n: int, share: float) -> int:
    """t: the estimate of the `share` percentile is the t-th largest of n. 0: too few samples for one."""
    limit = math.log(1 - CONFIDENCE)
    low, high = 0, math.ceil(n * (1 - share)) + 1  # t never exceeds the expected number above
    if n < 1 or _log_tail(n, 1, share) >= limit:
        return 0
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        if middle < n and _log_tail(n, middle, share) < limit:
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=16)
def fewest_samples(share: float) -> int:
    """The smallest n for which `share` has an estimate: 64 for 0.9, 662 for 0.99."""
    n = 2
    while discarded(n, share) == 0:
        n += 1
    return n


def median(samples: Sequence[float]) -> float:
    """The middle, or the mean of the two in the middle. `statistics` has it too, but loads decimal and random at every start."""
    ordered = sorted(samples)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(samples: Sequence[float], share: float) -> float | None:
    """Early-stopped estimate; None below fewest_samples(share)."""
    t = discarded(len(samples), share)
    return sorted(samples)[len(samples) - t] if t else None


# --- one run -----------------------------------------------------------------------------------------------------------


def summarise(
    measured: Measured,
    *,
    model: str,
    version: str,
    throttled: bool | None = None,
    temp_before_c: float | None = None,
    temp_after_c: float | None = None,
    energy_j: float | None = None,
    accuracy: float | None = None,
    baseline: BenchBaseline | None = None,
) -> BenchResult:
    """Raises ValueError without samples. None always means "not measured", never 0."""
    samples = measured.samples_ms
    if not samples:
        raise ValueError("no samples")
    total = math.fsum(samples)
    return BenchResult(
        model=model,
        version=version,
        samples=len(samples),
        cold_ms=measured.cold_ms,
        p50_ms=median(samples),
        p90_ms=percentile(samples, 0.9),
        p99_ms=percentile(samples, 0.99),
        rate_per_s=1000 * len(samples) / total if total > 0 else 0.0,
        kernel_ms=measured.kernel_ms,
        throttled=throttled,
        temp_before_c=temp_before_c,
        temp_after_c=temp_after_c,
        energy_j=energy_j,
        accuracy=accuracy,
        runtime=measured.runtime,
        baseline=baseline,
    )


WORTH_IT = 0.9  # of the time of the simpler way: less is not worth it


def thread_counts(cores: int) -> tuple[int, ...]:
    """Those worth trying: powers of two up to the cores."""
    return tuple(count for count in (1, 2, 4, 8, 16) if count <= max(1, cores))


CPU = "CPUExecutionProvider"  # what every runtime has, and against what others are believed


@dataclass(frozen=True, slots=True)
class Tried:
    """One way to run a version: an execution provider of the runtime, threads a graph, the median of a request.

    distrusted: why its answers, or it itself, cannot be relied on here; "" where they are as recorded at release.
    """

    provider: str
    threads: int
    median_ms: float = float("inf")
    distrusted: str = ""

    @property
    def name(self) -> str:
        return f"{self.provider} x{self.threads}"


def providers_to_try(detected: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The CPU first, then as detected. allowed: the manifest's; empty: any."""
    named = [name for name in detected if not allowed or name in allowed]
    return tuple(sorted(named, key=lambda name: name != CPU)) or (CPU,)


def best_of(tried: Sequence[Tried]) -> Tried:
    """What to use: of those that can be believed, in the order tried; a later one only where it takes at most WORTH_IT of
    the time of the best before it. More threads cost a core that others could use, an accelerator its driver.

    Raises ValueError when none can be believed.
    """
    good = [each for each in tried if not each.distrusted]
    if not good:
        raise ValueError("no way to run it can be believed")
    best = good[0]
    for each in good[1:]:
        if each.median_ms <= WORTH_IT * best.median_ms:
            best = each
    return best


def baseline_of(result: BenchResult, measured_at: float) -> BenchBaseline:
    """What a device keeps of a run. measured_at: Unix seconds."""
    return BenchBaseline(
        version=result.version,
        p50_ms=result.p50_ms,
        p90_ms=result.p90_ms,
        kernel_ms=result.kernel_ms,
        measured=measured_at,
        threads=result.threads,
        provider=result.provider,
        served_p50_ms=result.served_p50_ms,
    )


# --- two runs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of two runs. ratio: now / before after dividing by the kernel's ratio; None where one is missing."""

    name: str
    now_ms: float | None
    before_ms: float | None
    ratio: float | None


Verdict = Literal["same", "slower", "faster", "not comparable"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """reason: why it is not comparable; "" when it is. kernel_ratio: how much slower the machine itself was, now / before."""

    comparable: bool
    verdict: Verdict
    rows: tuple[Row, ...]
    kernel_ratio: float | None
    reason: str = ""


def compare(result: BenchResult, baseline: BenchBaseline | BenchResult) -> Comparison:
    """The run against the device's own baseline, or another run. p50 decides; p90 is shown; p99 is too noisy to decide.

    The figures of its class decide nothing; the ratios to them are of the bare times.
    """
    ratio = result.kernel_ms / baseline.kernel_ms if result.kernel_ms > 0 and baseline.kernel_ms > 0 else None
    reason = _incomparable(result, baseline, ratio)
    by = ratio if ratio is not None and not reason else 1.0 if _of_class(baseline) else None
    rows = tuple(
        Row(name, now, before, _ratio(now, before, by))
        for name, now, before in (
            ("p50", result.p50_ms, baseline.p50_ms),
            ("p90", result.p90_ms, baseline.p90_ms),
        )
    )
    if reason:
        return Comparison(comparable=False, verdict="not comparable", rows=rows, kernel_ratio=ratio, reason=reason)
    changed = rows[0].ratio or 1.0
    verdict: Verdict = "slower" if changed > CHANGED else "faster" if changed < 1 / CHANGED else "same"
    return Comparison(comparable=True, verdict=verdict, rows=rows, kernel_ratio=ratio)


def _of_class(baseline: BenchBaseline | BenchResult) -> bool:
    return isinstance(baseline, BenchBaseline) and bool(baseline.device_class)


def _incomparable(result: BenchResult, baseline: BenchBaseline | BenchResult, ratio: float | None) -> str:
    if isinstance(baseline, BenchBaseline) and _of_class(baseline):
        return (
            f"these are the release team's figures of class {baseline.device_class}, since this device has none of its own:"
            " `fieldops bench baseline`"
        )
    if result.throttled:
        return "the clock was throttled during the run: let the device cool, then measure again"
    if isinstance(baseline, BenchResult) and baseline.throttled:
        return "the clock was throttled during the earlier run"
    if isinstance(baseline, BenchResult) and result.runtime != baseline.runtime:
        return f"another runtime: {result.runtime}, before {baseline.runtime}"
    if result.samples < FEWEST_SAMPLES:
        return f"{result.samples} samples; {FEWEST_SAMPLES} are needed"
    if ratio is None:
        return "no calibration kernel was timed beside one of the runs"
    if not 1 / KERNEL_RATIO_LIMIT <= ratio <= KERNEL_RATIO_LIMIT:
        return f"the machine itself ran at {ratio:.2f}x the time of the earlier run: measure again when it is idle"
    return ""


def _ratio(now: float | None, before: float | None, by: float | None) -> float | None:
    if now is None or before is None or by is None or before <= 0:
        return None
    return now / before / by

"""What a benchmark may claim, and when two may be compared."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldops.bench import (
    CPU,
    KERNEL_RATIO_LIMIT,
    Measured,
    Tried,
    baseline_of,
    best_of,
    compare,
    discarded,
    fewest_samples,
    percentile,
    providers_to_try,
    summarise,
    thread_counts,
)
from fieldops.wire import BenchResult


@pytest.mark.parametrize(("share", "fewest"), [(0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)])
def test_the_fewest_samples_are_those_of_the_early_stopping_rule(share: float, fewest: int) -> None:
    assert fewest_samples(share) == fewest
    assert percentile([1.0] * (fewest - 1), share) is None
    assert percentile([1.0] * fewest, share) == 1.0


@pytest.mark.parametrize(("n", "share", "t"), [(64, 0.9, 1), (200, 0.9, 10), (256, 0.9, 14), (1000, 0.9, 78), (1000, 0.99, 2)])
def test_the_estimate_is_the_t_th_largest(n: int, share: float, t: int) -> None:
    assert discarded(n, share) == t
    assert percentile([float(i) for i in range(n)], share) == n - t


@pytest.mark.parametrize("share", [0.9, 0.99])
@pytest.mark.parametrize("n", [64, 65, 300, 662, 900])
def test_t_is_the_largest_count_that_the_binomial_tail_allows(n: int, share: float) -> None:
    def tail(t: int) -> float:
        return math.fsum(math.comb(n, k) * (1 - share) ** k * share ** (n - k) for k in range(t + 1))

    t = discarded(n, share)
    assert t == 0 or tail(t) <= 0.01
    assert tail(max(t, 1) + (1 if t else 0)) > 0.01


RUNS = json.loads((Path(__file__).parent / "loadgen.json").read_text())


@pytest.mark.parametrize("run", RUNS, ids=["200", "700"])
def test_estimates_are_those_mlperf_loadgen_printed_for_its_own_latencies(run: dict[str, Any]) -> None:
    """Recorded from mlcommons-loadgen 6.0.17, single stream, with a stand-in that sleeps."""
    for share, name in ((0.9, "90.0"), (0.99, "99.0")):
        assert percentile(run["latencies_ns"], share) == run["estimates"].get(name)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1e4), min_size=64, max_size=800))
def test_a_percentile_depends_on_no_order_and_is_never_below_the_plain_one(samples: list[float]) -> None:
    estimate = percentile(samples, 0.9)
    assert estimate is not None
    assert estimate == percentile(samples[::-1], 0.9)
    assert estimate >= sorted(samples)[int(len(samples) * 0.9)]


def test_more_samples_discard_more() -> None:
    counts = [discarded(n, 0.9) for n in range(64, 2000, 7)]
    assert all(a <= b for a, b in pairwise(counts))


def result(p50: float = 1.0, *, n: int = 256, kernel: float = 0.5, throttled: bool | None = False) -> BenchResult:
    measured = Measured(cold_ms=9.0, samples_ms=tuple([p50] * n), kernel_ms=kernel, runtime="r")
    return summarise(measured, model="digits", version="1.0.0", throttled=throttled)


def test_a_run_says_none_where_it_has_too_few_samples_or_no_sensor() -> None:
    found = result(n=100)
    assert found.p90_ms == 1.0
    assert found.p99_ms is None
    assert found.temp_before_c is found.energy_j is found.accuracy is None
    assert found.rate_per_s == pytest.approx(1000)


def test_a_run_without_samples_is_no_run() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarise(Measured(1.0, (), 1.0, ""), model="m", version="1.0.0")


@pytest.mark.parametrize(
    ("p50", "kernel", "verdict"),
    [
        (1.0, 0.5, "same"),
        (1.08, 0.5, "same"),
        (1.25, 0.5, "slower"),
        (0.8, 0.5, "faster"),
        (1.25, 0.625, "same"),  # the whole machine was slower by as much
        (1.56, 0.625, "slower"),
        (1.0, 0.625, "faster"),
    ],
)
def test_runs_are_compared_after_allowing_for_the_machines_own_speed(p50: float, kernel: float, verdict: str) -> None:
    found = compare(result(p50, kernel=kernel), baseline_of(result(1.0), measured_at=0.0))
    assert (found.comparable, found.verdict) == (True, verdict)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (result(throttled=True), "throttled"),
        (result(kernel=0.5 * KERNEL_RATIO_LIMIT * 1.01), "1.52x"),
        (result(kernel=0.5 / KERNEL_RATIO_LIMIT / 1.01), "0.66x"),
        (result(n=63), "63 samples"),
        (result(kernel=0.0), "kernel"),
        (msgspec.structs.replace(result(), runtime="other"), "another runtime"),
    ],
)
def test_what_cannot_be_compared_is_not(now: BenchResult, reason: str) -> None:
    found = compare(now, result())
    assert (found.comparable, found.verdict) == (False, "not comparable")
    assert reason in found.reason
    assert all(row.ratio is None for row in found.rows)


def test_an_earlier_throttled_run_is_no_measure() -> None:
    assert "earlier" in compare(result(), result(throttled=True)).reason


def test_more_threads_only_where_they_are_worth_a_core() -> None:
    def chosen(*median_ms: float) -> int:
        return best_of([Tried(CPU, 2**n, ms) for n, ms in enumerate(median_ms)]).threads

    assert chosen(1.0, 0.95, 0.91) == 1
    assert chosen(1.0, 0.6, 0.58) == 2
    assert chosen(1.0, 0.95, 0.5) == 4
    assert (thread_counts(0), thread_counts(3), thread_counts(4)) == ((1,), (1, 2), (1, 2, 4))


@pytest.mark.parametrize(
    ("warp", "distrusted", "chosen"),
    [
        (0.5, "", ("Warp", 1)),
        (0.95, "", (CPU, 1)),  # no gain that is worth a driver
        (0.5, "outputs differ by 3.4", (CPU, 1)),
        (float("inf"), "it does not start here", (CPU, 1)),
        (1.4, "", (CPU, 1)),
    ],
)
def test_another_provider_only_where_it_is_faster_and_computes_the_same(
    warp: float, distrusted: str, chosen: tuple[str, int]
) -> None:
    rows = [Tried(CPU, 1, 1.0), Tried(CPU, 2, 0.97), Tried("Warp", 1, warp, distrusted)]
    found = best_of(rows)
    assert (found.provider, found.threads) == chosen


def test_where_nothing_can_be_believed_nothing_is_chosen() -> None:
    with pytest.raises(ValueError, match="believed"):
        best_of([Tried(CPU, 1, 1.0, "accuracy 0.2")])


def test_a_manifest_narrows_the_providers_and_the_cpu_is_the_measure_of_the_others() -> None:
    detected = ["Warp", "Azure", CPU]
    assert providers_to_try(detected, []) == (CPU, "Warp", "Azure")
    assert providers_to_try(detected, ["Warp", "Cuda"]) == ("Warp",)
    assert providers_to_try(detected, ["Cuda"]) == (CPU,)  # such a bundle is refused before; the foreign one is not

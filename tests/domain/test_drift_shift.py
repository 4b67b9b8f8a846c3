"""Counts add up exactly, and the test's false-alarm rate is the one that was asked for."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldops.drift import count as counting
from fieldops.drift.shift import (
    FEWEST,
    assess,
    chi_square_cdf,
    chi_square_quantile,
    compare,
    fits,
    gathered,
    merge,
)
from fieldops.drift.sketch import Feature, Reference, Window
from fieldops.wire import encode

Rows = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def reference_of(rows: Rows, bins: int = 32) -> Reference:
    """One feature a column, its edges from the same rows."""
    features = []
    for column in range(rows.shape[1]):
        edges = counting.quantile_edges(rows[:, column], bins)
        features.append(counting.feature(f"input.column:{column}", edges, rows, rows))
    return Reference(v=1, features=features)


def window_of(reference: Reference, rows: Rows, at: float = 0.0) -> Window:
    counts = {each.name: counting.count(counting.values_of(each.source, rows, rows), each.edges) for each in reference.features}
    return Window(started=at, ended=at + 60, n=len(rows), counts=counts)


RNG = np.random.default_rng(20)
NORMAL = reference_of(np.random.default_rng(1).normal(size=(5000, 1)))


# --- counting ------------------------------------------------------------------------------------------------------------

any_value = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(deadline=None)
@given(st.lists(any_value, max_size=60), st.lists(any_value, max_size=60))
def test_every_value_falls_into_one_cell_and_counts_add_up(first: list[float], second: list[float]) -> None:
    edges = [-1.0, 0.0, 0.5, 2.0]
    a, b, both = (counting.count(np.array(each, float), edges) for each in (first, second, first + second))
    assert sum(a) == len(first)
    assert len(a) == len(edges) + 2
    assert [x + y for x, y in zip(a, b, strict=True)] == both


def test_cells_are_under_bins_over_and_nan() -> None:
    values = np.array([-np.inf, -2.0, -1.0, -0.1, 0.0, 1.9, 2.0, 1e6, np.inf, np.nan])
    assert counting.count(values, [-1.0, 0.0, 2.0]) == [2, 2, 2, 3, 1]


def test_edges_are_strictly_rising_and_hold_all_they_were_made_of() -> None:
    values = np.concatenate([np.zeros(500), RNG.normal(size=500)])
    edges = counting.quantile_edges(values, 32)
    assert all(a < b for a, b in pairwise(edges))
    assert len(edges) <= 33
    counts = counting.count(values, edges)
    assert counts[0] == counts[-1] == counts[-2] == 0


def test_a_constant_gets_a_bin_of_its_own_and_nothing_finite_none() -> None:
    low, high = counting.quantile_edges(np.full(100, 3.0), 32)
    assert low < 3.0 < high
    with pytest.raises(ValueError, match="finite"):
        counting.quantile_edges(np.array([np.nan, np.inf]), 32)


def test_features_of_a_request_survive_what_is_no_number() -> None:
    rows = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, np.nan, 1.0, 2.0], [0.0, 1.0, 2.0, np.inf]])
    assert counting.values_of("input.p90", rows, rows)[0] == pytest.approx(np.percentile(rows[0], 90))
    assert np.isnan(counting.values_of("input.mean", rows, rows)[1])
    assert np.isnan(counting.values_of("input.p10", rows, rows)[1])
    assert np.isnan(counting.values_of("output.label", rows, rows)[1])
    assert counting.values_of("output.label", rows, rows)[0] == 3
    with pytest.raises(KeyError):
        counting.values_of("input.column:4", rows, rows)


# --- windows -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_merging_is_exact_in_any_order_and_grouping(cells: list[list[int]], random: object) -> None:
    windows = [Window(started=float(i), ended=i + 1.0, n=sum(each), counts={"f": each}) for i, each in enumerate(cells)]
    whole = merge(windows)
    assert whole.counts["f"] == [sum(column) for column in zip(*cells, strict=True)]
    assert whole.n == sum(map(sum, cells))
    assert merge(windows[::-1]) == whole
    if len(windows) > 2:
        assert merge([merge(windows[:2]), merge(windows[2:])]) == whole


def test_small_windows_are_joined_from_the_newest_back() -> None:
    windows = [Window(started=float(i), ended=i + 1.0, n=n, counts={"f": [n]}) for i, n in enumerate([20, 60, 30, 10, 15])]
    assert [(each.started, each.n) for each in gathered(windows)] == [(1.0, 60), (2.0, 55)]


def test_counts_of_another_reference_are_not_read() -> None:
    window = window_of(NORMAL, RNG.normal(size=(100, 1)))
    assert fits(NORMAL, window)
    assert not fits(reference_of(RNG.normal(size=(500, 2))), window)
    assert not fits(NORMAL, Window(started=0, ended=1, n=101, counts=window.counts))
    assert assess(NORMAL, [Window(started=0, ended=1, n=99, counts={"other": [99]})]) == ()


def test_a_window_costs_about_a_hundred_bytes_a_feature_whatever_it_counted() -> None:
    reference = reference_of(RNG.normal(size=(5000, 10)))
    for n, most in ((1000, 110), (100_000, 180)):
        window = window_of(reference, RNG.normal(size=(n, 10)))
        assert len(encode(window.counts)) / 10 - len('"input.column:0":,') <= most


# --- the test ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [  # Abramowitz and Stegun, table 26.8, to the figures printed there
        (0.95, 1, 3.84146),
        (0.99, 1, 6.63490),
        (0.99, 9, 21.6660),
        (0.999, 9, 27.877),
        (0.99, 31, 52.1914),
        (0.5, 10, 9.34182),
        (0.005, 5, 0.411740),
        (0.99, 100, 135.807),
    ],
)
def test_chi_square_quantiles_are_those_of_the_tables(probability: float, degrees: int, quantile: float) -> None:
    assert chi_square_quantile(probability, degrees) == pytest.approx(quantile, rel=2e-5)
    assert chi_square_cdf(chi_square_quantile(probability, degrees), degrees) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("n", [50, 100, 500, 2000])
def test_undrifted_windows_fire_as_rarely_as_asked(n: int) -> None:
    """1000 windows over 50 references at 1 %: a binomial 99.9 % band around 10 ends at 21; the test's own approximation adds to it."""
    rng = np.random.default_rng(n)
    fired = 0
    for _ in range(50):
        reference = reference_of(rng.normal(size=(2000, 1)))
        for _ in range(20):
            window = window_of(reference, rng.normal(size=(n, 1)))
            found = compare(reference.features[0], window.counts["input.column:0"], alpha=0.01)
            fired += found.statistic > found.threshold
    assert fired <= 24


def test_over_a_family_of_features_false_alarms_stay_below_one_in_a_hundred() -> None:
    """20 features: one window at 1 % for all together; two of three windows for the same feature: practically never."""
    rng = np.random.default_rng(4)
    any_fired = shifted = 0
    for _ in range(10):
        reference = reference_of(rng.normal(size=(1500, 20)))
        windows = [window_of(reference, rng.normal(size=(200, 20)), float(i)) for i in range(12)]
        for end in range(3, 13):
            features = assess(reference, windows[end - 3 : end])
            any_fired += any(each.newest.fires for each in features)
            shifted += any(each.shifted for each in features)
    assert any_fired <= 5  # of 100
    assert shifted == 0


def test_a_fifth_of_a_sigma_is_found_in_a_thousand_requests() -> None:
    rng = np.random.default_rng(5)
    feature = NORMAL.features[0]
    found = 0
    for _ in range(200):
        window = window_of(NORMAL, rng.normal(0.2, size=(1000, 1)))
        found += compare(feature, window.counts[feature.name], alpha=0.01).fires
    assert found >= 0.93 * 200  # measured 0.98 over 1000


def test_one_huge_outlier_moves_the_statistic_by_less_than_15_percent() -> None:
    feature = NORMAL.features[0]
    rows = np.random.default_rng(6).normal(1.0, size=(1000, 1))
    before = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    rows[0, 0] = 1e6
    after = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    assert after.statistic == pytest.approx(before.statistic, rel=0.15)
    assert after.fires


def test_one_outlier_in_quiet_data_is_no_alarm_and_many_are() -> None:
    feature = NORMAL.features[0]
    rows = np.random.default_rng(7).normal(size=(1000, 1))
    before = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    rows[0, 0] = -1e6
    found = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    assert not found.strays_fire
    assert found.statistic == pytest.approx(before.statistic, abs=0.002)
    rows[:30, 0] = 1e6
    found = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    assert found.strays_fire
    assert found.strays >= 0.03


def test_half_of_the_values_missing_is_said_and_breaks_nothing() -> None:
    feature = NORMAL.features[0]
    rows = np.random.default_rng(8).normal(size=(1000, 1))
    rows[::2, 0] = np.nan
    found = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    assert found.strays_fire
    assert found.statistic < found.threshold  # those that are numbers have not moved
    rows[:, 0] = np.nan
    found = compare(feature, window_of(NORMAL, rows).counts[feature.name], alpha=0.01)
    assert found.strays == 1.0
    assert math.isfinite(found.statistic)


def test_a_constant_feature_fires_only_when_it_stops_being_constant() -> None:
    reference = reference_of(np.full((500, 1), 3.0))
    feature = reference.features[0]
    assert not compare(feature, window_of(reference, np.full((200, 1), 3.0)).counts[feature.name], alpha=0.01).fires
    assert compare(feature, window_of(reference, np.full((200, 1), 4.0)).counts[feature.name], alpha=0.01).fires


def test_two_of_three_windows_decide_and_the_history_shows_them() -> None:
    rng = np.random.default_rng(9)
    quiet = [window_of(NORMAL, rng.normal(size=(300, 1)), float(i)) for i in range(3)]
    moved = [window_of(NORMAL, rng.normal(1.5, size=(300, 1)), float(i)) for i in range(3)]
    table = [
        ([quiet[0], quiet[1], moved[0]], 1, False),
        ([quiet[0], moved[0], moved[1]], 2, True),
        ([moved[0], quiet[0], moved[1]], 2, True),
        ([moved[0], quiet[0], quiet[1], quiet[2]], 0, False),
    ]
    for windows, fired, shifted in table:
        (feature,) = assess(NORMAL, windows)
        assert (feature.fired, feature.shifted, len(feature.history)) == (fired, shifted, len(windows))


def test_below_fifty_requests_nothing_is_said() -> None:
    rows = np.random.default_rng(10).normal(3.0, size=(FEWEST, 1))
    assert assess(NORMAL, [window_of(NORMAL, rows[:-1])]) == ()
    assert len(assess(NORMAL, [window_of(NORMAL, rows)])) == 1


def test_the_lean_tells_up_from_down() -> None:
    feature: Feature = NORMAL.features[0]
    rng = np.random.default_rng(11)
    for shift, sign in ((1.0, 1), (-1.0, -1)):
        window = window_of(NORMAL, rng.normal(shift, size=(500, 1)))
        lean = compare(feature, window.counts[feature.name], alpha=0.01).lean
        assert lean * sign == pytest.approx(0.52, abs=0.06)  # 2 * Phi(1 / sqrt 2) - 1

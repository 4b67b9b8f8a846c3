"""Confidence against labels: the error is measured right, and few labels change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from fieldops.drift.calibration import FEWEST_LABELS, best_temperature, equal_mass_ece, fit_temperature, log_loss, scaled
from fieldops.drift.lag import Given, LateLabel, accuracy, wilson
from fieldops.errors import UsageFault

Floats = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Labels = np.ndarray[tuple[int], np.dtype[np.int64]]


def overconfident(n: int, seed: int, factor: float) -> tuple[Floats, Labels]:
    """Probabilities whose logits are `factor` times the true ones, and labels drawn by the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 5))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in true])
    hot = np.exp(logits * factor)
    return hot / hot.sum(1, keepdims=True), labels


def test_a_temperature_finds_back_what_was_done_to_the_logits() -> None:
    shares, labels = overconfident(3000, 1, 2.5)
    fit = fit_temperature(shares, labels)
    assert fit.temperature == pytest.approx(2.5, rel=0.1)
    assert fit.kept
    assert fit.ece_after < fit.ece_before / 3
    assert fit.loss_after < fit.loss_before


def test_it_is_the_minimum_of_the_loss() -> None:
    shares, labels = overconfident(400, 2, 0.6)
    found = best_temperature(shares, labels)
    here = log_loss(shares, labels, found)
    assert all(here <= log_loss(shares, labels, found * by) for by in (0.9, 0.99, 1.01, 1.1))


def test_below_fifty_labels_it_refuses() -> None:
    shares, labels = overconfident(FEWEST_LABELS - 1, 3, 2.0)
    with pytest.raises(UsageFault, match="49 labelled answers") as refused:
        fit_temperature(shares, labels)
    assert refused.value.reason == "too_few_labels"


def test_a_fit_that_does_not_help_on_unseen_labels_is_not_kept() -> None:
    """Over draws with an already honest confidence, a kept fit never promises more loss than before."""
    kept = 0
    for seed in range(30):
        shares, labels = overconfident(FEWEST_LABELS, seed, 1.0)
        fit = fit_temperature(shares, labels)
        assert fit.kept == (fit.loss_after < fit.loss_before)
        kept += fit.kept
    assert kept <= 20


def test_scaling_keeps_the_order_and_the_sum() -> None:
    shares, _ = overconfident(50, 4, 2.0)
    cooler = scaled(shares, 3.0)
    assert np.allclose(cooler.sum(1), 1)
    assert (cooler.argmax(1) == shares.argmax(1)).all()


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.6, 0.6, 0.9, 0.9])
    correct = np.array([True, False, True, True])
    assert equal_mass_ece(confidence, correct, bins=2) == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    assert np.isnan(equal_mass_ece(np.array([]), np.array([], bool)))


def test_late_labels_give_an_interval_and_their_age() -> None:
    given = [Given(request=str(i), label=i % 2, at=100.0 + i) for i in range(10)]
    labels = {str(i): LateLabel(label=0, at=200.0 + i) for i in range(6)} | {"99": LateLabel(label=0, at=1.0)}
    found = accuracy(given, labels)
    assert (found.labelled, found.correct, found.waiting) == (6, 3, 4)
    assert found.accuracy == 0.5
    assert found.lag_s == 100.0
    assert found.low < 0.5 < found.high


def test_no_labels_are_no_accuracy() -> None:
    found = accuracy([Given("a", 1, 0.0)], {})
    assert (found.accuracy, found.lag_s, found.low, found.high) == (None, None, 0.0, 1.0)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilsons_interval(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=2e-4)

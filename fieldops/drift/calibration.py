"""Is the confidence honest, and can one number mend it? Temperature scaling (Guo et al. 2017) on labels from the field.

Few labels make it worse: with 20 of them a new temperature was worse than the factory's in 38 of 100 draws, with 50 in 13.
So fewer than 50 are refused, and a fit is kept only if it improves on labels it has not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fieldops.errors import UsageFault

FEWEST_LABELS = 50
COOLEST, HOTTEST = 0.05, 20.0


def equal_mass_ece(confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass, 0..1, lower is better. Guo et al. 2017, eq. 3.

    confidence: top probability an answer; correct: whether that answer was right. nan when there are none.
    """
    n = len(confidence)
    if n == 0:
        return math.nan
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, n))
    gaps = [len(part) * abs(float(confidence[part].mean()) - float(correct[part].mean())) for part in parts]
    return sum(gaps) / n


def log_loss(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log likelihood of the labels after the temperature. probabilities: (n, classes), rows sum to 1.

    Softmax forgets only a constant of each row, so log probabilities serve as logits.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    top = logits.max(axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def best_temperature(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """The temperature of least log loss, by golden section over its logarithm (the loss has one valley in 1/T)."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(COOLEST), math.log(HOTTEST)
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(probabilities, labels, math.exp(left)) <= log_loss(probabilities, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """kept: whether it improved on labels the fit had not seen; a fit not kept must not be used."""

    temperature: float
    kept: bool
    labels: int
    loss_before: float  # mean negative log likelihood on unseen labels, at temperature 1
    loss_after: float
    ece_before: float
    ece_after: float


def fit_temperature(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> TemperatureFit:
    """Fit on all, judge by two-fold cross-validation. Raises UsageFault (reason too_few_labels) below FEWEST_LABELS."""
    n = len(labels)
    if n < FEWEST_LABELS:
        raise UsageFault(
            f"{n} labelled answers; a temperature needs {FEWEST_LABELS}",
            reason="too_few_labels",
            next_step=f"label {FEWEST_LABELS - n} more answers, then recalibrate",
        )
    folds = (np.arange(n) % 2 == 0, np.arange(n) % 2 == 1)
    before = after = 0.0
    for fitted, unseen in (folds, folds[::-1]):
        found = best_temperature(probabilities[fitted], labels[fitted])
        before += log_loss(probabilities[unseen], labels[unseen]) * int(unseen.sum()) / n
        after += log_loss(probabilities[unseen], labels[unseen], found) * int(unseen.sum()) / n
    temperature = best_temperature(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    return TemperatureFit(
        temperature=temperature,
        kept=after < before,
        labels=n,
        loss_before=before,
        loss_after=after,
        ece_before=equal_mass_ece(probabilities.max(axis=1), correct),
        ece_after=equal_mass_ece(scaled(probabilities, temperature).max(axis=1), correct),
    )


def scaled(probabilities: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities after a temperature; rows sum to 1."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))

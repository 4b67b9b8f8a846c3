"""Has a quantity moved since release? A test on frozen-bin counts whose false-alarm rate is chosen, not found out later.

Statistic: sum of (p - q)^2 / pooled share over groups of neighbouring bins: to first order the population stability index,
but finite where one side is empty. Under "nothing changed" it is (1/n + 1/m) times a chi-square of groups - 1 degrees of
freedom (Pearson's two-sample test), n and m being the requests of the window and of the reference. So its threshold follows
from n, m and the wanted rate, where a fixed "PSI > 0.1" fires on 32 % of undrifted windows of 100 and misses a shift of 0.2 sigma
at 1000 (references of the project: bench_drift.md §B).

Rates: 1 % a window over *all* tests of a model (Bonferroni), and a feature counts as shifted only when it was in two of the last
three windows. Windows under 50 requests are joined with their neighbours (counts add up exactly) or left untold.
Outliers move one count, never an edge. No numpy here: the laptop's list verbs import this.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fieldops.drift.sketch import Feature, Reference, Window

FALSE_ALARMS = 0.01  # wanted share of undrifted windows in which any test of the model fires
FEWEST = 50  # requests a window needs before anything is said
MOST_GROUPS = 10  # more bins find a moved mean later: power spreads over the degrees of freedom
LEAST_EXPECTED = 5  # of the smaller sample in a group (Cochran's rule for chi-square)
LEAST_EFFECT = 0.02  # about 0.14 sigma; smaller moves are real at large n, but nobody can act on them
LEAST_STRAY = 0.005  # share of requests, above the reference's
# Edges often are the extremes of the very data they count, which therefore never strays: one value beyond either end is assumed.
SELF_STRAYS = 2
LOOK_BACK = 3
NEEDED = 2
SHOWN_HISTORY = 12


# --- the chi-square distribution ------------------------------------------------------------------------------------------


def chi_square_cdf(x: float, degrees: int) -> float:
    """P(degrees / 2, x / 2), the regularised lower incomplete gamma function: DLMF 8.11.4 (series) and 8.9.2 (fraction)."""
    if x <= 0:
        return 0.0
    a, z = degrees / 2, x / 2
    scale = math.exp(a * math.log(z) - z - math.lgamma(a))
    if z < a + 1:
        term = total = 1 / a
        step = a
        while term > total * 1e-16:
            step += 1
            term *= z / step
            total += term
        return min(1.0, scale * total)
    return 1.0 - scale * _upper_fraction(a, z)


def _upper_fraction(a: float, z: float) -> float:
    """The continued fraction of the upper function by Lentz's method (Press et al., Numerical Recipes, 6.2)."""
    tiny = 1e-300
    b = z + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for i in range(1, 10_000):
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b or tiny)
        c = b + an / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


@lru_cache(maxsize=512)
def chi_square_quantile(probability: float, degrees: int) -> float:
    """Where the distribution reaches `probability` (0..1, exclusive), by bisection."""
    low, high = 0.0, 2.0 * degrees
    while chi_square_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if chi_square_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


# --- counts ------------------------------------------------------------------------------------------------------------


def fits(reference: Reference, window: Window) -> bool:
    """Whether the window was counted with this reference's edges: same features, same number of cells, sums to n."""
    for feature in reference.features:
        counts = window.counts.get(feature.name)
        if counts is None or len(counts) != len(feature.edges) + 2 or sum(counts) != window.n or min(counts) < 0:
            return False
    return True


def merge(windows: Sequence[Window]) -> Window:
    """One window over all of them, exactly as if it had been counted at once. Raises ValueError for none, or unlike ones."""
    if not windows:
        raise ValueError("no windows")
    counts = {name: list(cells) for name, cells in windows[0].counts.items()}
    for window in windows[1:]:
        if window.counts.keys() != counts.keys():
            raise ValueError("windows of different features")
        for name, cells in window.counts.items():
            counts[name] = [a + b for a, b in zip(counts[name], cells, strict=True)]
    return Window(
        started=min(window.started for window in windows),
        ended=max(window.ended for window in windows),
        n=sum(window.n for window in windows),
        counts=counts,
    )


def gathered(windows: Iterable[Window], least: int = FEWEST) -> list[Window]:
    """Neighbours joined until each holds `least` requests, from the newest back; a rest too small at the old end is left out."""
    made: list[Window] = []
    waiting: list[Window] = []
    for window in reversed(list(windows)):
        waiting.append(window)
        if sum(each.n for each in waiting) >= least:
            made.append(merge(waiting))
            waiting = []
    return made[::-1]


# --- one feature in one window --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """statistic and threshold as the module says. lean: -1..1, how surely a value of now is above one of release.

    strays: share of requests outside the release's range or not a number; strays_fire: too many of them to be chance.
    """

    statistic: float
    threshold: float
    lean: float
    strays: float
    strays_before: float
    strays_fire: bool

    @property
    def fires(self) -> bool:
        return self.statistic > self.threshold or self.strays_fire


def compare(feature: Feature, counts: Sequence[int], *, alpha: float) -> Compared:
    """One feature's counts against its reference. alpha: wanted false-alarm rate of each of the two tests."""
    ordered, before = list(counts[:-1]), list(feature.reference[:-1])
    n, m = sum(ordered), sum(before)
    strays, strays_before = counts[0] + counts[-2] + counts[-1], feature.reference[0] + sum(feature.reference[-2:])
    total, total_before = n + counts[-1], m + feature.reference[-1]
    statistic, threshold = _distance(ordered, before, alpha) if n and m else (0.0, math.inf)
    share, share_before = strays / max(total, 1), strays_before / max(total_before, 1)
    fire = (
        total_before > 0
        and share - share_before >= LEAST_STRAY
        and _more_than_chance(strays, total, strays_before + SELF_STRAYS, total_before + SELF_STRAYS) < alpha
    )
    return Compared(
        statistic=statistic,
        threshold=threshold,
        lean=_lean(ordered, before) if n and m else 0.0,
        strays=share,
        strays_before=share_before,
        strays_fire=fire,
    )


def _distance(now: list[int], before: list[int], alpha: float) -> tuple[float, float]:
    n, m = sum(now), sum(before)
    groups = _groups(now, before)
    total = 0.0
    for w, r in groups:
        total += (w / n - r / m) ** 2 / ((w + r) / (n + m))
    if len(groups) < 2:
        return 0.0, math.inf
    quantile = chi_square_quantile(1 - alpha, len(groups) - 1)
    return total, max((1 / n + 1 / m) * quantile, LEAST_EFFECT)


def _groups(now: list[int], before: list[int]) -> list[tuple[int, int]]:
    """Neighbouring cells joined to at most MOST_GROUPS of about equal mass.

    It looks only at sums over both samples, on which the test conditions, so the choice favours neither.
    """
    n, m = sum(now), sum(before)
    wanted = (n + m) / max(1, min(MOST_GROUPS, min(n, m) // LEAST_EXPECTED))
    groups: list[tuple[int, int]] = []
    w = r = 0
    for a, b in zip(now, before, strict=True):
        w, r = w + a, r + b
        if w + r >= 0.75 * wanted:
            groups.append((w, r))
            w = r = 0
    if w + r and groups:
        last = groups.pop()
        groups.append((last[0] + w, last[1] + r))
    return groups


def _more_than_chance(strays: int, n: int, strays_before: int, m: int) -> float:
    """P(at least this many of all strays fall on our side), each with probability n / (n + m): the exact conditional test."""
    everyone = strays + strays_before
    ours, theirs = math.log(n / (n + m)), math.log(m / (n + m))
    terms = (
        math.lgamma(everyone + 1) - math.lgamma(k + 1) - math.lgamma(everyone - k + 1) + k * ours + (everyone - k) * theirs
        for k in range(strays, everyone + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _lean(now: list[int], before: list[int]) -> float:
    """P(now > before) - P(now < before) from the cells, ties counting for neither (Mann and Whitney's U, scaled)."""
    n, m = sum(now), sum(before)
    below = total = 0
    for w, r in zip(now, before, strict=True):
        total += w * below - w * (m - below - r)
        below += r
    return total / (n * m)


# --- a model over its windows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeatureShift:
    """One feature over the last windows. statistic, threshold: of the newest. history: statistics, oldest first.

    shifted: fired in two of the last three windows. fired: how many of those three. newest: details of the newest window.
    """

    name: str
    statistic: float
    threshold: float
    shifted: bool
    history: tuple[float, ...]
    fired: int
    newest: Compared


def assess(reference: Reference, windows: Sequence[Window]) -> tuple[FeatureShift, ...]:
    """Every feature of the reference, in its order; empty when no window holds FEWEST requests. windows: newest last."""
    usable = gathered([window for window in windows if fits(reference, window)])
    if not usable or not reference.features:
        return ()
    alpha = FALSE_ALARMS / (2 * len(reference.features))
    made = []
    for feature in reference.features:
        compared = [compare(feature, window.counts[feature.name], alpha=alpha) for window in usable[-SHOWN_HISTORY:]]
        fired = sum(each.fires for each in compared[-LOOK_BACK:])
        made.append(
            FeatureShift(
                name=feature.name,
                statistic=compared[-1].statistic,
                threshold=compared[-1].threshold,
                shifted=fired >= NEEDED,
                history=tuple(each.statistic for each in compared),
                fired=fired,
                newest=compared[-1],
            )
        )
    return tuple(made)

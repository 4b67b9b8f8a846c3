"""Counting and comparing drift, 100,000 rows of 50 features, against the population stability index of evidently.

Its `_psi` alone (equal-width bins over reference and current, made anew for every window), not the report around it, which costs
20 times more and is no fair peer. Where evidently is not installed (`pip install evidently "pandas<3"`) the same arithmetic in
plain numpy stands beside ours, without a bar: it spares evidently's own overhead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.bars import Bar, minima
from fieldops.drift.count import count, quantile_edges
from fieldops.drift.shift import assess
from fieldops.drift.sketch import Feature, Reference, Window, packed
from fieldops.wire import encode

ROWS, FEATURES = 100_000, 50
Table = npt.NDArray[np.float64]


def reference_of(rows: Table) -> Reference:
    features = []
    for column in range(rows.shape[1]):
        edges = quantile_edges(rows[:, column], 32)
        name = f"f{column}"
        features.append(Feature(name=name, source=f"input.column:{column}", edges=edges, reference=count(rows[:, column], edges)))
    return Reference(v=1, features=features)


def window_of(reference: Reference, rows: Table) -> Window:
    counts = {feature.name: count(rows[:, column], feature.edges) for column, feature in enumerate(reference.features)}
    return Window(started=0.0, ended=60.0, n=len(rows), counts=counts)


def psi(reference: Table, current: Table) -> float:
    edges = np.histogram_bin_edges(np.concatenate([reference, current]), bins="sturges")
    before = np.histogram(reference, edges)[0] / len(reference)
    now = np.histogram(current, edges)[0] / len(current)
    before, now = np.maximum(before, 1e-4), np.maximum(now, 1e-4)
    return float(((now - before) * np.log(now / before)).sum())


def evidently(reference: Table, current: Table) -> Callable[[], object] | None:
    try:
        series = importlib.import_module("pandas").Series
        bare = importlib.import_module("evidently.legacy.calculations.stattests.psi")._psi  # noqa: SLF001 - the bare statistic
        numerical = importlib.import_module("evidently.legacy.core").ColumnType.Numerical
    except ImportError:
        return None
    pairs = [(series(reference[:, i]), series(current[:, i])) for i in range(FEATURES)]
    return lambda: [bare(before, now, numerical, 0.1) for before, now in pairs]


def bars() -> Iterator[Bar]:
    random = np.random.default_rng(0)
    # column by column, as both read them
    release = np.asfortranarray(random.normal(size=(5000, FEATURES)))
    current = np.asfortranarray(random.normal(0.1, size=(ROWS, FEATURES)))
    reference = reference_of(release)
    peer = evidently(release, current)

    def ours() -> object:
        return assess(reference, [window_of(reference, current)])

    def plain() -> object:
        return [psi(release[:, column], current[:, column]) for column in range(FEATURES)]

    mine, other, theirs = minima(5, ours, plain, peer or plain)
    window = window_of(reference, current[:1000])
    each, plainly = (len(encode(form.counts)) / FEATURES for form in (packed(window), window))
    what = "drift, count and compare 100k x 50"
    note = f"payload {each:.0f} B a feature a window of 1000 (bar 80), as plain JSON {plainly:.0f} B"
    if peer is not None:
        yield Bar(what, "evidently's bare PSI", mine, theirs, 2.5, at_least=True, note=note)
    yield Bar(what, "the same PSI in numpy", mine, other, None, at_least=True, note=note)

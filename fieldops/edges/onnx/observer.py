"""Drift counts of what a model is asked and answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fieldops.drift.count import count, rows, values_of
from fieldops.drift.sketch import Reference, Window
from fieldops.edges.onnx.runtime import Array

BUFFERED_ROWS = 64
BUFFERED_BYTES = 4 << 20


class Observer:
    """Counts requests into the reference's frozen bins. Rows are kept for a moment and counted together (3x cheaper).

    The reference's features read the first input and the first output of the model.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._counts: dict[str, list[int]] = {}
        self._inputs: list[npt.NDArray[np.float64]] = []
        self._outputs: list[npt.NDArray[np.float64]] = []
        self._waiting = 0
        self._waiting_bytes = 0
        self._counted = 0
        self._clear()

    @property
    def n(self) -> int:
        """Requests since the last window."""
        return self._counted + self._waiting

    def _clear(self) -> None:
        self._counted = 0
        self._counts = {feature.name: [0] * (len(feature.edges) + 2) for feature in self._reference.features}

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """One answered request of any number of rows."""
        taken = rows(next(iter(inputs.values())))
        self._inputs.append(taken)
        self._outputs.append(rows(next(iter(outputs.values()))))
        self._waiting += len(taken)
        self._waiting_bytes += taken.nbytes
        if self._waiting >= BUFFERED_ROWS or self._waiting_bytes >= BUFFERED_BYTES:
            self._count()

    def outside(self, inputs: Mapping[str, Array]) -> bool:
        """Does any of these rows leave the range that an input's feature had at release."""
        taken = rows(next(iter(inputs.values())))
        for feature in self._reference.features:
            if feature.source.startswith("input"):
                found = values_of(feature.source, taken, taken)
                if not bool(((found >= feature.edges[0]) & (found < feature.edges[-1])).all()):
                    return True
        return False

    def _count(self) -> None:
        if not self._waiting:
            return
        inputs, outputs = np.concatenate(self._inputs), np.concatenate(self._outputs)
        for feature in self._reference.features:
            found = count(values_of(feature.source, inputs, outputs), feature.edges)
            total = self._counts[feature.name]
            self._counts[feature.name] = [a + b for a, b in zip(total, found, strict=True)]
        self._counted += self._waiting
        self._inputs.clear()
        self._outputs.clear()
        self._waiting = self._waiting_bytes = 0

    def window(self, started: float, ended: float) -> Window:
        """What was counted since the last window, which ends with this call. started, ended: Unix seconds."""
        self._count()
        made = Window(started=started, ended=ended, n=self._counted, counts=self._counts)
        self._clear()
        return made

"""The only place on the laptop where the clock is read; wiring hands it on."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports.Clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

"""One change at a time: the laptop that is at it holds the device until it is through, or silent for a while.

In memory only: after a restart of the agent nobody is at it, and steps that wait for their laptop take the lease again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from fieldops.errors import DeviceCannot

LEASE_S = 120.0


class Lease:
    """monotonic: seconds. under_way: is anything begun on the device that is not through. Safe for several threads."""

    def __init__(self, monotonic: Callable[[], float], under_way: Callable[[], bool]) -> None:
        self._monotonic = monotonic
        self._under_way = under_way
        self._lock = threading.Lock()
        self._holder: str | None = None
        self._until = 0.0

    def held(self) -> tuple[str, float] | None:
        """(laptop id, seconds left)."""
        with self._lock:
            holder, left = self._holder, self._until - self._monotonic()
        return (holder, left) if holder is not None and left > 0 and self._under_way() else None

    def check(self, laptop: str) -> None:
        """Raises DeviceCannot (busy) naming who holds it."""
        held = self.held()
        if held is not None and held[0] != laptop:
            raise DeviceCannot(
                f"laptop {held[0][:8]} is changing this device",
                reason="busy",
                next_step=f"wait until it is done; without a word from it the device is free in {held[1]:.0f} s",
            )

    def touch(self, laptop: str) -> None:
        """A sign of life of whoever changes the device."""
        with self._lock:
            self._holder, self._until = laptop, self._monotonic() + LEASE_S

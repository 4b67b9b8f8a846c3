"""How long a caller is willing to wait, and whether it still wants the answer. Passed down; nothing below has its own limit.

Time comes from the caller's monotonic clock, so this module reads none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fieldops.errors import Cancelled, DeadlinePassed

_PHASES = {  # of a link, by their technical names
    "dns": "its name to be resolved",
    "tcp": "a connection",
    "tls": "an encrypted connection",
    "banner": "its SSH server",
    "kex": "an encrypted connection",
    "auth": "the login",
    "open": "the link",
    "exec": "an answer over SSH",
}


class CancelToken:
    """Set once by whoever stops the work; read by all who do it. Safe across threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; True as soon as it is cancelled."""
        return self._event.wait(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on `monotonic` (seconds) after which the caller no longer waits."""

    at: float
    monotonic: Callable[[], float]
    cancel: CancelToken = field(default_factory=CancelToken)

    @classmethod
    def after(cls, seconds: float, monotonic: Callable[[], float], cancel: CancelToken | None = None) -> Deadline:
        return cls(monotonic() + seconds, monotonic, cancel or CancelToken())

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now; the same cancel token."""
        return Deadline(min(self.at, self.monotonic() + seconds), self.monotonic, self.cancel)

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - self.monotonic())

    @property
    def passed(self) -> bool:
        return self.monotonic() >= self.at

    def check(self, phase: str, device: str | None = None) -> float:
        """Seconds left (> 0). Raises Cancelled, or DeadlinePassed naming `phase`."""
        if self.cancel.cancelled:
            raise Cancelled(f"cancelled while waiting for {_PHASES.get(phase, phase)}", device=device)
        left = self.left()
        if left <= 0:
            raise DeadlinePassed(
                f"no answer in time while waiting for {_PHASES.get(phase, phase)}",
                phase=phase,
                next_step="check the cable and the device's load, then try again or allow more time with --timeout",
                device=device,
            )
        return left

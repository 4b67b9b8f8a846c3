"""What goes along with every call: the time, how far it is, and what only a person can say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back within this process."""


@dataclass(frozen=True, slots=True)
class Progress:
    """total None: not known yet. phase is a word such as `payload` or `validating`."""

    phase: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What only the person can say. text: for the screen, without control characters; echo: the answer may be shown.

    device: the name of the device that asks; "" for what stays on this laptop. host: user@address; host_key: the fingerprint
    that the host proved, and that is trusted.
    """

    kind: Literal["passphrase", "password", "answer"]
    text: str
    echo: bool = False
    device: str = ""
    host: str = ""
    host_key: str = ""


Ask = Callable[[Question], "str | None"]
"""None: nobody answers. Set only where somebody is there to be asked."""

"""The cascade's decision: is the core's answer enough, and may the large model be asked? Pure; the worker obeys it.

In order: sure enough -> the core's answer. Not sure, and time, heat and load allow -> the large one. Not allowed -> the best
answer so far, and the route says so. No model at all -> the signed rule of the manifest. Every answer says its route.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Route = Literal["core", "large", "deadline", "rule"]

# A first guess before the large model has run once; its own measured time replaces it.
UNKNOWN_TIME_FACTOR = 10.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether the device can afford the large model now. None: not measurable, which allows it."""

    throttled: bool | None = None
    soc_temp_c: float | None = None
    temp_limit_c: float | None = None
    queued: int = 0  # requests that wait behind this one
    queue_limit: int = 8

    @property
    def refusal(self) -> str:
        """Empty when the large model may run, else why not: thermal or load."""
        if self.throttled:
            return "thermal"
        if self.soc_temp_c is not None and self.temp_limit_c is not None and self.soc_temp_c >= self.temp_limit_c:
            return "thermal"
        if self.queued >= self.queue_limit:
            return "load"
        return ""


@dataclass(frozen=True, slots=True)
class Choice:
    """ask_next: run the next tier. Else `route` is what the answer in hand is called, and `why` a word for the log."""

    ask_next: bool
    route: Route
    why: Literal["sure", "unsure", "no_next", "no_time", "thermal", "load", "not_finite"]


def after_core(
    confidence: float,
    threshold: float | None,
    *,
    left_s: float | None,
    expected_s: float | None,
    core_s: float = 0.0,
    refusal: str = "",
) -> Choice:
    """What to do with the core's answer.

    confidence: lowest top probability of the request's rows. threshold None: there is no next tier. left_s: seconds until the
    caller no longer waits; None is no deadline. expected_s: what the large model usually takes; None before its first run,
    then UNKNOWN_TIME_FACTOR times the core's own time is assumed. refusal: Allowance.refusal.
    """
    if threshold is None:
        return Choice(ask_next=False, route="core" if math.isfinite(confidence) else "rule", why="no_next")
    if confidence >= threshold:  # false for nan
        return Choice(ask_next=False, route="core", why="sure")
    fallback: Route = "core" if math.isfinite(confidence) else "rule"
    if refusal in {"thermal", "load"}:
        return Choice(ask_next=False, route=fallback, why="thermal" if refusal == "thermal" else "load")
    needed = expected_s if expected_s is not None else core_s * UNKNOWN_TIME_FACTOR
    if left_s is not None and needed >= left_s:
        return Choice(ask_next=False, route="deadline" if math.isfinite(confidence) else "rule", why="no_time")
    return Choice(ask_next=True, route="large", why="unsure")

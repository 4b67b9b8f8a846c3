"""The cascade's decision: is the core's answer enough, and may the large model be asked? Pure; the worker obeys it.

In order: sure enough -> the core's answer. Not sure, and time, heat and load allow -> the large one. Not allowed -> the best
answer so far, and the route says so. No model at all -> the signed rule of the manifest. Every answer says its route.
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct

Route = Literal["core", "large", "deadline", "rule"]
Refusal = Literal["", "thermal", "battery", "power", "load", "setting"]

# A first guess before the large model has run once; its own measured time replaces it.
UNKNOWN_TIME_FACTOR = 10.0


Large = Literal["auto", "never"]


class TierSettings(Struct, frozen=True, kw_only=True):
    """When the large model may run on this device. None: no such limit, or as signed. `never`: the core answers alone."""

    large: Large = "auto"
    threshold: float | None = None  # 0..1, in place of the signed one: confidence below which the large model is asked
    hottest_c: float | None = None  # from this temperature on it rests
    battery_pct: float | None = None  # below this charge it rests while nothing charges the battery
    power_w: float | None = None  # from this power of the device on it rests
    queue: int = 8  # from so many waiting requests on it rests

    @property
    def fault(self) -> str:
        """Empty when every limit makes sense."""
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            return "a threshold is a confidence from 0 to 1"
        if self.battery_pct is not None and not 0 <= self.battery_pct <= 100:
            return "a battery has 0 to 100 %"
        if self.power_w is not None and not 0 < self.power_w < 1e6:
            return "a power is more than 0 W"
        if self.hottest_c is not None and not -40 <= self.hottest_c <= 200:
            return "a temperature limit lies between -40 and 200 °C"
        return "" if 1 <= self.queue <= 10_000 else "a queue limit is 1 to 10000"


AS_SIGNED = TierSettings()


def tiers_in_words(settings: TierSettings) -> str:
    """For people: the confirm dialog, the journal, the answer."""
    if settings == AS_SIGNED:
        return "as signed"
    if settings.large == "never":
        return "the core answers alone"
    limits = (
        ("asked below confidence", settings.threshold, ""),
        ("rests from", settings.hottest_c, " °C"),
        ("rests below", settings.battery_pct, " % on battery"),
        ("rests from", settings.power_w, " W"),
        ("rests from", settings.queue if settings.queue != AS_SIGNED.queue else None, " waiting requests"),
    )
    return "large model " + ", ".join(f"{word} {value:g}{unit}" for word, value, unit in limits if value is not None)


class Allowance(Struct, frozen=True):
    """Whether the device can afford the large model now. None: not measurable, or no limit; both allow it."""

    throttled: bool | None = None
    soc_temp_c: float | None = None
    temp_limit_c: float | None = None
    queued: int = 0  # requests that wait behind this one
    queue_limit: int = 8
    forbidden: bool = False  # a person set it so
    on_battery: bool | None = None
    battery_pct: float | None = None
    battery_limit_pct: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None

    @property
    def refusal(self) -> Refusal:
        """Empty when the large model may run, else why not."""
        if self.forbidden:
            return "setting"
        if self.throttled:
            return "thermal"
        if self.soc_temp_c is not None and self.temp_limit_c is not None and self.soc_temp_c >= self.temp_limit_c:
            return "thermal"
        if self.on_battery and _below(self.battery_pct, self.battery_limit_pct):
            return "battery"
        if self.power_w is not None and self.power_limit_w is not None and self.power_w >= self.power_limit_w:
            return "power"
        return "load" if self.queued >= self.queue_limit else ""


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


class Choice(Struct, frozen=True):
    """ask_next: run the next tier. Else `route` is what the answer in hand is called, and `why` a word for the log."""

    ask_next: bool
    route: Route
    why: Literal["sure", "unsure", "no_next", "no_time", "thermal", "battery", "power", "load", "setting", "not_finite"]


def after_core(
    confidence: float,
    threshold: float | None,
    *,
    left_s: float | None,
    expected_s: float | None,
    core_s: float = 0.0,
    refusal: Refusal = "",
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
    if refusal:
        return Choice(ask_next=False, route=fallback, why=refusal)
    needed = expected_s if expected_s is not None else core_s * UNKNOWN_TIME_FACTOR
    if left_s is not None and needed >= left_s:
        return Choice(ask_next=False, route="deadline" if math.isfinite(confidence) else "rule", why="no_time")
    return Choice(ask_next=True, route="large", why="unsure")

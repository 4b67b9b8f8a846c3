"""Which tier answers, and what the answer's route is called."""

from __future__ import annotations

import math

import pytest

from fieldops.tiers import AS_SIGNED, UNKNOWN_TIME_FACTOR, Allowance, Refusal, TierSettings, after_core, tiers_in_words


@pytest.mark.parametrize(
    ("confidence", "left", "expected", "refusal", "ask", "route", "why"),
    [
        (0.95, None, None, "", False, "core", "sure"),
        (0.9, None, None, "", False, "core", "sure"),  # the threshold itself is enough
        (0.89, None, None, "", True, "large", "unsure"),
        (0.5, 0.010, 0.002, "", True, "large", "unsure"),
        (0.5, 0.001, 0.002, "", False, "deadline", "no_time"),
        (0.5, 0.0, None, "", False, "deadline", "no_time"),
        (0.5, -1.0, 0.002, "", False, "deadline", "no_time"),
        (0.5, None, 0.002, "thermal", False, "core", "thermal"),
        (0.5, None, 0.002, "load", False, "core", "load"),
        (math.nan, None, None, "", True, "large", "unsure"),
        (math.nan, 0.0, 1.0, "", False, "rule", "no_time"),
        (math.nan, None, None, "load", False, "rule", "load"),
    ],
)
def test_the_cascade_decides(
    confidence: float, left: float | None, expected: float | None, refusal: Refusal, ask: bool, route: str, why: str
) -> None:
    choice = after_core(confidence, 0.9, left_s=left, expected_s=expected, refusal=refusal)
    assert (choice.ask_next, choice.route, choice.why) == (ask, route, why)


def test_a_single_tier_answers_alone_and_numbers_that_are_none_fall_to_the_rule() -> None:
    assert after_core(0.1, None, left_s=0.0, expected_s=None).route == "core"
    assert after_core(math.nan, None, left_s=None, expected_s=None).route == "rule"


def test_before_the_large_models_first_run_its_time_is_taken_as_ten_times_the_cores() -> None:
    left = 0.002 * UNKNOWN_TIME_FACTOR
    assert after_core(0.1, 0.9, left_s=left * 1.01, expected_s=None, core_s=0.002).ask_next
    assert not after_core(0.1, 0.9, left_s=left, expected_s=None, core_s=0.002).ask_next


@pytest.mark.parametrize(
    ("allowance", "refusal"),
    [
        (Allowance(), ""),
        (Allowance(throttled=True), "thermal"),
        (Allowance(throttled=False, soc_temp_c=85.0, temp_limit_c=85.0), "thermal"),
        (Allowance(soc_temp_c=84.0, temp_limit_c=85.0), ""),
        (Allowance(soc_temp_c=200.0), ""),  # without a limit a temperature says nothing
        (Allowance(queued=8), "load"),
        (Allowance(queued=7), ""),
    ],
)
def test_heat_and_load_keep_the_large_model_from_running(allowance: Allowance, refusal: str) -> None:
    assert allowance.refusal == refusal


@pytest.mark.parametrize(
    ("allowance", "refusal"),
    [
        (Allowance(), ""),
        (Allowance(forbidden=True, throttled=True), "setting"),
        (Allowance(on_battery=True, battery_pct=19, battery_limit_pct=20), "battery"),
        (Allowance(on_battery=True, battery_pct=20, battery_limit_pct=20), ""),
        (Allowance(on_battery=False, battery_pct=1, battery_limit_pct=20), ""),
        (Allowance(on_battery=True, battery_pct=None, battery_limit_pct=20), ""),
        (Allowance(power_w=10, power_limit_w=10), "power"),
        (Allowance(power_w=9.9, power_limit_w=10), ""),
        (Allowance(power_w=99), ""),
    ],
)
def test_what_the_device_can_afford_decides_and_what_it_cannot_measure_does_not(allowance: Allowance, refusal: str) -> None:
    assert allowance.refusal == refusal


@pytest.mark.parametrize(
    "settings",
    [
        TierSettings(threshold=1.1),
        TierSettings(battery_pct=101),
        TierSettings(power_w=0),
        TierSettings(hottest_c=1000),
        TierSettings(queue=0),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: TierSettings) -> None:
    assert settings.fault


def test_settings_are_told_in_words() -> None:
    assert (AS_SIGNED.fault, tiers_in_words(AS_SIGNED)) == ("", "as signed")
    assert tiers_in_words(TierSettings(large="never")) == "the core answers alone"
    told = tiers_in_words(TierSettings(hottest_c=70, battery_pct=30))
    assert told == "large model rests from 70 °C, rests below 30 % on battery"

"""The whole plan against the device: what is needed and what was found, all at once, and nothing guessed."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fieldops.bundles.manifest import Manifest, Needs, Objectives, Rule, Tier
from fieldops.bundles.prechecks import (
    JOURNAL_BYTES,
    LINKS_BYTES,
    RESERVE_BYTES,
    WORKER_BYTES,
    Condition,
    Room,
    refusal,
    shortfalls,
    trial_shortfalls,
)

NEEDS = Needs(ram_bytes=1000, opset=17, isa=["avx2"], providers=["CPUExecutionProvider"], battery_pct=30.0)
MANIFEST = Manifest(
    v=1,
    model="digits",
    task="digits",
    version="1.1.0",
    counter=2,
    owner="vision",
    tiers=[Tier(name="core", file="core.onnx", variant="fp32", memory_bytes=1000)],
    inputs=[],
    outputs=[],
    objectives=Objectives(p95_ms=1, memory_bytes=1, thermal_margin_c=5.0),
    fallback=Rule(label=0, text=""),
    files=[],
    needs=NEEDS,
)
FIT = Condition(
    ram_bytes=1000,
    ram_available_bytes=WORKER_BYTES + 1000,
    isa=frozenset({"avx2", "sse4_2"}),
    opset=17,
    providers=("CPUExecutionProvider",),
    throttled=False,
    soc_temp_c=75.0,
    temp_limit_c=80.0,
    on_battery=True,
    battery_pct=30.0,
)


def test_a_device_that_just_fits_is_not_refused() -> None:
    assert shortfalls(MANIFEST, FIT) == ()
    assert refusal(MANIFEST, ()) is None


def test_what_is_not_measurable_is_not_judged() -> None:
    assert shortfalls(MANIFEST, Condition()) == ()


@pytest.mark.parametrize(
    ("now", "reason", "needed", "found"),
    [
        (replace(FIT, ram_bytes=999), "ram", "1000 bytes", "999"),
        (replace(FIT, isa=frozenset({"sse4_2"})), "isa", "avx2", "none of avx2"),
        (replace(FIT, opset=16), "opset", "17", "at most 16"),
        (replace(FIT, providers=("Other",)), "provider", "CPUExecutionProvider", "Other"),
        (replace(FIT, ram_available_bytes=WORKER_BYTES), "memory", f"{WORKER_BYTES + 1000}", f"{WORKER_BYTES} available"),
        (replace(FIT, throttled=True), "thermal", "not throttled", "throttled"),
        (replace(FIT, soc_temp_c=75.1), "thermal", "at most 75.0", "75.1"),
        (replace(FIT, battery_pct=29.0), "battery", "at least 30 %", "29 %"),
    ],
)
def test_each_refusal_names_what_is_needed_and_what_was_found(now: Condition, reason: str, needed: str, found: str) -> None:
    (short,) = shortfalls(MANIFEST, now)
    assert short.reason == reason
    assert needed in short.needed
    assert found in short.found
    error = refusal(MANIFEST, (short,))
    assert error is not None
    assert (error.reason, error.exit_code) == (reason, 6)
    assert needed in error.message
    assert error.next_step


def test_a_version_that_asks_for_no_margin_and_no_battery_may_be_tried_hot_and_on_any_charge() -> None:
    objectives = msgspec.structs.replace(MANIFEST.objectives, thermal_margin_c=None)
    modest = msgspec.structs.replace(MANIFEST, needs=Needs(), objectives=objectives)
    assert trial_shortfalls(modest, replace(FIT, throttled=True, soc_temp_c=99.0, battery_pct=1.0)) == ()


def test_a_low_battery_that_is_being_charged_is_no_hindrance() -> None:
    assert trial_shortfalls(MANIFEST, replace(FIT, battery_pct=5.0, on_battery=False)) == ()


def test_all_that_is_in_the_way_is_told_at_once() -> None:
    error = refusal(MANIFEST, shortfalls(MANIFEST, replace(FIT, opset=1, battery_pct=1.0)))
    assert error is not None
    assert error.reason == "opset"
    assert "at most 1" in error.message
    assert "1 %" in error.message


def test_the_memory_of_the_worker_that_makes_way_counts() -> None:
    assert shortfalls(MANIFEST, replace(FIT, ram_available_bytes=1000, ram_freed_bytes=WORKER_BYTES)) == ()


def test_room_counts_the_download_the_unpacking_the_journal_and_a_reserve() -> None:
    beside = 3 * LINKS_BYTES + JOURNAL_BYTES + RESERVE_BYTES
    assert Room(download=100, files=3, free=100 + beside).lacking == ""
    assert f"needs {100 + beside} bytes; {99 + beside} are free" in Room(download=100, files=3, free=99 + beside).lacking
    assert Room(download=100, files=3, free=None).lacking == ""
    assert "needs 100 bytes; 0 are free of the quota" in Room(download=100, files=3, free=None, quota_left=-5).lacking

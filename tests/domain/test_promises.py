"""Promises of power and speed against measurements: what is not measurable is not judged, and says so."""

from __future__ import annotations

import msgspec

from fieldops.bench import compare
from fieldops.bundles.manifest import Baseline, Manifest, Objectives, Rule
from fieldops.bundles.promises import beside_class, class_baseline, power_check
from fieldops.wire import BenchResult

MANIFEST = Manifest(
    v=1,
    model="digits",
    task="digits",
    version="1.1.0",
    counter=2,
    owner="vision",
    tiers=[],
    inputs=[],
    outputs=[],
    objectives=Objectives(p95_ms=10, memory_bytes=1, power_w=2.0),
    fallback=Rule(label=0, text=""),
    files=[],
    baseline={"camera": Baseline(p50_ms=2.0, p95_ms=5.0, memory_bytes=1)},
)
RUN = BenchResult(
    model="digits",
    version="1.1.0",
    samples=256,
    cold_ms=9,
    p50_ms=3.0,
    p90_ms=4.0,
    p99_ms=None,
    rate_per_s=300,
    kernel_ms=1.0,
    throttled=False,
)


def test_power_is_counted_above_idle_and_by_the_middle_of_what_was_seen() -> None:
    at = power_check(MANIFEST, 3.0, [5.0, 5.0, 50.0])
    over = power_check(MANIFEST, 3.0, [5.25, 5.25, 0.0])
    assert at is not None
    assert (at.ok, at.measured, at.limit) == (True, "2.00 W above idle (3.00 W)", "2 W above idle")
    assert over is not None
    assert (over.ok, over.measured) == (False, "2.25 W above idle (3.00 W)")
    less = power_check(MANIFEST, 3.0, [2.0])
    assert less is not None
    assert less.measured.startswith("0.00 W above idle")


def test_a_device_without_a_power_sensor_is_not_judged_and_says_so() -> None:
    for check in (power_check(MANIFEST, None, []), power_check(MANIFEST, 3.0, [])):
        assert check is not None
        assert (check.ok, check.measured) == (True, "not measured: no power sensor here")
    unstated = msgspec.structs.replace(MANIFEST, objectives=Objectives(p95_ms=10, memory_bytes=1))
    assert power_check(unstated, 3.0, [99.0]) is None


def test_the_figures_of_its_class_stand_beside_the_devices_own() -> None:
    assert beside_class(MANIFEST, "gateway", 99.0) == ""
    assert beside_class(MANIFEST, "camera", 6.0) == "class camera at release: p50 2.00 ms, p95 5.00 ms"
    assert beside_class(MANIFEST, "camera", 6.5).endswith(": 3.2 times that here, look at clock and heat of this device")


def test_without_a_baseline_of_its_own_a_run_is_shown_beside_its_class_and_not_judged() -> None:
    assert class_baseline(MANIFEST, "gateway") is None
    assert class_baseline(None, "camera") is None
    base = class_baseline(MANIFEST, "camera")
    assert base is not None
    found = compare(RUN, base)
    assert (found.verdict, found.comparable) == ("not comparable", False)
    assert "class camera" in found.reason
    assert [(row.name, row.before_ms, row.ratio) for row in found.rows] == [("p50", 2.0, 1.5), ("p90", None, None)]

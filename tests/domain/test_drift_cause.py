"""Hardware or data: each fault and pair of faults gives its labels, its word and lines a technician can read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from fieldops.drift.cause import diagnose, is_slower
from fieldops.drift.report import DriftReport, Stats
from fieldops.drift.sketch import Feature, Reference, Window
from fieldops.fleet import Resources, Serving

EDGES = [0.0, 1.0, 2.0, 3.0, 4.0]
FLAT = [0, 250, 250, 250, 250, 0, 0]
REFERENCE = Reference(v=1, features=[Feature(name="input.mean", source="input.mean", edges=EDGES, reference=FLAT)], accuracy=0.98)
QUIET = [0, 50, 50, 50, 50, 0, 0]
DIM = [0, 140, 40, 15, 5, 0, 0]
FINE = Stats(golden_ok=True, replay_bit_equal=True, digest_ok=True, p50_ms=1.0, baseline_p50_ms=1.0, throttled=False)
COOL = Resources(
    read_at=0.0,
    boot_id="b",
    uptime_s=9.0,
    cpu_count=4,
    soc_temp_c=50.0,
    temp_limit_c=85.0,
    throttled=False,
    clock_mhz=1500,
    clock_max_mhz=1500,
)
HOT: dict[str, Any] = {"throttled": True, "soc_temp_c": 88.0, "clock_mhz": 600.0}


def windows(*counts: list[int]) -> list[Window]:
    return [
        Window(started=60.0 * i, ended=60.0 * i + 60, n=sum(each), counts={"input.mean": each}) for i, each in enumerate(counts)
    ]


def report(counts: list[list[int]], **stats: Any) -> DriftReport:
    return DriftReport(
        model="digits",
        version="1.0.0",
        reference=REFERENCE,
        windows=windows(*counts),
        stats=msgspec.structs.replace(FINE, **stats),
    )


SLOW = {"p50_ms": 2.1}


@pytest.mark.parametrize(
    ("counts", "stats", "resources", "labels", "verdict"),
    [
        (QUIET, {}, {}, set(), "ok"),
        (DIM, {}, {}, {"data"}, "data"),
        (QUIET, {"digest_ok": False}, {}, {"artifact"}, "hardware"),
        (QUIET, {"golden_ok": False, "replay_bit_equal": False}, {}, {"compute"}, "hardware"),
        (QUIET, {"golden_ok": False, "replay_bit_equal": True}, {}, {"model"}, "data"),
        (QUIET, {"replay_bit_equal": False}, {}, set(), "ok"),
        (QUIET, SLOW, HOT, {"thermal"}, "hardware"),
        (QUIET, {}, HOT, {"thermal"}, "hardware"),
        (QUIET, {}, {"soc_temp_c": 85.0}, {"thermal"}, "hardware"),
        (QUIET, SLOW, {}, {"contention"}, "hardware"),
        (QUIET, {"p50_ms": 1.29}, {}, set(), "ok"),
        (DIM, SLOW, HOT, {"data", "thermal"}, "both"),
        (DIM, SLOW, {}, {"data", "contention"}, "both"),
        (DIM, {"digest_ok": False}, {}, {"data", "artifact"}, "both"),
        (DIM, {"replay_bit_equal": False}, {}, {"data"}, "data"),
        (QUIET, {"digest_ok": False, "golden_ok": False, "replay_bit_equal": False}, {}, {"artifact", "compute"}, "hardware"),
        (QUIET, {"labelled": 200, "labelled_correct": 160}, {}, {"concept"}, "data"),
        (QUIET, {"labelled": 200, "labelled_correct": 195}, {}, set(), "ok"),
        (QUIET, {"labelled": 49, "labelled_correct": 0}, {}, set(), "ok"),
        (DIM, {"labelled": 200, "labelled_correct": 100}, {}, {"data"}, "data"),
    ],
)
def test_each_fault_has_its_labels(
    counts: list[int], stats: dict[str, Any], resources: dict[str, Any], labels: set[str], verdict: str
) -> None:
    found = diagnose(report([counts, counts, counts], **stats), msgspec.structs.replace(COOL, **resources))
    assert (set(found.labels), found.verdict) == (labels, verdict)
    assert len(found.evidence) >= len(labels)
    assert found.n == 600


def test_evidence_says_what_was_seen_in_figures() -> None:
    found = diagnose(report([DIM, DIM, DIM], **SLOW), msgspec.structs.replace(COOL, **HOT))
    assert found.evidence[0] == "clock throttled at 600 of 1500 MHz at 88 °C, p50 2.1x baseline"
    assert found.evidence[1].startswith("input.mean shifted: lower than at release (")


def test_values_beyond_the_known_range_are_counted_apart() -> None:
    found = diagnose(report([[0, 45, 45, 45, 45, 0, 20]] * 3), COOL)
    assert found.labels == {"data"}
    assert "10% outside the range seen at release" in found.evidence[0]


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (DriftReport(model="m", version="1.0.0", reference=None, windows=[]), "no reference sketch"),
        (report([]), "0 requests counted"),
        (report([[0, 10, 10, 10, 10, 0, 0]]), "40 requests counted; 50 are needed"),
        (report([[1, 2, 3]]), "another reference"),
    ],
)
def test_too_little_is_unknown_and_says_why(made: DriftReport, word: str) -> None:
    found = diagnose(made, COOL)
    assert (found.verdict, found.features) == ("unknown", ())
    assert word in found.evidence[-1]


def test_hardware_is_told_even_where_drift_cannot_be() -> None:
    found = diagnose(report([], digest_ok=False), None)
    assert found.verdict == "hardware"
    assert found.labels == {"artifact"}


def test_the_first_shifted_window_is_not_yet_a_verdict() -> None:
    assert diagnose(report([DIM]), COOL).verdict == "unknown"
    assert "one more window decides" in diagnose(report([DIM]), COOL).evidence[0]
    assert diagnose(report([DIM, DIM]), COOL).verdict == "data"
    settled = diagnose(report([QUIET, QUIET, DIM]), COOL)
    assert (settled.verdict, settled.labels) == ("ok", frozenset())
    assert "taken as chance" in settled.evidence[0]


def test_latency_comes_from_the_serving_figures_when_the_report_has_none() -> None:
    serving = Serving(model="digits", version="1.0.0", requests=9, failed=0, rate_per_s=1.0, p50_ms=3.0, baseline_p50_ms=1.0)
    stats = {"p50_ms": None, "baseline_p50_ms": None, "throttled": None}
    busy = msgspec.structs.replace(COOL, serving=[serving], throttled=None)
    found = diagnose(report([QUIET] * 3, **stats), busy)
    assert found.labels == {"contention"}
    assert "throttling is not measurable here" in found.evidence[0]
    assert diagnose(report([QUIET] * 3, **stats), None).verdict == "ok"


def test_telling_a_cause_loads_no_numpy() -> None:
    """The laptop's light verbs import these; numpy alone is a third of their time."""
    code = "import sys, fieldops.drift.cause, fieldops.bench, fieldops.tiers; print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("p50", "baseline", "slow"), [(0.2, 0.01, False), (2.0, 1.0, True), (12.0, 10.0, False), (14.0, 10.0, True)]
)
def test_slower_means_by_a_share_and_by_an_amount_somebody_could_notice(p50: float, baseline: float, slow: bool) -> None:
    assert is_slower(p50, baseline) is slow
    assert not is_slower(None, baseline)
    assert not is_slower(p50, None)


def test_answers_of_the_core_alone_on_a_hot_device_are_no_shift_of_the_data() -> None:
    features = [Feature(name=name, source=name, edges=EDGES, reference=FLAT) for name in ("input.mean", "output.confidence")]
    reference = Reference(v=1, features=features)

    def told(inputs: list[int], hardware: dict[str, Any]) -> tuple[str, set[str]]:
        counted = [
            Window(started=60.0 * i, ended=60.0 * i + 60, n=200, counts={"input.mean": inputs, "output.confidence": DIM})
            for i in range(3)
        ]
        found = diagnose(
            msgspec.structs.replace(report([]), reference=reference, windows=counted), msgspec.structs.replace(COOL, **hardware)
        )
        return found.verdict, set(found.labels)

    assert told(QUIET, HOT) == ("hardware", {"thermal"})
    assert told(DIM, HOT) == ("both", {"thermal", "data"})
    assert told(QUIET, {}) == ("data", {"data"})

"""Looking after a model: one step, planned by what the device holds, through the same gate as every change."""

from __future__ import annotations

import pytest

from fieldops.bench import FEWEST_SAMPLES
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.operations import benchmark, care, plans
from fieldops.operations.gate import Words
from fieldops.steps import Bench, Disarm, Prune
from tests.operations.conftest import Laptop, NearDevice, digits


def test_a_plan_says_what_answers_before_and_after(laptop: Laptop) -> None:
    planned = care.plan(NearDevice("done", digits()), Prune(model="digits", versions=[]), laptop.deadline())
    assert (planned.from_version, planned.to_version, planned.warnings) == ("1.1.0", "1.1.0", ())
    assert plans.in_words(laptop.allowed(), planned) == ["remove digits versions that are neither active nor last-good"]


def test_a_model_that_is_not_there_is_named_with_those_that_are(laptop: Laptop) -> None:
    with pytest.raises(UsageFault) as unknown:
        care.plan(NearDevice("done", digits()), Disarm(model="meters"), laptop.deadline())
    assert unknown.value.reason == "unknown_model"
    assert "digits" in unknown.value.next_step


def test_it_runs_through_the_gate_with_its_words(laptop: Laptop) -> None:
    device = NearDevice("done", digits())
    planned = care.plan(device, Disarm(model="digits"), laptop.deadline())
    (record,) = plans.run(laptop.allowed(), device, planned, laptop.deadline(), words=Words("plan changed", "T-9"))
    assert record.state == "done"
    intent, outcome = laptop.entries()
    assert (intent.act, intent.reason, intent.ticket, outcome.of) == ("Disarm", "plan changed", "T-9", intent.seq)


def test_the_first_step_that_fails_ends_the_plan(laptop: Laptop) -> None:
    device = NearDevice("failed", digits())
    with pytest.raises(DeviceCannot):
        plans.run(laptop.allowed(), device, care.plan(device, Prune(model="digits"), laptop.deadline()), laptop.deadline())
    assert device.done == []


def test_a_benchmark_is_a_step_and_its_figures_come_back(laptop: Laptop) -> None:
    device = NearDevice("done", digits())
    result = benchmark.on_device(laptop.allowed(), device, "digits", laptop.deadline(), samples=64, save_baseline=True)
    assert (result.version, result.samples) == ("1.1.0", 64)
    assert device.done == [Bench(model="digits", samples=64, warmup=benchmark.WARMUP, save_baseline=True)]
    for samples in (FEWEST_SAMPLES - 1, benchmark.MOST_SAMPLES + 1):
        with pytest.raises(UsageFault) as refused:
            benchmark.on_device(laptop.allowed(), device, "digits", laptop.deadline(), samples=samples)
        assert refused.value.reason == "bad_samples"
    assert len(device.done) == 1

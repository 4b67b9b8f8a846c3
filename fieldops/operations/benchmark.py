"""Measure a model: on a device, through the gate since it loads the device; or a file on this laptop, which changes nothing."""

from __future__ import annotations

from pathlib import Path

from fieldops.bench import FEWEST_SAMPLES, summarise
from fieldops.deadline import Deadline
from fieldops.errors import MalformedReply, UsageFault
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device, OnProgress, Runner
from fieldops.steps import Bench
from fieldops.wire import BenchResult

WARMUP = 50  # the tenth call was not yet steady for any model measured
MOST_SAMPLES = 100_000


def on_device(
    gate: Gate,
    device: Device,
    model: str,
    deadline: Deadline,
    *,
    samples: int = 256,
    save_baseline: bool = False,
    words: Words = Words(),
    progress: OnProgress | None = None,
) -> BenchResult:
    """The device measures the version that answers now, beside its own calibration kernel; its baseline comes with the result.

    Raises PolicyRefused, LinkFault, DeviceCannot (busy, no such model), UsageFault.
    """
    _check(samples)
    step = Bench(model=model, samples=samples, warmup=WARMUP, save_baseline=save_baseline)
    record = gate.perform(device, step, deadline, words=words, progress=progress)
    if record.bench is None:
        raise MalformedReply(
            "the benchmark is done, but its figures are not in the reply",
            next_step="update the agent on this device",
            device=device.entry.name,
        )
    return record.bench


def local(runner: Runner, file: Path, samples: int, deadline: Deadline) -> BenchResult:
    """One ONNX file with made-up inputs. Heat, energy and accuracy stay None: nothing here measures them."""
    _check(samples)
    measured = runner.measure(file, samples=samples, warmup=WARMUP, deadline=deadline)
    return summarise(measured, model=file.stem, version="")


def _check(samples: int) -> None:
    if not FEWEST_SAMPLES <= samples <= MOST_SAMPLES:
        raise UsageFault(
            f"{samples} samples",
            reason="bad_samples",
            next_step=f"ask for {FEWEST_SAMPLES} to {MOST_SAMPLES}; p99 needs 662",
        )

"""Models on this machine, for the laptop's own benchmark and for whoever judges a bundle before it leaves."""

from __future__ import annotations

from pathlib import Path

from fieldops.bench import GoldenResult, Measured
from fieldops.bundles.golden import decode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.deadline import Deadline
from fieldops.edges.onnx.cascade import Cascade
from fieldops.edges.onnx.golden import evaluate_golden
from fieldops.edges.onnx.timing import made_up_inputs, measure
from fieldops.errors import UsageFault


class OnnxRunner:
    """Implements ports.Runner: models on this machine."""

    def measure(self, file: Path, *, samples: int, warmup: int, deadline: Deadline) -> Measured:
        if not file.is_file():
            raise UsageFault(f"{file}: no such file", reason="no_such_file", next_step="give the path of an .onnx file")
        inputs = made_up_inputs(Cascade.of_file(file, file.stem).manifest)
        return measure(lambda: Cascade.of_file(file, file.stem), inputs, samples=samples, warmup=warmup, deadline=deadline)

    def judge(self, folder: Path, manifest: Manifest, golden: bytes) -> GoldenResult:
        recorded = (folder / manifest.replay).read_bytes() if manifest.replay else None
        return evaluate_golden(Cascade.load(folder, manifest), decode_golden(golden), recorded)

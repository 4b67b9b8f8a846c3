"""The loaded bundle inside a worker, and what is asked about it: its golden set, its times, a fit, its drift window."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fieldops.agent.answers import Answers
from fieldops.agent.frames import Header
from fieldops.agent.requests import NAMES, Request, named
from fieldops.bench import CPU
from fieldops.bundles.golden import Golden, decode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.decoding import decoder
from fieldops.drift.calibration import fit_temperature
from fieldops.drift.sketch import Reference
from fieldops.edges.onnx import (
    Cascade,
    Observer,
    Tensors,
    evaluate_golden,
    joins,
    latencies,
    made_up_inputs,
    measure,
    replay,
    runtime_key,
    single_rows,
)
from fieldops.errors import DeviceCannot
from fieldops.wire import encode


class Loaded:
    """rss_before: resident bytes before anything of the bundle was read."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        golden: Path | None,
        rss_before: int,
        *,
        foreign: bool,
        threads: int = 1,
        provider: str = CPU,
    ) -> None:
        start = time.perf_counter()
        self._folder = folder
        self._foreign = foreign
        self._threads = threads
        self._provider = provider
        self.provider_fault = ""  # why the CPU's is used instead of the one asked for
        self.rss_before = rss_before
        self._declared = manifest
        self._cascade = self._fresh()
        self.joins = joins(self._cascade)
        self.load_ms = (time.perf_counter() - start) * 1000
        self._golden: Golden | None = None
        self._golden_of: tuple[Path, int, int] | None = None
        self._judge_by(golden)
        self._observer = self._observed()
        self.answers = Answers(self._cascade, self._observer, foreign)
        self._since = time.time()

    @property
    def manifest(self) -> Manifest:
        return self._cascade.manifest

    @property
    def observed(self) -> int:
        return self._observer.n if self._observer else 0

    def _fresh(self) -> Cascade:
        if self._foreign:
            return Cascade.of_file(self._folder / self._declared.tiers[0].file, self._declared.model, threads=self._threads)
        try:
            return Cascade.load(self._folder, self._declared, threads=self._threads, provider=self._provider)
        except DeviceCannot as error:
            if self._provider == CPU:
                raise
            # A driver that is gone since it was measured must not cost the model.
            self._provider, self.provider_fault = CPU, error.message
            return Cascade.load(self._folder, self._declared, threads=self._threads)

    def _observed(self) -> Observer | None:
        if self.manifest.sketch is None:
            return None
        return Observer(decoder(Reference).decode((self._folder / self.manifest.sketch).read_bytes()))

    def _inputs(self) -> Tensors:
        return dict(self._golden.inputs) if self._golden else made_up_inputs(self.manifest)

    def tune(self, temperatures: dict[str, float], threshold: float | None) -> None:
        """See Cascade.tune."""
        self._cascade.tune(temperatures, threshold)

    def fit(self, bodies: list[bytes], labels: list[int]) -> dict[str, Any]:
        """A temperature for each tier over its graph's own answers. Raises UsageFault (too_few_labels)."""
        parsed = [Request.of(body, None, self.manifest).inputs for body in bodies]
        inputs = {name: np.concatenate([each[name] for each in parsed]) for name in parsed[0]} if parsed else {}
        known = np.asarray(labels, np.int64)
        fits: dict[str, Any] = {}
        for tier in self._cascade.tier_names if parsed else ():
            outputs = self._cascade.tier(tier, inputs)
            fits[tier] = asdict(fit_temperature(outputs[self.manifest.outputs[0].name], known))
        return fits

    def _judge_by(self, path: Path | None) -> None:
        """Take the set at `path`, which newer signed policy may have replaced. Raises UsageFault (bad_golden)."""
        if path is None or not path.exists():
            return
        status = path.stat()
        which = (path, status.st_mtime_ns, status.st_size)
        if which != self._golden_of:
            self._golden, self._golden_of = decode_golden(path.read_bytes()), which

    def golden(self, path: Path | None) -> Header:
        """The golden set and the recorded outputs, on the device as it is now."""
        self._judge_by(path)
        if self._golden is None:
            return {"known": False}
        name = self.manifest.replay
        recorded = (self._folder / name).read_bytes() if name else None
        result = evaluate_golden(self._cascade, self._golden, recorded)
        reply: Header = {
            "known": True,
            "passed": result.ok,
            "accuracy": result.accuracy,
            "floor": result.floor,
            "rows": result.n,
            "worst": result.worst_difference,
            "finite": result.finite,
            "same_runtime": self.manifest.replay_key == runtime_key(self._cascade.provider),
        }
        if recorded is not None:
            replayed = replay(self._cascade, self._golden, recorded)
            if replayed.comparable:
                reply |= {"bit_equal": replayed.bit_equal, "worst_of_all": replayed.worst}
                reply["tolerance"] = self._golden.tolerance_for(platform.machine())
        return reply

    def latencies(self, n: int) -> list[float]:
        return latencies(self._cascade, self._inputs(), n)

    def requests(self, n: int) -> list[bytes]:
        """Bodies of requests as a program would send them, one golden row each."""
        rows = islice(cycle(single_rows(self._inputs())), n)
        return [msgspec.json.encode({"inputs": [named(name, value) for name, value in row.items()]}) for row in rows]

    def measure(self, samples: int, warmup: int) -> Header:
        measured = measure(self._fresh, self._inputs(), samples=samples, warmup=warmup)
        return {
            "cold_ms": measured.cold_ms,
            "samples_ms": list(measured.samples_ms),
            "kernel_ms": measured.kernel_ms,
            "runtime": measured.runtime,
        }

    def window(self) -> bytes:
        """The counts since the last window; b"" when nothing is observed."""
        if self._observer is None:
            return b""
        ended = time.time()
        window = self._observer.window(self._since, ended)
        self._since = ended
        return encode(window)

    def metadata(self) -> bytes:
        """GET /v2/models/{m}, as the protocol describes a model."""

        def described(tensors: list[Any]) -> list[dict[str, Any]]:
            return [{"name": t.name, "datatype": NAMES.get(t.dtype, t.dtype), "shape": t.shape} for t in tensors]

        return msgspec.json.encode(
            {
                "name": self.manifest.model,
                "versions": [self.manifest.version],
                "platform": "onnx_onnxruntime",
                "inputs": described(self.manifest.inputs),
                "outputs": described(self.manifest.outputs),
                "parameters": {"gate": self._cascade.gate, "tiers": ", ".join(self._cascade.tier_names)},
            }
        )

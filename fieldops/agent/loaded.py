"""The loaded bundle inside a worker: requests of the Open Inference Protocol in, answers out, and its checks."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fieldops.agent.frames import Header
from fieldops.agent.requests import NAMES, Request, answered_tensor, named
from fieldops.bench import CPU
from fieldops.bundles.golden import Golden, decode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.decoding import decoder
from fieldops.drift.calibration import fit_temperature
from fieldops.drift.sketch import Reference
from fieldops.edges.onnx import (
    Answer,
    Asked,
    Cascade,
    Observer,
    Tensors,
    evaluate_golden,
    infer_joined,
    joins,
    latencies,
    made_up_inputs,
    measure,
    replay,
    runtime_key,
    single_rows,
)
from fieldops.errors import DeviceCannot, FieldopsError, UsageFault
from fieldops.tiers import Refusal
from fieldops.wire import encode

LOW_CONFIDENCE = 0.6  # of the whole cascade's answer


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

    def infer(
        self, body: bytes, deadline_s: float | None, refusal: Refusal, json_bytes: int | None = None, *, keep: bool = False
    ) -> tuple[Header, bytes]:
        """One request. deadline_s: seconds from now until its caller no longer waits. Raises UsageFault, DeviceCannot."""
        start = time.perf_counter()
        request = Request.of(body, json_bytes, self.manifest)
        asked = time.perf_counter()
        answer = self._cascade.infer(request.inputs, deadline_s=deadline_s, refusal=refusal)
        return self._reply(request, answer, start, (time.perf_counter() - asked) * 1000, 1, keep=keep)

    def infer_many(self, each: list[Header], body: bytes, waited_s: float) -> list[tuple[Header, bytes] | FieldopsError]:
        """Requests that waited together: run as one where they fit together, each answered or refused for itself.

        each: `bytes` of the body that are its own, and what `infer` takes. waited_s: how long ago their deadlines were told.
        """
        start = time.perf_counter()
        found: dict[int, tuple[Header, bytes] | FieldopsError] = {}
        alike: dict[Any, list[tuple[int, Request]]] = {}
        for index, header in enumerate(each):
            mine, body = body[: header["bytes"]], body[header["bytes"] :]
            try:
                request = Request.of(mine, header.get("json_bytes"), self.manifest)
            except UsageFault as error:
                found[index] = error
                continue
            alike.setdefault(request.form or index, []).append((index, request))
        for group in alike.values():
            found |= self._together(start, group, each, waited_s)
        return [found[index] for index in range(len(each))]

    def _together(
        self, start: float, group: list[tuple[int, Request]], each: list[Header], waited_s: float
    ) -> dict[int, tuple[Header, bytes] | FieldopsError]:
        asked = [
            Asked(request.inputs, start + each[index]["deadline_s"] - waited_s, each[index].get("refusal", ""))
            for index, request in group
        ]
        begun = time.perf_counter()
        answers = infer_joined(self._cascade, asked)
        model_ms = (time.perf_counter() - begun) * 1000
        found: dict[int, tuple[Header, bytes] | FieldopsError] = {}
        for (index, request), answer in zip(group, answers, strict=True):
            keep = bool(each[index].get("keep"))
            found[index] = (
                answer
                if isinstance(answer, FieldopsError)
                else self._reply(request, answer, start, model_ms, len(group), keep=keep)
            )
        return found

    def _reply(
        self, request: Request, answer: Answer, start: float, model_ms: float, batch: int, *, keep: bool
    ) -> tuple[Header, bytes]:
        if self._observer is not None:
            self._observer.add(request.inputs, answer.outputs)
        outputs, binary = request.answered(answer.outputs)
        reply = {
            "model_name": self.manifest.model,
            "model_version": self.manifest.version,
            "id": request.id,
            "outputs": outputs,
            "parameters": {
                "route": answer.route,
                "why": answer.why,
                "version": self.manifest.version if not self._foreign else "foreign",
                "confidence": answer.confidence,
                "tier_ms": answer.tier_ms,
                "batch": batch,
                "total_ms": (time.perf_counter() - start) * 1000,
            },
        }
        said: Header = {"route": answer.route, "why": answer.why, "ms": model_ms, "confidence": answer.confidence}
        text = msgspec.json.encode(reply)
        if binary:
            said["json_bytes"] = len(text)
        return (said | self._worth_keeping(request.inputs, answer) if keep else said), text + binary

    def _worth_keeping(self, inputs: Tensors, answer: Answer) -> Header:
        """What the agent keeps a request by; nothing for one of several rows."""
        first = answer.outputs[self.manifest.outputs[0].name]
        if len(first) != 1 or first.ndim != 2:
            return {}
        strange = self._observer is not None and self._observer.outside(inputs)
        unsure = answer.confidence is not None and answer.confidence < LOW_CONFIDENCE
        reason = "out_of_range" if strange else "low_confidence" if unsure else ""
        return {"label": int(first[0].argmax()), "unusual": reason}

    def compare(
        self, body: bytes, answer: bytes, json_bytes: int | None, answer_json_bytes: int | None, refusal: Refusal
    ) -> Header:
        """What this version makes of a request beside what another answered; it counts in no window. Raises UsageFault."""
        request = Request.of(body, json_bytes, self.manifest)
        begun = time.perf_counter()
        mine = self._cascade.infer(request.inputs, refusal=refusal)
        ms = (time.perf_counter() - begun) * 1000
        name = self.manifest.outputs[0].name
        ours, theirs = mine.outputs[name], answered_tensor(answer, answer_json_bytes, name)
        if mine.route == "rule" or theirs is None or theirs.shape != ours.shape:
            return {"ms": ms, "rows": 0, "agreed": 0, "worst": None}
        tops = [value.reshape(len(value), -1).argmax(axis=1) for value in (ours, theirs)]
        worst = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
        agreed = int((tops[0] == tops[1]).sum())
        return {"ms": ms, "rows": len(ours), "agreed": agreed, "worst": worst if np.isfinite(worst) else None}

    def as_json(self, body: bytes, json_bytes: int) -> bytes:
        """A request with binary tensors as one without. Raises UsageFault."""
        return Request.of(body, json_bytes, self.manifest).as_json()

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

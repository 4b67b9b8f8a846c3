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
from msgspec import Struct

from fieldops.agent.frames import Header
from fieldops.bench import CPU
from fieldops.bundles.golden import Golden, decode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.decoding import decoder
from fieldops.drift.calibration import fit_temperature
from fieldops.drift.sketch import Reference
from fieldops.edges.onnx import (
    Answer,
    Array,
    Cascade,
    Observer,
    Tensors,
    evaluate_golden,
    latencies,
    made_up_inputs,
    measure,
    replay,
    runtime_key,
    single_rows,
)
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.tiers import Refusal
from fieldops.wire import encode

LOW_CONFIDENCE = 0.6  # of the whole cascade's answer

_FIND = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}
_TYPES = _FIND | {f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class _Parameters(Struct, frozen=True):
    """Of the protocol's binary extension."""

    binary_data_size: int | None = None  # of an input: so many bytes of the tail, little-endian
    binary_data: bool | None = None  # of an output: wanted so
    binary_data_output: bool = False  # of the request: every output wanted so


class _Input(Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None  # flat or nested, as the protocol allows; None: in the tail
    parameters: _Parameters = _Parameters()


class _Output(Struct, frozen=True):
    name: str
    parameters: _Parameters = _Parameters()


class _Request(Struct, frozen=True):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] = []  # none named: all
    parameters: _Parameters = _Parameters()


def _bad(message: str) -> UsageFault:
    return UsageFault(message, reason="bad_input", next_step="send tensors as the model's metadata describes them")


def _decoded(body: bytes, json_bytes: int | None) -> tuple[_Request, bytes]:
    """(the request, the tail that holds binary tensors). json_bytes None: there is no tail."""
    size = len(body) if json_bytes is None else json_bytes
    if not 0 <= size <= len(body):
        raise _bad(f"a header of {size} bytes in a body of {len(body)}")
    try:
        return decoder(_Request).decode(body[:size]), body[size:]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _bad(f"no inference request: {error}") from error


def _tensors(request: _Request, manifest: Manifest, tail: bytes = b"") -> Tensors:
    made: Tensors = {}
    for tensor in request.inputs:
        dtype = _TYPES.get(tensor.datatype)
        if dtype is None:
            raise _bad(f"datatype {tensor.datatype!r} of {tensor.name} is not known")
        size = tensor.parameters.binary_data_size
        if size is not None and not 0 <= size <= len(tail):
            raise _bad(f"input {tensor.name} of {size} bytes; {len(tail)} are left")
        try:
            if size is None:
                made[tensor.name] = np.asarray(tensor.data, dtype=dtype).reshape(tensor.shape)
            else:
                made[tensor.name] = (
                    np.frombuffer(tail[:size], np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(tensor.shape)
                )
                tail = tail[size:]
        except (ValueError, TypeError, OverflowError) as error:
            raise _bad(f"input {tensor.name}: {error}") from error
    for wanted in manifest.inputs:
        got = made.get(wanted.name)
        if got is None:
            raise _bad(f"input {wanted.name} is missing")
        if got.ndim != len(wanted.shape) or any(
            size not in (-1, have) for size, have in zip(wanted.shape, got.shape, strict=True)
        ):
            raise _bad(f"input {wanted.name} has shape {list(got.shape)}; the model takes {wanted.shape}")
        if 0 in got.shape:
            raise _bad(f"input {wanted.name} is empty")
    return made


def _described(name: str, value: Array) -> dict[str, Any]:
    return {"name": name, "datatype": _NAMES.get(str(value.dtype), "FP32"), "shape": list(value.shape)}


def _named(name: str, value: Array) -> dict[str, Any]:
    return {**_described(name, value), "data": value.ravel().tolist()}


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
        start = time.perf_counter()
        request, tail = _decoded(body, json_bytes)
        inputs = _tensors(request, self.manifest, tail)
        wanted = {output.name: output for output in request.outputs}
        for name in wanted.keys() - {output.name for output in self.manifest.outputs}:
            raise _bad(f"there is no output {name}")
        asked = time.perf_counter()
        answer = self._cascade.infer(inputs, deadline_s=deadline_s, refusal=refusal)
        model_ms = (time.perf_counter() - asked) * 1000
        if self._observer is not None:
            self._observer.add(inputs, answer.outputs)
        outputs, binary = self._said(answer.outputs, request, wanted)
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
                "total_ms": (time.perf_counter() - start) * 1000,
            },
        }
        said: Header = {"route": answer.route, "why": answer.why, "ms": model_ms, "confidence": answer.confidence}
        text = msgspec.json.encode(reply)
        if binary:
            said["json_bytes"] = len(text)
        return (said | self._worth_keeping(inputs, answer) if keep else said), text + binary

    def _said(self, found: Tensors, request: _Request, wanted: dict[str, _Output]) -> tuple[list[dict[str, Any]], bytes]:
        """The outputs as JSON, and the bytes of those that were wanted as binary."""
        described: list[dict[str, Any]] = []
        parts: list[bytes] = []
        for name, value in found.items():
            if wanted and name not in wanted:
                continue
            asked = wanted[name].parameters.binary_data if name in wanted else None
            if not (request.parameters.binary_data_output if asked is None else asked):
                described.append(_named(name, value))
                continue
            data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
            parts.append(data)
            described.append({**_described(name, value), "parameters": {"binary_data_size": len(data)}})
        return described, b"".join(parts)

    def _worth_keeping(self, inputs: Tensors, answer: Answer) -> Header:
        """What the agent keeps a request by; nothing for one of several rows."""
        first = answer.outputs[self.manifest.outputs[0].name]
        if len(first) != 1 or first.ndim != 2:
            return {}
        strange = self._observer is not None and self._observer.outside(inputs)
        unsure = answer.confidence is not None and answer.confidence < LOW_CONFIDENCE
        reason = "out_of_range" if strange else "low_confidence" if unsure else ""
        return {"label": int(first[0].argmax()), "unusual": reason}

    def fit(self, bodies: list[bytes], labels: list[int]) -> dict[str, Any]:
        """A temperature for each tier over its graph's own answers. Raises UsageFault (too_few_labels)."""
        parsed = [_tensors(decoder(_Request).decode(body), self.manifest) for body in bodies]
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
        return [msgspec.json.encode({"inputs": [_named(name, value) for name, value in row.items()]}) for row in rows]

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
            return [{"name": t.name, "datatype": _NAMES.get(t.dtype, t.dtype), "shape": t.shape} for t in tensors]

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

"""Models as they run: a bundle's cascade in ONNX Runtime, its golden set, its replay, its times. onnxruntime's only importer.

Files are read once: the bytes that are hashed are the bytes that are loaded. A session has its own threads, without spinning
(two spinning threads burnt two whole cores while idle). What onnxruntime raises becomes ours here:

    file missing, other digest than the manifest's        TrustRefused missing, hash_mismatch
    graph invalid, operator unknown, other inputs         DeviceCannot model_unloadable, wrong_io
    not enough memory                                     DeviceCannot memory
    a request of the wrong shape or type                  UsageFault   bad_input
    a run that fails                                      DeviceCannot inference_failed
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

# ONNX Runtime 1.32 else makes a device id under ~/.cache and reports to its vendor once there is a network. Read at its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from fieldops.bench import GoldenResult, Measured
from fieldops.bundles.golden import Golden, decode_golden
from fieldops.bundles.manifest import FileEntry, Manifest, Objectives, Rule, Tensor, Tier
from fieldops.deadline import Deadline
from fieldops.drift.calibration import scaled
from fieldops.drift.count import count, rows, values_of
from fieldops.drift.sketch import Reference, Window
from fieldops.errors import DeviceCannot, TrustRefused, UsageFault
from fieldops.fleet import Hardware
from fieldops.tiers import Allowance, Choice, Refusal, Route, after_core

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

CONFIDENCE_OUTPUT = "confidence"  # a graph that has it spares the gate a reduction in Python
UNLIMITED = Allowance()
BUFFERED_ROWS = 64
BUFFERED_BYTES = 4 << 20

_FAILED_LOAD = (
    ort_state.Fail,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.InvalidArgument,
    ort_state.NotImplemented,
    ort_state.NotFound,
    ort_state.NoSuchFile,
    ort_state.NoModel,
    ort_state.RuntimeException,
    ort_state.EPFail,
)
_FAILED_RUN = (ort_state.Fail, ort_state.RuntimeException, ort_state.NotImplemented, ort_state.EPFail)


def runtime_key() -> str:
    """Under an equal key the same graph gives the same bits: runtime, provider, optimiser level, instruction sets."""
    found = np.show_config(mode="dicts")
    extensions = found.get("SIMD Extensions", {}).get("found", []) if isinstance(found, dict) else []
    isa = "+".join([platform.machine(), *extensions])
    return f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider all {isa}"


def hardware() -> Hardware:
    """What this machine and this build of the runtime offer; the opset is tried, not looked up."""
    return Hardware(
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        isa=_instruction_sets(),
        runtime=f"onnxruntime {onnxruntime.__version__}",
        providers=list(onnxruntime.get_available_providers()),
        opset=_highest_opset(),
    )


def _instruction_sets() -> list[str]:
    """Linux's own words, x86 and ARM; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return []
    words = next((line.partition(":")[2] for line in lines if line.split(":")[0].strip() in {"flags", "Features"}), "")
    return sorted(set(words.split()))


LOWEST_OPSET, MOST_OPSET = 13, 40


def _highest_opset() -> int | None:
    """The newest that this runtime loads: a graph of one Identity, stamped with one after the other."""
    found = None
    for opset in range(LOWEST_OPSET, MOST_OPSET):
        try:
            _session(_identity_graph(opset), "probe", 1)
        except DeviceCannot:
            break
        found = opset
    return found


def _identity_graph(opset: int) -> bytes:
    """ModelProto by hand: ir_version 8, one node x -> y, float[1]. The onnx package is not there on a device."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    shape = field(2, field(1, bytes([1 << 3, 1])))
    float_1 = field(2, field(1, bytes([1 << 3, 1]) + shape))
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"g") + field(11, field(1, b"x") + float_1) + field(12, field(1, b"y") + float_1)
    return bytes([1 << 3, 8]) + field(7, graph) + field(8, field(1, b"") + bytes([2 << 3, opset]))


# --- sessions ----------------------------------------------------------------------------------------------------------


def _session(content: bytes, what: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is raised; warnings would go to stderr, over a screen or into a pipe
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except MemoryError as error:
        raise _no_memory(what) from error
    except _FAILED_LOAD as error:
        if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
            raise _no_memory(what) from error
        raise DeviceCannot(
            f"{what} does not load: {_short(error)}",
            reason="model_unloadable",
            next_step="build the bundle for this device's ONNX Runtime, or update the runtime",
        ) from error


def _no_memory(what: str) -> DeviceCannot:
    return DeviceCannot(
        f"not enough memory for {what}", reason="memory", next_step="use a smaller version, or free memory on the device"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _running(what: str) -> Iterator[None]:
    try:
        yield
    except (ort_state.InvalidArgument, ValueError) as error:  # ValueError: an input is missing
        raise UsageFault(
            f"{what}: {_short(error)}", reason="bad_input", next_step="send tensors as the model's metadata describes them"
        ) from error
    except MemoryError as error:
        raise _no_memory(what) from error
    except _FAILED_RUN as error:
        if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
            raise _no_memory(what) from error
        raise DeviceCannot(
            f"{what} failed: {_short(error)}", reason="inference_failed", next_step="go back to the last good version"
        ) from error


def _read(folder: Path, entry: FileEntry | None, name: str) -> bytes:
    """The bytes of a tier's file, with the digest the manifest promises. An entry without digest (not yet added) is taken as it is."""
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise TrustRefused(f"{name} is missing", reason="missing", next_step="stage the version again") from error
    except OSError as error:
        raise TrustRefused(
            f"{name} cannot be read: {error.strerror}", reason="io_error", next_step="stage the version again"
        ) from error
    if entry is not None and entry.sha256 and hashlib.sha256(content).hexdigest() != entry.sha256:
        raise TrustRefused(
            f"{name} is not what was signed: another SHA-256", reason="hash_mismatch", next_step="stage the version again"
        )
    return content


_ORT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
}


def _tensor(node: Any) -> Tensor:
    """The graph's own words: a symbolic dimension is -1; a type numpy does not know keeps onnxruntime's name."""
    shape = [size if isinstance(size, int) else -1 for size in node.shape]
    return Tensor(name=node.name, dtype=_ORT_TYPES.get(node.type, node.type), shape=shape)


class _Graph:
    """One tier, loaded."""

    def __init__(self, session: Any, tier: Tier, manifest: Manifest) -> None:
        self.tier = tier
        found_in = {node.name: _tensor(node) for node in session.get_inputs()}
        found_out = {node.name: _tensor(node) for node in session.get_outputs()}
        _check_io(tier, manifest, found_in, found_out)
        self.run = session.run
        self.outputs = [tensor.name for tensor in manifest.outputs]
        self.gated = CONFIDENCE_OUTPUT in found_out and CONFIDENCE_OUTPUT not in self.outputs
        self.asked = [*self.outputs, CONFIDENCE_OUTPUT] if self.gated else self.outputs
        self.temperature = 1.0  # of this device, over what the graph says; the signed one is in the graph

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[list[Array], Array]:
        """The outputs in the manifest's order, and the confidence of each row."""
        found: list[Array] = self.run(self.asked, inputs)
        if self.temperature != 1.0:
            mended = scaled(found[0], self.temperature).astype(found[0].dtype)
            return [mended, *found[1 : len(self.outputs)]], mended.max(axis=1)
        if self.gated:
            return found[:-1], found[-1]
        return found, found[0].reshape(len(found[0]), -1).max(axis=1)


def _check_io(tier: Tier, manifest: Manifest, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    wrong: list[str] = []
    for tensor in manifest.inputs:
        got = inputs.get(tensor.name)
        if got is None or got.dtype != tensor.dtype or not _fits(got.shape, tensor.shape):
            wrong.append(f"input {tensor.name} {tensor.dtype}{tensor.shape}, the graph has {_words(got)}")
    promised = {tensor.name for tensor in manifest.inputs}
    wrong += [f"input {name} that the manifest does not name" for name in sorted(inputs.keys() - promised)]
    for tensor in manifest.outputs:
        got = outputs.get(tensor.name)
        if got is None or got.dtype != tensor.dtype or not _fits(got.shape, tensor.shape):
            wrong.append(f"output {tensor.name} {tensor.dtype}{tensor.shape}, the graph has {_words(got)}")
    if wrong:
        raise DeviceCannot(
            f"{tier.file} does not fit its manifest: {'; '.join(wrong)}",
            reason="wrong_io",
            next_step="the release team builds the bundle again",
        )


def _fits(graph: list[int], promised: list[int]) -> bool:
    return len(graph) == len(promised) and all(a in (b, -1) for a, b in zip(graph, promised, strict=True))


def _words(tensor: Tensor | None) -> str:
    return f"{tensor.dtype}{tensor.shape}" if tensor else "none of that name"


# --- the cascade -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """confidence: lowest top probability of the request's rows; None for the rule. tier_ms: time in each tier that ran.

    escalated: rows the large model answered. why: the tiers' word for the choice; `failed` when the large model broke and
    the core's answer stands.
    """

    route: Route
    outputs: Tensors
    confidence: float | None
    tier_ms: dict[str, float]
    escalated: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """comparable: recorded for these golden inputs. worst: largest absolute difference, inf where one side is not finite."""

    comparable: bool
    bit_equal: bool
    worst: float


class Cascade:
    """The tiers of one version. Not for several threads at once: a worker serves one request at a time."""

    def __init__(self, manifest: Manifest, graphs: list[_Graph]) -> None:
        self.manifest = manifest
        self._core = graphs[0]
        self._large = graphs[1] if len(graphs) > 1 else None
        self._large_s: float | None = None
        self._threshold = self._core.tier.threshold

    @property
    def gate(self) -> str:
        """Where the confidence is made: in the core's graph, or after it."""
        return "graph" if self._core.gated and self._core.temperature == 1.0 else "after the graph"

    def tune(self, temperatures: Mapping[str, float], threshold: float | None) -> None:
        """Local settings over the signed ones, which {} and None bring back. temperatures: by tier, over its own output."""
        for graph in (self._core, self._large):
            if graph is not None:
                graph.temperature = temperatures.get(graph.tier.name, 1.0)
        self._threshold = self._core.tier.threshold if threshold is None else threshold

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, *, threads: int = 1) -> Cascade:
        """Raises TrustRefused or DeviceCannot as the module says."""
        entries = {entry.name: entry for entry in manifest.files}
        graphs = [
            _Graph(_session(_read(folder, entries.get(tier.file), tier.file), tier.file, threads), tier, manifest)
            for tier in manifest.tiers[:2]
        ]
        return cls(manifest, graphs)

    @classmethod
    def of_file(cls, file: Path, model: str, *, version: str = "0.0.0", threads: int = 1) -> Cascade:
        """A model nobody signed (a foreign one, or a file on the laptop): one tier, described by its own graph."""
        content = _read(file.parent, None, file.name)
        session = _session(content, file.name, threads)
        manifest = Manifest(
            v=1,
            model=model,
            task=model,
            version=version,
            counter=0,
            owner="",
            tiers=[Tier(name="core", file=file.name, variant="as found")],
            inputs=[_tensor(node) for node in session.get_inputs()],
            outputs=[_tensor(node) for node in session.get_outputs()],
            objectives=Objectives(p95_ms=0.0, memory_bytes=0),
            fallback=Rule(label=0, text="no rule"),
            files=[FileEntry(name=file.name, sha256=hashlib.sha256(content).hexdigest(), size=len(content))],
        )
        return cls(manifest, [_Graph(session, manifest.tiers[0], manifest)])

    @property
    def tier_names(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.manifest.tiers[:2])

    def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        deadline_s: float | None = None,
        allow_large: bool = True,
        allowance: Allowance = UNLIMITED,
        refusal: Refusal = "",
    ) -> Answer:
        """Answer one request. deadline_s: seconds from now until the caller no longer waits. Raises UsageFault, DeviceCannot.

        refusal: why the large model must rest, where somebody else has asked the allowance already.
        """
        start = perf_counter()
        with _running(self._core.tier.file):
            outputs, confidences = self._core(inputs)
        core_s = perf_counter() - start
        core, threshold = self._core.tier, self._threshold if self._large else None
        lowest = float(confidences[0]) if len(confidences) == 1 else float(confidences.min(initial=np.inf))
        choice = after_core(
            lowest,
            threshold,
            left_s=None if deadline_s is None else deadline_s - core_s,
            expected_s=self._large_s,
            core_s=core_s,
            refusal=(refusal or allowance.refusal) if allow_large else "load",
        )
        times: dict[str, float] = {core.name: core_s * 1000}
        if choice.ask_next and self._large is not None and threshold is not None:
            return self._escalate(self._large, inputs, outputs, confidences, threshold, times)
        return self._settled(choice, outputs, lowest, times, len(confidences))

    def _settled(self, choice: Choice, outputs: list[Array], lowest: float, times: dict[str, float], n: int) -> Answer:
        if choice.route == "rule":
            return Answer("rule", rule_outputs(self.manifest, n), None, times, why="not_finite")
        return Answer(choice.route, dict(zip(self._core.outputs, outputs, strict=True)), lowest, times, why=choice.why)

    def _escalate(
        self,
        large: _Graph,
        inputs: Mapping[str, Array],
        outputs: list[Array],
        confidences: Array,
        threshold: float,
        times: dict[str, float],
    ) -> Answer:
        """Ask the large model for the rows of which the core is not sure."""
        unsure = ~(confidences >= threshold)  # nan is unsure
        everything = bool(unsure.all())
        asked = inputs if everything else {name: value[unsure] for name, value in inputs.items()}
        start = perf_counter()
        try:
            with _running(large.tier.file):
                better, sure = large(asked)
        except DeviceCannot:
            # The best answer so far is an answer; a version whose large graph breaks is found by the golden set.
            lowest = float(confidences.min())
            route: Route = "core" if np.isfinite(lowest) else "rule"
            return self._settled(Choice(ask_next=False, route=route, why="unsure"), outputs, lowest, times, len(confidences))
        took = perf_counter() - start
        self._large_s = took if self._large_s is None else 0.8 * self._large_s + 0.2 * took
        times[large.tier.name] = took * 1000
        if everything:
            merged, confidences = better, sure
        else:
            merged = [np.array(old) for old in outputs]
            for whole, part in zip(merged, better, strict=True):
                whole[unsure] = part
            confidences = np.array(confidences)
            confidences[unsure] = sure
        lowest = float(confidences.min())
        if not np.isfinite(lowest):
            return Answer("rule", rule_outputs(self.manifest, len(confidences)), None, times, why="not_finite")
        named = dict(zip(large.outputs, merged, strict=True))
        return Answer("large", named, lowest, times, escalated=int(unsure.sum()), why="unsure")

    def tier(self, name: str, inputs: Mapping[str, Array]) -> Tensors:
        """What one tier's graph says, without local settings; for replay, fits and measurements. Raises KeyError."""
        for graph in (self._core, self._large):
            if graph is not None and graph.tier.name == name:
                with _running(graph.tier.file):
                    outputs = graph.run(graph.outputs, inputs)
                return dict(zip(graph.outputs, outputs, strict=True))
        raise KeyError(name)


def rule_outputs(manifest: Manifest, n: int) -> Tensors:
    """The signed rule as the model's own tensors: all of the first output's mass on the rule's label, other outputs 0."""
    made: Tensors = {}
    for index, tensor in enumerate(manifest.outputs):
        shape = [n, *(max(size, 1) for size in tensor.shape[1:])]
        made[tensor.name] = np.zeros(shape, tensor.dtype)
        if index == 0 and len(shape) == 2 and manifest.fallback.label < shape[1]:
            made[tensor.name][:, manifest.fallback.label] = 1
    return made


# --- golden set and replay ---------------------------------------------------------------------------------------------


def evaluate_golden(cascade: Cascade, golden: Golden, recorded: bytes | None = None) -> GoldenResult:
    """The whole cascade, without deadline, on every golden input. ok: finite, and at least the floor's share right.

    recorded: the version's replay file; where it fits these inputs the worst difference of any tier must also keep the task's
    tolerance, so that a fault that leaves every label alone is still found.
    """
    answer = cascade.infer(golden.inputs)
    first = answer.outputs[cascade.manifest.outputs[0].name]
    shares = first.reshape(golden.n, -1)
    finite = answer.route != "rule" and all(bool(np.isfinite(value).all()) for value in answer.outputs.values())
    right = float((shares.argmax(axis=1) == golden.labels).mean())
    worst: float | None = None
    if recorded is not None:
        replayed = replay(cascade, golden, recorded, tiers=_judged_by_numbers(cascade.manifest))
        worst = replayed.worst if replayed.comparable else None
    within = worst is None or worst <= golden.tolerance_for(platform.machine())
    return GoldenResult(
        ok=finite and right >= golden.floor and within,
        accuracy=right,
        floor=golden.floor,
        n=golden.n,
        worst_difference=worst,
        finite=finite,
    )


def _judged_by_numbers(manifest: Manifest) -> tuple[str, ...]:
    """Integer graphs round and saturate differently with other instruction sets; only where they were recorded are they compared."""
    same = manifest.replay_key == runtime_key()
    return tuple(tier.name for tier in manifest.tiers[:2] if same or "int" not in tier.variant)


def _inputs_digest(golden: Golden) -> Array:
    whole = hashlib.sha256()
    for name in sorted(golden.inputs):
        value = np.ascontiguousarray(golden.inputs[name])
        whole.update(f"{name} {value.dtype} {value.shape}\n".encode())
        whole.update(value.tobytes())
    return np.frombuffer(whole.digest(), np.uint8)


def record(cascade: Cascade, golden: Golden) -> bytes:
    """The replay file: what every tier answers to the golden inputs, here and now. The same bits give the same bytes."""
    arrays = {"inputs_sha256": _inputs_digest(golden)}
    for name in cascade.tier_names:
        for output, value in cascade.tier(name, golden.inputs).items():
            arrays[f"{name}.{output}"] = value
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def replay(cascade: Cascade, golden: Golden, recorded: bytes, *, tiers: tuple[str, ...] | None = None) -> ReplayResult:
    """Run the golden inputs again and compare with what was recorded at release. tiers: only these; None is all.

    Raises TrustRefused when `recorded` is no such file.
    """
    try:
        with np.load(io.BytesIO(recorded), allow_pickle=False) as archive:
            before = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise TrustRefused(
            f"the recorded outputs cannot be read: {error}",
            reason="malformed",
            next_step="the release team builds the bundle again",
        ) from error
    if not np.array_equal(before.pop("inputs_sha256", np.zeros(0)), _inputs_digest(golden)):
        return ReplayResult(comparable=False, bit_equal=False, worst=float("nan"))
    bit_equal, worst = True, 0.0
    for name in cascade.tier_names if tiers is None else tiers:
        for output, value in cascade.tier(name, golden.inputs).items():
            old = before.get(f"{name}.{output}")
            if old is None or old.shape != value.shape or old.dtype != value.dtype:
                return ReplayResult(comparable=False, bit_equal=False, worst=float("nan"))
            bit_equal = bit_equal and old.tobytes() == value.tobytes()
            worst = max(worst, _worst(old, value))
    return ReplayResult(comparable=True, bit_equal=bit_equal, worst=worst)


def _worst(old: Array, new: Array) -> float:
    """Largest absolute difference; inf when either side holds what is no number."""
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return float("inf")
    return float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max(initial=0.0))


# --- times -------------------------------------------------------------------------------------------------------------

_KERNEL = np.random.default_rng(0).standard_normal((96, 96)).astype(np.float32)


def kernel_ms() -> float:
    """One run of the calibration kernel: a fixed product of two 96x96 matrices in numpy's own single-threaded C loop."""
    start = perf_counter()
    np.einsum("ij,jk->ik", _KERNEL, _KERNEL, optimize=False)
    return (perf_counter() - start) * 1000


def single_rows(inputs: Mapping[str, Array], limit: int = 256) -> list[Tensors]:
    """Requests of one row each: different inputs, since one repeated input stays in the caches."""
    n = min(len(next(iter(inputs.values()))), limit)
    return [{name: np.ascontiguousarray(value[i : i + 1]) for name, value in inputs.items()} for i in range(n)]


def latencies(cascade: Cascade, inputs: Mapping[str, Array], n: int) -> list[float]:
    """Milliseconds of n requests of one row, cycling through the inputs."""
    taken: list[float] = []
    for request in islice(cycle(single_rows(inputs)), n):
        start = perf_counter()
        cascade.infer(request)
        taken.append((perf_counter() - start) * 1000)
    return taken


def interleaved(first: Cascade, second: Cascade, inputs: Mapping[str, Array], n: int) -> tuple[list[float], list[float]]:
    """`n` latencies of each, taken in turns: a change of the machine's speed meets both alike."""
    one: list[float] = []
    two: list[float] = []
    for _ in range(0, n, 8):
        one += latencies(first, inputs, 8)
        two += latencies(second, inputs, 8)
    return one[:n], two[:n]


def measure(
    load: Callable[[], Cascade], inputs: Mapping[str, Array], *, samples: int, warmup: int, deadline: Deadline | None = None
) -> Measured:
    """Load afresh, time the first request apart, warm up, then time `samples` requests with the kernel before, among and after."""
    requests = single_rows(inputs)
    cascade = load()
    start = perf_counter()
    cascade.infer(requests[0])
    cold = (perf_counter() - start) * 1000
    latencies(cascade, inputs, warmup)
    kernel = [kernel_ms() for _ in range(4)][1:]
    taken: list[float] = []
    source = cycle(requests)
    while len(taken) < samples:
        if deadline is not None:
            deadline.check("the benchmark")
        for request in islice(source, min(64, samples - len(taken))):
            start = perf_counter()
            cascade.infer(request)
            taken.append((perf_counter() - start) * 1000)
        kernel += [kernel_ms(), kernel_ms()]
    return Measured(cold_ms=cold, samples_ms=tuple(taken), kernel_ms=median(kernel), runtime=runtime_key())


def made_up_inputs(manifest: Manifest, n: int = 16) -> Tensors:
    """Inputs for a model of which nothing else is known: seeded noise for floats, zeros for the rest; free dimensions are 1."""
    random = np.random.default_rng(0)
    made: Tensors = {}
    for tensor in manifest.inputs:
        shape = [n, *(max(size, 1) for size in tensor.shape[1:])]
        if tensor.dtype.startswith("float"):
            made[tensor.name] = random.standard_normal(shape).astype(tensor.dtype)
        else:
            made[tensor.name] = np.zeros(shape, tensor.dtype)
    return made


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


# --- drift counts ------------------------------------------------------------------------------------------------------


class Observer:
    """Counts requests into the reference's frozen bins. Rows are kept for a moment and counted together (3x cheaper).

    The reference's features read the first input and the first output of the model.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._counts: dict[str, list[int]] = {}
        self._inputs: list[npt.NDArray[np.float64]] = []
        self._outputs: list[npt.NDArray[np.float64]] = []
        self._waiting = 0
        self._waiting_bytes = 0
        self._counted = 0
        self._clear()

    @property
    def n(self) -> int:
        """Requests since the last window."""
        return self._counted + self._waiting

    def _clear(self) -> None:
        self._counted = 0
        self._counts = {feature.name: [0] * (len(feature.edges) + 2) for feature in self._reference.features}

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """One answered request of any number of rows."""
        taken = rows(next(iter(inputs.values())))
        self._inputs.append(taken)
        self._outputs.append(rows(next(iter(outputs.values()))))
        self._waiting += len(taken)
        self._waiting_bytes += taken.nbytes
        if self._waiting >= BUFFERED_ROWS or self._waiting_bytes >= BUFFERED_BYTES:
            self._count()

    def outside(self, inputs: Mapping[str, Array]) -> bool:
        """Does any of these rows leave the range that an input's feature had at release."""
        taken = rows(next(iter(inputs.values())))
        for feature in self._reference.features:
            if feature.source.startswith("input"):
                found = values_of(feature.source, taken, taken)
                if not bool(((found >= feature.edges[0]) & (found < feature.edges[-1])).all()):
                    return True
        return False

    def _count(self) -> None:
        if not self._waiting:
            return
        inputs, outputs = np.concatenate(self._inputs), np.concatenate(self._outputs)
        for feature in self._reference.features:
            found = count(values_of(feature.source, inputs, outputs), feature.edges)
            total = self._counts[feature.name]
            self._counts[feature.name] = [a + b for a, b in zip(total, found, strict=True)]
        self._counted += self._waiting
        self._inputs.clear()
        self._outputs.clear()
        self._waiting = self._waiting_bytes = 0

    def window(self, started: float, ended: float) -> Window:
        """What was counted since the last window, which ends with this call. started, ended: Unix seconds."""
        self._count()
        made = Window(started=started, ended=ended, n=self._counted, counts=self._counts)
        self._clear()
        return made

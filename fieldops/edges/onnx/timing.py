"""Times of a cascade, and of a fixed kernel beside it: a machine's speed is part of every figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice
from statistics import median
from time import perf_counter

import numpy as np

from fieldops.bench import Measured
from fieldops.bundles.manifest import Manifest
from fieldops.deadline import Deadline
from fieldops.edges.onnx.cascade import Cascade
from fieldops.edges.onnx.runtime import Array, Tensors, runtime_key

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
    return Measured(cold_ms=cold, samples_ms=tuple(taken), kernel_ms=median(kernel), runtime=runtime_key(cascade.provider))


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

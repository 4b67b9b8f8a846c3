"""What this machine and this build of the runtime offer."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from fieldops.edges.onnx.runtime import RUNTIME, new_session, providers
from fieldops.errors import DeviceCannot
from fieldops.fleet import Hardware

LOWEST_OPSET, MOST_OPSET = 13, 40


def hardware() -> Hardware:
    """What this machine and this build of the runtime offer; the opset is tried, not looked up."""
    return Hardware(
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        isa=_instruction_sets(),
        runtime=RUNTIME,
        providers=providers(),
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


def _highest_opset() -> int | None:
    """The newest that this runtime loads: a graph of one Identity, stamped with one after the other."""
    found = None
    for opset in range(LOWEST_OPSET, MOST_OPSET):
        try:
            new_session(_identity_graph(opset), "probe", 1)
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

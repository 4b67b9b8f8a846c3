"""Models as they run: a bundle's cascade in ONNX Runtime, its golden set, its replay, its times. onnxruntime's only importer.

    runtime    the import itself, sessions, what its faults become
    machine    what this machine and this build offer
    graph      one tier: its file, its tensors, its run
    cascade    the tiers of a version, answering as one
    joined     requests of several programs as one batch
    golden     the golden set, and the outputs recorded at release
    timing     latencies, and the calibration kernel beside them
    observer   drift counts
    runner     ports.Runner, for the laptop

Files are read once: the bytes that are hashed are the bytes that are loaded. A session has its own threads, without spinning
(two spinning threads burnt two whole cores while idle). What onnxruntime raises becomes ours here:

    file missing, other digest than the manifest's        TrustRefused missing, hash_mismatch
    graph invalid, operator unknown, other inputs         DeviceCannot model_unloadable, wrong_io
    not enough memory                                     DeviceCannot memory
    a request of the wrong shape or type                  UsageFault   bad_input
    a run that fails                                      DeviceCannot inference_failed
"""

from __future__ import annotations

from fieldops.edges.onnx.cascade import Answer, Cascade, rule_outputs
from fieldops.edges.onnx.golden import ReplayResult, evaluate_golden, record, replay
from fieldops.edges.onnx.joined import Asked, infer_joined, joins
from fieldops.edges.onnx.machine import hardware
from fieldops.edges.onnx.observer import Observer
from fieldops.edges.onnx.runner import OnnxRunner
from fieldops.edges.onnx.runtime import Array, Tensors, runtime_key
from fieldops.edges.onnx.timing import kernel_ms, latencies, made_up_inputs, measure, single_rows

__all__ = [
    "Answer",
    "Array",
    "Asked",
    "Cascade",
    "Observer",
    "OnnxRunner",
    "ReplayResult",
    "Tensors",
    "evaluate_golden",
    "hardware",
    "infer_joined",
    "joins",
    "kernel_ms",
    "latencies",
    "made_up_inputs",
    "measure",
    "record",
    "replay",
    "rule_outputs",
    "runtime_key",
    "single_rows",
]

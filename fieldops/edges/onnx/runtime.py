"""ONNX Runtime itself: its one import, how a session is made, and what its faults become here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

# ONNX Runtime 1.32 else makes a device id under ~/.cache and reports to its vendor once there is a network. Read at its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from fieldops.errors import DeviceCannot, UsageFault

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

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


RUNTIME = f"onnxruntime {onnxruntime.__version__}"


def providers() -> list[str]:
    """What this build offers, best first in its own opinion."""
    return list(onnxruntime.get_available_providers())


CPU = "CPUExecutionProvider"


def runtime_key(provider: str = CPU) -> str:
    """Under an equal key the same graph gives the same bits: runtime, provider, optimiser level, instruction sets."""
    found = np.show_config(mode="dicts")
    extensions = found.get("SIMD Extensions", {}).get("found", []) if isinstance(found, dict) else []
    isa = "+".join([platform.machine(), *extensions])
    return f"{RUNTIME} {provider} all {isa}"


def new_session(content: bytes, what: str, threads: int, provider: str = CPU) -> Any:
    """provider: the execution provider that is asked for each node first; what it does not take, the CPU's does.

    Raises DeviceCannot (provider_unusable) when it is not there, or does not start.
    """
    if provider not in providers():
        raise _unusable(provider, f"this runtime offers {', '.join(providers())}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is raised; warnings would go to stderr, over a screen or into a pipe
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        made = onnxruntime.InferenceSession(content, options, providers=list(dict.fromkeys([provider, CPU])))
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
    if provider not in made.get_providers():  # ONNX Runtime goes on with the CPU's where one does not start
        raise _unusable(provider, "it does not start here")
    return made


def _unusable(provider: str, why: str) -> DeviceCannot:
    return DeviceCannot(
        f"{provider} cannot be used: {why}",
        reason="provider_unusable",
        next_step="measure again which provider is fastest here: `fieldops bench run --tune`",
    )


_IN_THE_GRAPH = "while running"  # how ONNX Runtime tells a node's fault from a caller's, with the same code for both


def _no_memory(what: str) -> DeviceCannot:
    return DeviceCannot(
        f"not enough memory for {what}", reason="memory", next_step="use a smaller version, or free memory on the device"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _failed_run(what: str, error: Exception) -> DeviceCannot:
    return DeviceCannot(
        f"{what} failed: {_short(error)}", reason="inference_failed", next_step="go back to the last good version"
    )


@contextmanager
def running(what: str) -> Iterator[None]:
    try:
        yield
    except (ort_state.InvalidArgument, ValueError) as error:  # ValueError: an input is missing
        if _IN_THE_GRAPH in str(error):  # shapes and types were right: it is the model that cannot take them
            raise _failed_run(what, error) from error
        raise UsageFault(
            f"{what}: {_short(error)}", reason="bad_input", next_step="send tensors as the model's metadata describes them"
        ) from error
    except MemoryError as error:
        raise _no_memory(what) from error
    except _FAILED_RUN as error:
        if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
            raise _no_memory(what) from error
        raise _failed_run(what, error) from error

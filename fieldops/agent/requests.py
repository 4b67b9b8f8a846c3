"""Requests of the Open Inference Protocol as tensors, and tensors as its answers; JSON and the binary extension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fieldops.bundles.manifest import Manifest
from fieldops.decoding import decoder
from fieldops.edges.onnx import Array, Tensors
from fieldops.errors import UsageFault

_FIND = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}
TYPES = _FIND | {f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
NAMES = {dtype: name for name, dtype in TYPES.items()}


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


class InferenceRequest(Struct, frozen=True):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] = []  # none named: all
    parameters: _Parameters = _Parameters()


class _Answer(Struct, frozen=True):
    outputs: list[_Input]


def bad_input(message: str) -> UsageFault:
    return UsageFault(message, reason="bad_input", next_step="send tensors as the model's metadata describes them")


def decoded(body: bytes, json_bytes: int | None) -> tuple[InferenceRequest, bytes]:
    """(the request, the tail that holds binary tensors). json_bytes None: there is no tail."""
    size = len(body) if json_bytes is None else json_bytes
    if not 0 <= size <= len(body):
        raise bad_input(f"a header of {size} bytes in a body of {len(body)}")
    try:
        return decoder(InferenceRequest).decode(body[:size]), body[size:]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_input(f"no inference request: {error}") from error


def _array(tensor: _Input, dtype: str, tail: bytes) -> tuple[Array, bytes]:
    """The value, and what is left of the tail."""
    size = tensor.parameters.binary_data_size
    if size is not None and not 0 <= size <= len(tail):
        raise bad_input(f"{tensor.name} of {size} bytes; {len(tail)} are left")
    try:
        if size is None:
            return np.asarray(tensor.data, dtype=dtype).reshape(tensor.shape), tail
        found = np.frombuffer(tail[:size], np.dtype(dtype).newbyteorder("<")).astype(dtype)
        return found.reshape(tensor.shape), tail[size:]
    except (ValueError, TypeError, OverflowError) as error:
        raise bad_input(f"{tensor.name}: {error}") from error


def answered_tensor(answer: bytes, json_bytes: int | None, name: str) -> Array | None:
    """One output of an answer of this protocol; None: it holds none of that name."""
    size = len(answer) if json_bytes is None else json_bytes
    tail = answer[size:]
    for tensor in decoder(_Answer).decode(answer[:size]).outputs:
        value, tail = _array(tensor, TYPES[tensor.datatype], tail)
        if tensor.name == name:
            return value
    return None


def tensors(request: InferenceRequest, manifest: Manifest, tail: bytes = b"") -> Tensors:
    made: Tensors = {}
    for tensor in request.inputs:
        dtype = TYPES.get(tensor.datatype)
        if dtype is None:
            raise bad_input(f"datatype {tensor.datatype!r} of {tensor.name} is not known")
        made[tensor.name], tail = _array(tensor, dtype, tail)
    for wanted in manifest.inputs:
        got = made.get(wanted.name)
        if got is None:
            raise bad_input(f"input {wanted.name} is missing")
        if got.ndim != len(wanted.shape) or any(
            size not in (-1, have) for size, have in zip(wanted.shape, got.shape, strict=True)
        ):
            raise bad_input(f"input {wanted.name} has shape {list(got.shape)}; the model takes {wanted.shape}")
        if 0 in got.shape:
            raise bad_input(f"input {wanted.name} is empty")
    return made


def described(name: str, value: Array) -> dict[str, Any]:
    return {"name": name, "datatype": NAMES.get(str(value.dtype), "FP32"), "shape": list(value.shape)}


def named(name: str, value: Array) -> dict[str, Any]:
    return {**described(name, value), "data": value.ravel().tolist()}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, checked against the manifest. wanted: outputs by name; none named: all of them."""

    id: str
    inputs: Tensors
    wanted: dict[str, _Output]
    all_binary: bool

    @classmethod
    def of(cls, body: bytes, json_bytes: int | None, manifest: Manifest) -> Request:
        """json_bytes: of the body, where binary tensors follow. Raises UsageFault (bad_input)."""
        request, tail = decoded(body, json_bytes)
        inputs = tensors(request, manifest, tail)
        wanted = {output.name: output for output in request.outputs}
        for name in wanted.keys() - {output.name for output in manifest.outputs}:
            raise bad_input(f"there is no output {name}")
        return cls(request.id, inputs, wanted, request.parameters.binary_data_output)

    @property
    def form(self) -> tuple[Any, ...] | None:
        """Requests of an equal form can be run as one; None: this one cannot."""
        rows = {len(value) for value in self.inputs.values()}
        return tuple(sorted((name, str(v.dtype), v.shape[1:]) for name, v in self.inputs.items())) if len(rows) == 1 else None

    def answered(self, found: Tensors) -> tuple[list[dict[str, Any]], bytes]:
        """The wanted outputs as JSON, and the bytes of those that were wanted as binary."""
        told: list[dict[str, Any]] = []
        parts: list[bytes] = []
        for name, value in found.items():
            if self.wanted and name not in self.wanted:
                continue
            asked = self.wanted[name].parameters.binary_data if name in self.wanted else None
            if not (self.all_binary if asked is None else asked):
                told.append(named(name, value))
                continue
            data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
            parts.append(data)
            told.append({**described(name, value), "parameters": {"binary_data_size": len(data)}})
        return told, b"".join(parts)

    def as_json(self) -> bytes:
        """The same inputs without a binary tail: what is kept is read by people, and by the fit."""
        return msgspec.json.encode({"inputs": [named(name, value) for name, value in self.inputs.items()]})

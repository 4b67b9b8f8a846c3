"""One tier as a graph: its file with the digest that was signed, its tensors as the manifest says, its run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldops.bundles.manifest import FileEntry, Manifest, Tensor, Tier
from fieldops.drift.calibration import scaled
from fieldops.edges.onnx.runtime import Array
from fieldops.errors import DeviceCannot, TrustRefused

CONFIDENCE_OUTPUT = "confidence"  # a graph that has it spares the gate a reduction in Python


def read(folder: Path, entry: FileEntry | None, name: str) -> bytes:
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


def tensor_of(node: Any) -> Tensor:
    """The graph's own words: a symbolic dimension is -1; a type numpy does not know keeps onnxruntime's name."""
    shape = [size if isinstance(size, int) else -1 for size in node.shape]
    return Tensor(name=node.name, dtype=_ORT_TYPES.get(node.type, node.type), shape=shape)


class Graph:
    """One tier, loaded."""

    def __init__(self, session: Any, tier: Tier, manifest: Manifest) -> None:
        self.tier = tier
        found_in = {node.name: tensor_of(node) for node in session.get_inputs()}
        found_out = {node.name: tensor_of(node) for node in session.get_outputs()}
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

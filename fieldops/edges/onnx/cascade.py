"""The tiers of one version, answering as one model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from fieldops.bundles.manifest import FileEntry, Manifest, Objectives, Rule, Tier
from fieldops.edges.onnx.graph import Graph, read, tensor_of
from fieldops.edges.onnx.runtime import CPU, Array, Tensors, new_session, running
from fieldops.errors import DeviceCannot
from fieldops.tiers import Allowance, Choice, Refusal, Route, after_core

UNLIMITED = Allowance()


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


class Cascade:
    """The tiers of one version. Not for several threads at once: a worker serves one request at a time."""

    def __init__(self, manifest: Manifest, graphs: list[Graph], provider: str = CPU) -> None:
        self.manifest = manifest
        self.provider = provider
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
    def load(cls, folder: Path, manifest: Manifest, *, threads: int = 1, provider: str = CPU) -> Cascade:
        """Raises TrustRefused or DeviceCannot as the module says."""
        entries = {entry.name: entry for entry in manifest.files}
        graphs = [
            Graph(new_session(read(folder, entries.get(tier.file), tier.file), tier.file, threads, provider), tier, manifest)
            for tier in manifest.tiers[:2]
        ]
        return cls(manifest, graphs, provider)

    @classmethod
    def of_file(cls, file: Path, model: str, *, version: str = "0.0.0", threads: int = 1) -> Cascade:
        """A model nobody signed (a foreign one, or a file on the laptop): one tier, described by its own graph."""
        content = read(file.parent, None, file.name)
        session = new_session(content, file.name, threads)
        manifest = Manifest(
            v=1,
            model=model,
            task=model,
            version=version,
            counter=0,
            owner="",
            tiers=[Tier(name="core", file=file.name, variant="as found")],
            inputs=[tensor_of(node) for node in session.get_inputs()],
            outputs=[tensor_of(node) for node in session.get_outputs()],
            objectives=Objectives(p95_ms=0.0, memory_bytes=0),
            fallback=Rule(label=0, text="no rule"),
            files=[FileEntry(name=file.name, sha256=hashlib.sha256(content).hexdigest(), size=len(content))],
        )
        return cls(manifest, [Graph(session, manifest.tiers[0], manifest)])

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
        with running(self._core.tier.file):
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
        large: Graph,
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
            with running(large.tier.file):
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
                with running(graph.tier.file):
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

"""The tiers of one version, answering as one model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Self

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


@dataclass(slots=True)
class First:
    """One request after the core. core_s: seconds of the run that it was in."""

    inputs: Mapping[str, Array]
    outputs: list[Array]
    confidences: Array
    core_s: float
    lowest: float = field(init=False)  # confidence of its rows; nan where one is none

    def __post_init__(self) -> None:
        each = self.confidences
        self.lowest = float(each[0]) if len(each) == 1 else float(each.min(initial=np.inf))

    @property
    def rows(self) -> int:
        return len(self.confidences)

    def unsure(self, threshold: float | None) -> Array:
        """A flag a row; what is no number is unsure."""
        return ~(self.confidences >= threshold)

    def unsure_inputs(self, threshold: float | None) -> Mapping[str, Array]:
        unsure = self.unsure(threshold)
        return self.inputs if unsure.all() else {name: value[unsure] for name, value in self.inputs.items()}


# The best answer so far is an answer; a version whose large graph breaks is found by the golden set.
BROKEN = Choice(ask_next=False, route="core", why="unsure")


class Cascade:
    """The tiers of one version. Not for several threads at once: a worker serves one request at a time."""

    def __init__(self, manifest: Manifest, graphs: list[Graph], provider: str = CPU) -> None:
        self.manifest = manifest
        self.provider = provider
        self.core = graphs[0]
        self.large = graphs[1] if len(graphs) > 1 else None
        self._large_s: dict[int, float] = {}  # by the bits of the number of rows
        self._threshold = self.core.tier.threshold  # this device's own, where it has one

    @property
    def threshold(self) -> float | None:
        """Confidence below which the large model is asked; None: there is none."""
        return self._threshold if self.large else None

    @property
    def gate(self) -> str:
        """Where the confidence is made: in the core's graph, or after it."""
        return "graph" if self.core.gated and self.core.temperature == 1.0 else "after the graph"

    def tune(self, temperatures: Mapping[str, float], threshold: float | None) -> None:
        """Local settings over the signed ones, which {} and None bring back. temperatures: by tier, over its own output."""
        for graph in (self.core, self.large):
            if graph is not None:
                graph.temperature = temperatures.get(graph.tier.name, 1.0)
        self._threshold = self.core.tier.threshold if threshold is None else threshold

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, *, threads: int = 1, provider: str = CPU) -> Self:
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
        outputs, confidences = self.ask_core(inputs)
        core_s = perf_counter() - start
        refusal = (refusal or allowance.refusal) if allow_large else "load"
        left_s = None if deadline_s is None else deadline_s - core_s
        first = First(inputs, outputs, confidences, core_s)
        choice = self.choice(first, left_s, refusal)
        if not choice.ask_next:
            return self.settled(first, choice)
        asked = first.unsure_inputs(self.threshold)
        try:
            better, sure, large_s = self.ask_large(asked)
        except DeviceCannot:
            return self.settled(first, BROKEN)
        return self.merged(first, better, sure, large_s)

    def ask_core(self, inputs: Mapping[str, Array]) -> tuple[list[Array], Array]:
        """Outputs in the manifest's order, and the confidence of each row."""
        with running(self.core.tier.file):
            return self.core(inputs)

    def choice(self, first: First, left_s: float | None, refusal: Refusal) -> Choice:
        """What to do with the core's answer of one request. left_s: seconds until its caller no longer waits."""
        expected = None if left_s is None else self.expected_s(first.rows)
        return after_core(first.lowest, self.threshold, left_s=left_s, expected_s=expected, core_s=first.core_s, refusal=refusal)

    def expected_s(self, rows: int) -> float | None:
        """What the large model usually takes for so many; None before its first run. Other numbers of rows stand in, in proportion."""
        bits = rows.bit_length()
        if bits in self._large_s or not self._large_s:
            return self._large_s.get(bits)
        nearest = min(self._large_s, key=lambda known: abs(known - bits))
        return self._large_s[nearest] * max(1.0, 2.0 ** (bits - nearest))

    def ask_large(self, inputs: Mapping[str, Array]) -> tuple[list[Array], Array, float]:
        """Its outputs, its confidences, the seconds it took. Raises DeviceCannot, UsageFault."""
        assert self.large is not None
        start = perf_counter()
        with running(self.large.tier.file):
            better, sure = self.large(inputs)
        took = perf_counter() - start
        bits = len(sure).bit_length()
        self._large_s[bits] = 0.8 * self._large_s.get(bits, took) + 0.2 * took
        return better, sure, took

    def settled(self, first: First, choice: Choice) -> Answer:
        """The core's answer, or the rule's where it holds what is no number."""
        times: dict[str, float] = {self.core.tier.name: first.core_s * 1000}
        if not math.isfinite(first.lowest):
            return Answer("rule", rule_outputs(self.manifest, first.rows), None, times, why="not_finite")
        return Answer(choice.route, dict(zip(self.core.outputs, first.outputs, strict=True)), first.lowest, times, why=choice.why)

    def merged(self, first: First, better: list[Array], sure: Array, large_s: float) -> Answer:
        """The large model's answer for the rows it was asked, the core's for the others."""
        assert self.large is not None
        unsure = first.unsure(self.threshold)
        outputs, confidences = better, sure
        if not unsure.all():
            outputs, confidences = [np.array(old) for old in first.outputs], np.array(first.confidences)
            for whole, part in zip(outputs, better, strict=True):
                whole[unsure] = part
            confidences[unsure] = sure
        lowest = float(confidences.min())
        times: dict[str, float] = {self.core.tier.name: first.core_s * 1000, self.large.tier.name: large_s * 1000}
        if not math.isfinite(lowest):
            return Answer("rule", rule_outputs(self.manifest, first.rows), None, times, why="not_finite")
        named = dict(zip(self.large.outputs, outputs, strict=True))
        return Answer("large", named, lowest, times, escalated=int(unsure.sum()), why="unsure")

    def tier(self, name: str, inputs: Mapping[str, Array]) -> Tensors:
        """What one tier's graph says, without local settings; for replay, fits and measurements. Raises KeyError."""
        for graph in (self.core, self.large):
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

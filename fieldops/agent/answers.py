"""A loaded bundle answering: requests of the Open Inference Protocol in, one or several at a time, and their answers out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from fieldops.agent.frames import Header
from fieldops.agent.requests import Request, answered_tensor
from fieldops.bundles.manifest import Manifest
from fieldops.edges.onnx import Answer, Asked, Cascade, Observer, Tensors, infer_joined
from fieldops.errors import FieldopsError, UsageFault
from fieldops.tiers import Refusal

LOW_CONFIDENCE = 0.6  # of the whole cascade's answer


@dataclass(frozen=True, slots=True)
class Answers:
    """foreign: nobody signed it, so its version says nothing."""

    cascade: Cascade
    observer: Observer | None
    foreign: bool

    @property
    def manifest(self) -> Manifest:
        return self.cascade.manifest

    def infer(
        self, body: bytes, deadline_s: float | None, refusal: Refusal, json_bytes: int | None = None, *, keep: bool = False
    ) -> tuple[Header, bytes]:
        """One request. deadline_s: seconds from now until its caller no longer waits. Raises UsageFault, DeviceCannot."""
        start = time.perf_counter()
        request = Request.of(body, json_bytes, self.manifest)
        asked = time.perf_counter()
        answer = self.cascade.infer(request.inputs, deadline_s=deadline_s, refusal=refusal)
        return self._reply(request, answer, start, (time.perf_counter() - asked) * 1000, 1, keep=keep)

    def infer_many(self, each: list[Header], body: bytes, waited_s: float) -> list[tuple[Header, bytes] | FieldopsError]:
        """Requests that waited together: run as one where they fit together, each answered or refused for itself.

        each: `bytes` of the body that are its own, and what `infer` takes. waited_s: how long ago their deadlines were told.
        """
        start = time.perf_counter()
        found: dict[int, tuple[Header, bytes] | FieldopsError] = {}
        alike: dict[Any, list[tuple[int, Request]]] = {}
        for index, header in enumerate(each):
            mine, body = body[: header["bytes"]], body[header["bytes"] :]
            try:
                request = Request.of(mine, header.get("json_bytes"), self.manifest)
            except UsageFault as error:
                found[index] = error
                continue
            alike.setdefault(request.form or index, []).append((index, request))
        for group in alike.values():
            found |= self._together(start, group, each, waited_s)
        return [found[index] for index in range(len(each))]

    def _together(
        self, start: float, group: list[tuple[int, Request]], each: list[Header], waited_s: float
    ) -> dict[int, tuple[Header, bytes] | FieldopsError]:
        asked = [
            Asked(request.inputs, start + each[index]["deadline_s"] - waited_s, each[index].get("refusal", ""))
            for index, request in group
        ]
        begun = time.perf_counter()
        answers = infer_joined(self.cascade, asked)
        model_ms = (time.perf_counter() - begun) * 1000
        found: dict[int, tuple[Header, bytes] | FieldopsError] = {}
        for (index, request), answer in zip(group, answers, strict=True):
            keep = bool(each[index].get("keep"))
            found[index] = (
                answer
                if isinstance(answer, FieldopsError)
                else self._reply(request, answer, start, model_ms, len(group), keep=keep)
            )
        return found

    def _reply(
        self, request: Request, answer: Answer, start: float, model_ms: float, batch: int, *, keep: bool
    ) -> tuple[Header, bytes]:
        if self.observer is not None:
            self.observer.add(request.inputs, answer.outputs)
        outputs, binary = request.answered(answer.outputs)
        reply = {
            "model_name": self.manifest.model,
            "model_version": self.manifest.version,
            "id": request.id,
            "outputs": outputs,
            "parameters": {
                "route": answer.route,
                "why": answer.why,
                "version": self.manifest.version if not self.foreign else "foreign",
                "confidence": answer.confidence,
                "tier_ms": answer.tier_ms,
                "batch": batch,
                "total_ms": (time.perf_counter() - start) * 1000,
            },
        }
        said: Header = {"route": answer.route, "why": answer.why, "ms": model_ms, "confidence": answer.confidence}
        text = msgspec.json.encode(reply)
        if binary:
            said["json_bytes"] = len(text)
        return (said | self._worth_keeping(request.inputs, answer) if keep else said), text + binary

    def _worth_keeping(self, inputs: Tensors, answer: Answer) -> Header:
        """What the agent keeps a request by; nothing for one of several rows."""
        first = answer.outputs[self.manifest.outputs[0].name]
        if len(first) != 1 or first.ndim != 2:
            return {}
        strange = self.observer is not None and self.observer.outside(inputs)
        unsure = answer.confidence is not None and answer.confidence < LOW_CONFIDENCE
        reason = "out_of_range" if strange else "low_confidence" if unsure else ""
        return {"label": int(first[0].argmax()), "unusual": reason}

    def compare(
        self, body: bytes, answer: bytes, json_bytes: int | None, answer_json_bytes: int | None, refusal: Refusal
    ) -> Header:
        """What this version makes of a request beside what another answered; it counts in no window. Raises UsageFault."""
        request = Request.of(body, json_bytes, self.manifest)
        begun = time.perf_counter()
        mine = self.cascade.infer(request.inputs, refusal=refusal)
        ms = (time.perf_counter() - begun) * 1000
        name = self.manifest.outputs[0].name
        ours, theirs = mine.outputs[name], answered_tensor(answer, answer_json_bytes, name)
        if mine.route == "rule" or theirs is None or theirs.shape != ours.shape:
            return {"ms": ms, "rows": 0, "agreed": 0, "worst": None}
        tops = [value.reshape(len(value), -1).argmax(axis=1) for value in (ours, theirs)]
        worst = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
        agreed = int((tops[0] == tops[1]).sum())
        return {"ms": ms, "rows": len(ours), "agreed": agreed, "worst": worst if np.isfinite(worst) else None}

    def as_json(self, body: bytes, json_bytes: int) -> bytes:
        """A request with binary tensors as one without. Raises UsageFault."""
        return Request.of(body, json_bytes, self.manifest).as_json()

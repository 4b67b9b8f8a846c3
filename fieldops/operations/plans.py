"""A plan for one device and its way through the gate: what sideload, rollback and the care of models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fieldops.deadline import Deadline
from fieldops.errors import UsageFault
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device, OnProgress, Payload
from fieldops.steps import Step, describe
from fieldops.wire import SlotStatus, StepRecord


@dataclass(frozen=True, slots=True)
class Planned:
    """A step and the means it needs; payload None: none."""

    step: Step
    payload: Payload | None = None

    def __str__(self) -> str:
        return describe(self.step)


class ChangePlan(Protocol):
    """from_version, to_version: what answers before and after; None: nothing."""

    @property
    def device(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def from_version(self) -> str | None: ...
    @property
    def to_version(self) -> str | None: ...
    @property
    def steps(self) -> Sequence[Planned]:
        """None: the device is as wanted already."""

    @property
    def warnings(self) -> Sequence[str]: ...


def in_words(gate: Gate, plan: ChangePlan) -> list[str]:
    """Each step, with what this laptop's policy would say to it."""
    lines = []
    for each in plan.steps:
        decision = gate.decide(each.step)
        lines.append(f"{each}{'' if decision.allowed else f'  [refused: {decision.text}]'}")
    return lines


def note_dry_run(gate: Gate, device: Device, plan: ChangePlan, *, words: Words = Words()) -> None:
    """The record says that somebody looked. Nothing is sent."""
    for each in plan.steps:
        gate.dry_run(device, each.step, words=words)


def run(
    gate: Gate,
    device: Device,
    plan: ChangePlan,
    deadline: Deadline,
    *,
    words: Words = Words(),
    progress: OnProgress | None = None,
) -> tuple[StepRecord, ...]:
    """Each step through the gate, in order. The first that fails ends it; the device has then kept or restored the old model."""
    return tuple(
        gate.perform(device, each.step, deadline, payload=each.payload, words=words, progress=progress) for each in plan.steps
    )


def slot_of(device: Device, model: str, deadline: Deadline) -> SlotStatus:
    """Raises UsageFault (unknown_model) that names those which are there."""
    slots = {slot.model: slot for slot in device.models(deadline).slots}
    if model not in slots:
        raise UsageFault(
            f"no model {model!r}",
            reason="unknown_model",
            next_step=f"models on it: {', '.join(sorted(slots)) or 'none'}",
            device=device.entry.name,
        )
    return slots[model]

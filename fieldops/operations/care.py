"""Look after a model that is on a device already: one step that changes no version that answers."""

from __future__ import annotations

from dataclasses import dataclass

from fieldops.deadline import Deadline
from fieldops.operations.plans import Planned, slot_of
from fieldops.ports import Device
from fieldops.steps import Care


@dataclass(frozen=True, slots=True)
class CarePlan:
    """answering: the version before and after; None: the rule only."""

    device: str
    answering: str | None
    step: Care
    warnings: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.step.model

    @property
    def from_version(self) -> str | None:
        return self.answering

    to_version = from_version

    @property
    def steps(self) -> tuple[Planned, ...]:
        return (Planned(self.step),)


def plan(device: Device, step: Care, deadline: Deadline) -> CarePlan:
    """Raises UsageFault when the model is not on the device."""
    return CarePlan(device.entry.name, slot_of(device, step.model, deadline).active, step)

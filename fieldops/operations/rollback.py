"""Go back: to last-good, which is always allowed and needs no approval, or to a version that the device still lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldops.bundles.approvals import Matter, encode_statement, statement_of
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.operations.evidence import collect
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device, OnProgress
from fieldops.steps import Approval, Revert
from fieldops.wire import SlotStatus, StepRecord


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """to_version: the version that will answer afterwards."""

    device: str
    model: str
    from_version: str | None
    to_version: str
    step: Revert


def plan(
    device: Device, model: str, deadline: Deadline, *, to: str | None = None, approvals: Sequence[Approval] = ()
) -> RollbackPlan:
    """Raises UsageFault for a model or version that is not there, DeviceCannot when there is nothing to go back to.

    approvals: for a version below the device's floor; the device judges them itself.
    """
    slots = {slot.model: slot for slot in device.models(deadline).slots}
    slot = slots.get(model)
    if slot is None:
        raise UsageFault(
            f"no model {model!r}",
            reason="unknown_model",
            next_step=f"models on it: {', '.join(sorted(slots)) or 'none'}",
            device=device.entry.name,
        )
    target = _target(slot, to, device.entry.name)
    answering = slot.candidate if slot.state == "trial" else slot.active
    return RollbackPlan(device.entry.name, model, answering, target, Revert(model=model, to=to, approvals=list(approvals)))


def statement(device: Device, model: str, version: str, deadline: Deadline, *, until: float, reason: str = "") -> str:
    """The text that an approver signs so that this device may go back below its floor. Raises UsageFault."""
    slots = {slot.model: slot for slot in device.models(deadline).slots}
    known = {each.version: each for each in slots[model].versions} if model in slots else {}
    if version not in known:
        raise UsageFault(
            f"{model} {version} is not on the device",
            reason="unknown_version",
            next_step=f"use one of: {', '.join(sorted(known)) or 'none'}; or sideload it",
            device=device.entry.name,
        )
    matter = Matter("below_floor", model, version, known[version].manifest_sha256, (device.entry.id or "",))
    return encode_statement(statement_of(matter, until, reason))


def run(
    gate: Gate,
    device: Device,
    planned: RollbackPlan,
    deadline: Deadline,
    *,
    words: Words = Words(),
    progress: OnProgress | None = None,
) -> StepRecord:
    collect(gate.journal, device, str(gate.technician.actor()), deadline)
    return gate.perform(device, planned.step, deadline, words=words, progress=progress)


def _target(slot: SlotStatus, to: str | None, device: str) -> str:
    if to is not None:
        listed = {each.version for each in slot.versions if each.role != "quarantined"}
        if to not in listed:
            raise UsageFault(
                f"{slot.model} {to} is not on the device",
                reason="unknown_version",
                next_step=f"use one of: {', '.join(sorted(listed)) or 'none'}; or sideload it",
                device=device,
            )
        return to
    back = slot.active if slot.state in {"trial", "validating"} else slot.last_good
    if back is None:
        raise DeviceCannot(
            f"{slot.model} has no last-good version",
            reason="no_last_good",
            next_step="sideload a signed version instead",
            device=device,
        )
    return back

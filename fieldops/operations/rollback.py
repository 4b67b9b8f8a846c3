"""Go back: to last-good, which is always allowed and needs no approval, or to a version that the device still lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldops.bundles.approvals import Matter, encode_statement, statement_of
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.operations import plans
from fieldops.operations.gate import Gate, Words
from fieldops.operations.plans import Planned, slot_of
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
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Planned, ...]:
        return (Planned(self.step),)


def plan(
    device: Device, model: str, deadline: Deadline, *, to: str | None = None, approvals: Sequence[Approval] = ()
) -> RollbackPlan:
    """Raises UsageFault for a model or version that is not there, DeviceCannot when there is nothing to go back to.

    approvals: for a version below the device's floor; the device judges them itself.
    """
    slot = slot_of(device, model, deadline)
    target = _target(slot, to, device.entry.name)
    answering = slot.candidate if slot.state == "trial" else slot.active
    warnings = (
        (f"{target} answers already; going back to it checks it once more and changes nothing else",)
        if answering == target
        else ()
    )
    step = Revert(model=model, to=to, approvals=list(approvals))
    return RollbackPlan(device.entry.name, model, answering, target, step, warnings)


def statement(device: Device, model: str, version: str, deadline: Deadline, *, until: float, reason: str = "") -> str:
    """The text that an approver signs so that this device may go back below its floor. Raises UsageFault."""
    known = {each.version: each for each in slot_of(device, model, deadline).versions}
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
    (record,) = plans.run(gate, device, planned, deadline, words=words, progress=progress)
    return record


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

"""How a step's record ends, and what of it can be told at any moment."""

from __future__ import annotations

from msgspec.structs import replace

from fieldops.errors import DeviceCannot, FieldopsError, NeedsPerson, PolicyRefused, StorageFault, TrustRefused
from fieldops.wire import StepRecord, StepState


def of_device(error: FieldopsError) -> FieldopsError:
    """As the laptop must read it: exit 8 is the laptop's own storage, and this disk is the device's."""
    if isinstance(error, StorageFault):
        return DeviceCannot(error.message, reason=error.reason, next_step=error.next_step)
    return error


def done(record: StepRecord, now: float, *, message: str = "", **more: object) -> StepRecord:
    return replace(record, state="done", phase="", message=message, finished=now, wanted=[], **more)


def ended(record: StepRecord, error: FieldopsError, now: float, **more: object) -> StepRecord:
    """The record of a step that this error ended."""
    error = of_device(error)
    state: StepState
    match error:
        case TrustRefused() | PolicyRefused():
            state = "refused"
        case NeedsPerson():
            state = "needs_human"
        case _:
            state = "failed"
    return replace(
        record,
        state=state,
        exit=error.exit_code,
        reason=error.reason,
        message=error.message,
        next=error.next_step,
        finished=now,
        wanted=[],
        **more,
    )

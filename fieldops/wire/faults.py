"""A fault as a document, and back."""

from __future__ import annotations

from fieldops.errors import FieldopsError, from_parts, next_step_of
from fieldops.wire.changing import StepRecord
from fieldops.wire.messages import Message


class ErrorDoc(Message, frozen=True, kw_only=True):
    """`fieldops.error/v1`: every error of CLI, agent and store."""

    schema: str = "fieldops.error/v1"
    exit: int
    reason: str
    message: str
    next: str
    device: str | None = None


def error_doc(error: FieldopsError) -> ErrorDoc:
    return ErrorDoc(
        exit=error.exit_code, reason=error.reason, message=error.message, next=next_step_of(error), device=error.device
    )


def error_of(doc: ErrorDoc, device: str | None = None) -> FieldopsError:
    return from_parts(exit_code=doc.exit, reason=doc.reason, message=doc.message, next_step=doc.next, device=doc.device or device)


def step_error(record: StepRecord, device: str) -> FieldopsError | None:
    """The error a finished step stands for; None when it is done."""
    if record.state == "done":
        return None
    return from_parts(exit_code=record.exit, reason=record.reason, message=record.message, next_step=record.next, device=device)

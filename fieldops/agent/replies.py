"""HTTP around our values: bodies within their limits in, JSON and ErrorDocs out, each reason with its status."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fieldops.agent.records import of_device
from fieldops.errors import (
    CheckFailed,
    DeviceCannot,
    FieldopsError,
    LinkFault,
    MalformedReply,
    PolicyRefused,
    TrustRefused,
    UsageFault,
)
from fieldops.wire import encode, error_doc

_BY_REASON = {
    "oversized": 413,
    "too_long": 413,
    "unknown_step": 404,
    "unknown_model": 404,
    "not_found": 404,
    "disk_full": 507,
    "malformed_reply": 400,
    "not_ready": 503,
    "bug": 500,
}


def status_of(error: FieldopsError) -> int:
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    match error:
        case UsageFault() | MalformedReply():
            # A signature that does not verify proves nobody: the answer is the stranger's.
            return 401 if error.reason == "bad_signature" else 400
        case LinkFault():
            return 401
        case PolicyRefused() | TrustRefused():
            return 403
        case CheckFailed() | DeviceCannot():
            return 409
        case _:
            return 500


def reply(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def error_reply(_: Request, error: Exception) -> Response:
    """Starlette's handler for FieldopsError."""
    assert isinstance(error, FieldopsError)
    told = of_device(error)
    return reply(error_doc(told), status_of(told))


async def body_within(request: Request, limit: int, what: str) -> bytes:
    """Raises UsageFault (oversized) before more than `limit` bytes are in memory."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise UsageFault(f"{what} of more than {limit} bytes", reason="oversized", next_step="send less at once")
        parts.append(chunk)
    return b"".join(parts)


def number(request: Request, name: str, default: float) -> float:
    """A query's number >= 0. Raises UsageFault."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise UsageFault(f"{name}={text[:40]!r}", reason="bad_query", next_step="give a number of 0 or more")
    return value

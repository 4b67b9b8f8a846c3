"""Bytes to a message and back, each judged once."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeVar

import msgspec

from fieldops.decoding import decoder
from fieldops.errors import MalformedReply, UsageFault
from fieldops.wire.messages import MESSAGE_LIMIT

T = TypeVar("T")


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def decode(data: bytes, kind: type[T], *, sender: str, limit: int = MESSAGE_LIMIT) -> T:
    """One message. Raises MalformedReply that names the sender and the field."""
    next_step = "check that both sides run compatible versions of fieldops (`fieldops device show`)"
    if len(data) > limit:
        raise MalformedReply(f"{kind.__name__} of {len(data)} bytes from {sender}; the limit is {limit}", next_step=next_step)
    try:
        return decoder(kind).decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedReply(f"no {kind.__name__} from {sender}: {error}", next_step=next_step) from error


def refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """object_pairs_hook for signed or hand-written JSON: msgspec and json keep the last of two equal keys silently."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"duplicate key {key!r}")
        seen[key] = value
    return seen


def decode_signed(data: bytes, kind: type[T], *, what: str, limit: int) -> T:
    """Like decode, for bytes a signature covers: duplicate keys are refused as well. Raises UsageFault."""
    if len(data) > limit:
        raise UsageFault(
            f"{what} of {len(data)} bytes; the limit is {limit}", reason="oversized", next_step="ask for a smaller one"
        )
    try:
        json.loads(data, object_pairs_hook=refuse_duplicate_keys)
        return decoder(kind).decode(data)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise UsageFault(f"{what}: {error}", reason="malformed", next_step="get an intact copy") from error


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    """Raises ValueError (binascii.Error is one) on anything that is no canonical base64."""
    return base64.b64decode(text, validate=True)

"""Messages between the agent and a worker: a 4-byte length, a JSON header, and raw bytes whose size the header names.

The agent never looks into the bytes: a request's tensors pass through it unparsed, so it needs no numpy.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, BinaryIO

import msgspec

from fieldops.decoding import decoder

HEADER_LIMIT = 8 << 20
BODY_LIMIT = 64 << 20
_LENGTH = struct.Struct(">I")

Header = dict[str, Any]


class PipeBroken(Exception):
    """The other side is gone, or does not speak frames."""


def pack(header: Header, body: bytes = b"") -> bytes:
    text = msgspec.json.encode({**header, "body": len(body)})
    return _LENGTH.pack(len(text)) + text + body


def _header(text: bytes) -> tuple[Header, int]:
    try:
        header = decoder(Header).decode(text)
        size = header["body"]
    except (msgspec.DecodeError, KeyError) as error:
        raise PipeBroken("no frame") from error
    if not isinstance(size, int) or not 0 <= size <= BODY_LIMIT:
        raise PipeBroken("no body size")
    return header, size


def read(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """The worker's side; None at the end of the stream."""
    start = stream.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(start)
    if length > HEADER_LIMIT:
        raise PipeBroken("header too long")
    header, size = _header(stream.read(length))
    return header, stream.read(size)


async def receive(stream: asyncio.StreamReader) -> tuple[Header, bytes]:
    """The agent's side. Raises PipeBroken."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > HEADER_LIMIT:
            raise PipeBroken("header too long")
        header, size = _header(await stream.readexactly(length))
        return header, await stream.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise PipeBroken("the worker is gone") from error

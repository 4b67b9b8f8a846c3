"""The byte stream under a connection: a socket, or a channel of a jump host's connection.

It remembers when it last heard anything, which is the one sign of life that an upload cannot delay.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from paramiko.channel import Channel


class Heard(Protocol):
    """What paramiko.Transport uses of a socket, and heard_at."""

    heard_at: float

    def settimeout(self, seconds: float | None, /) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None:
        """Close it now; bytes for a dead peer are not worth waiting for."""


_AHEAD = 128 << 10


class HeardSocket(socket.socket):
    """Reads ahead: paramiko asks for 16 bytes and then for the rest of each packet, which would be two system calls."""

    monotonic: Callable[[], float]
    heard_at: float
    _ahead: memoryview
    _held: int  # bytes of it that were received
    _given: int

    @classmethod
    def over(cls, sock: socket.socket, monotonic: Callable[[], float]) -> HeardSocket:
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.monotonic = monotonic
        made.heard_at = monotonic()
        made._ahead, made._held, made._given = memoryview(bytearray(_AHEAD)), 0, 0
        return made

    def recv(self, bufsize: int, _flags: int = 0, /) -> bytes:
        if self._given == self._held:
            self._held, self._given = self.recv_into(self._ahead), 0
            if self._held:
                self.heard_at = self.monotonic()
        data = bytes(self._ahead[self._given : min(self._given + bufsize, self._held)])
        self._given += len(data)
        return data

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.shutdown(socket.SHUT_RDWR)


class HeardChannel:
    """A channel of a jump host's connection, as a socket."""

    def __init__(self, channel: Channel, monotonic: Callable[[], float]) -> None:
        self._channel: Any = channel
        self._monotonic = monotonic
        self.heard_at = monotonic()

    def recv(self, bufsize: int) -> bytes:
        data: bytes = self._channel.recv(bufsize)
        if data:
            self.heard_at = self._monotonic()
        return data

    def send(self, data: bytes) -> int:
        return int(self._channel.send(data))

    def settimeout(self, seconds: float | None, /) -> None:
        self._channel.settimeout(seconds)

    def getpeername(self) -> Any:
        return self._channel.getpeername()

    @property
    def closed(self) -> bool:
        return bool(self._channel.closed)

    @property
    def _closed(self) -> bool:
        """What paramiko looks at to tell whether a socket may still be read."""
        return bool(self._channel.closed)

    def close(self) -> None:
        self._channel.close()

    def abort(self) -> None:
        self._channel.close()

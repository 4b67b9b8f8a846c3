"""One command on a channel: both its outputs drained together, its input fed as the device takes it, all within a deadline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from paramiko.channel import Channel

from fieldops.edges import dial
from fieldops.edges.ssh.channels import BROKEN, received

SLICE = 32_704  # what fits one packet of sshd's 32 KiB; larger writes copy their tail again and again
OUTPUT_LIMIT = 8 << 20  # of each of stdout and stderr; the rest is read and dropped


@dataclass(frozen=True, slots=True)
class Result:
    """rc None: the command ended without a status (killed by a signal)."""

    rc: int | None
    out: bytes
    err: bytes
    truncated: bool = False


class Bell(threading.Event):
    """Rung by either of a channel's buffers. Only its listener clears it: a buffer's clear would lose the other's ring."""

    @classmethod
    def on(cls, channel: Channel) -> Bell:
        bell = cls()
        channel.in_buffer.set_event(bell)
        channel.in_stderr_buffer.set_event(bell)
        return bell

    def clear(self) -> None:
        return

    def hush(self) -> None:
        super().clear()


class Bounded:
    """The first OUTPUT_LIMIT bytes of what is added."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = OUTPUT_LIMIT
        self.truncated = False

    def add(self, data: bytes) -> None:
        self.truncated = self.truncated or len(data) > self._room
        if kept := data[: self._room]:
            self._parts.append(kept)
            self._room -= len(kept)

    def data(self) -> bytes:
        return b"".join(self._parts)

    def last_line(self) -> str:
        """For a person: the last line, without control characters."""
        lines = self.data().decode("utf-8", "replace").strip().splitlines()
        return "".join(char for char in lines[-1] if char.isprintable())[:200] if lines else ""


class Ear(Protocol):
    """Hears what a command says on stderr and may answer on its stdin (a password); what it returns is kept as stderr."""

    def hear(self, data: bytes) -> tuple[bytes, bytes]:
        """-> (what to keep, what to send)."""

    @property
    def ready(self) -> bool:
        """The command itself has begun, so that its own input may be sent."""


class Talk:
    """A command's whole life after it was accepted."""

    def __init__(
        self,
        channel: Channel,
        left: Callable[[], float],
        *,
        stdin: bytes = b"",
        eof: bool = False,
        ear: Ear | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self._channel = channel
        self._left = left
        self._bell = Bell.on(channel)
        self._out, self._err = Bounded(), Bounded()
        self._answer = memoryview(b"")
        self._waiting = memoryview(stdin)
        self._eof = eof
        self._ear = ear
        self._on_output = on_output
        self._send: Callable[[memoryview], int] = channel.send  # type: ignore[assignment]  # the stubs know bytes only

    def result(self) -> Result:
        channel = self._channel
        while True:
            self._bell.hush()
            closed = channel.closed  # before the drain: what came before the close is then surely in the buffers
            self._drain()
            if closed:
                break
            if not self._feed():
                self._bell.wait(min(0.02 if self._waiting or self._answer else dial.STEP_S, self._left()))
        rc = channel.exit_status if channel.exit_status >= 0 else None
        return Result(rc, self._out.data(), self._err.data(), self._out.truncated or self._err.truncated)

    def _drain(self) -> None:
        while self._channel.recv_ready():
            data = received(self._channel.recv, 1 << 16)
            self._out.add(data)
            if self._on_output is not None:
                self._on_output(data)
        while self._channel.recv_stderr_ready():
            data = received(self._channel.recv_stderr, 1 << 16)
            if self._ear is not None:
                data, answer = self._ear.hear(data)
                if answer:
                    self._answer = memoryview(bytes(self._answer) + answer)
            self._err.add(data)

    def _feed(self) -> bool:
        """Send a little of what waits; False when nothing could be done."""
        if self._answer:
            self._answer, fed = self._some(self._answer)
            return fed
        if self._ear is not None and not self._ear.ready:
            return False
        if self._waiting:
            self._waiting, fed = self._some(self._waiting)
            return fed
        if self._eof:
            self._eof = False
            with contextlib.suppress(*BROKEN):  # its end is seen at the next look
                self._channel.shutdown_write()
            return True
        return False

    def _some(self, data: memoryview) -> tuple[memoryview, bool]:
        """What is left of the data after one packet, and whether any could be sent."""
        if not self._channel.send_ready():
            return data, False
        try:
            return data[self._send(data[:SLICE]) :], True
        except BROKEN:  # it was closed just now: the next look at it says so
            return memoryview(b""), True

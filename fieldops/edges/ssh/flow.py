"""What an upload's bytes go through: a command's stdin, watched for what it says and for how much is under way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.ssh.channels import BROKEN, Connection, received
from fieldops.edges.ssh.commands import SLICE, Bell, Bounded

_PATIENCE = 3  # steps without a word before more is put under way
_BURST = 8  # slices between two looks at the clock and at what the command says


class Flow:
    """Bytes to a command that reads them all, never more under way than a cut may cost."""

    def __init__(self, link: Connection, channel: Channel, in_flight: int, deadline: Deadline) -> None:
        self._link = link
        self._channel: Any = channel
        self._deadline = deadline
        self._bell = Bell.on(channel)
        self._said = Bounded()
        self._window: int = self._channel.out_window_size
        self._in_flight = in_flight
        self._waits = 0
        self._push: Callable[[memoryview], int] = channel.send  # type: ignore[assignment]  # the stubs know bytes only
        channel.settimeout(dial.STEP_S)

    def send(self, data: bytes) -> bool:
        """False: it spoke or ended before all was sent, so nothing of the rest is wanted."""
        rest = memoryview(data)
        while rest:
            left = self._left()
            if self._interrupted():
                return False
            if self._full():
                self._wait_for_room(left)
                continue
            try:
                for _ in range(_BURST):
                    rest = rest[self._push(rest[:SLICE]) :]
                    if not rest or self._full():
                        break
            except TimeoutError:
                continue
            except BROKEN as error:
                self._link.check_whole(self._channel)
                if isinstance(error, OSError):  # only the channel was closed
                    return False
                raise self._link.gone(error) from error
        return True

    def _full(self) -> bool:
        window: int = self._channel.out_window_size
        self._window = max(self._window, window)
        return self._window - window >= self._in_flight

    def _wait_for_room(self, left: float) -> None:
        """A moment, or until the device has taken some."""
        window: int = self._channel.out_window_size
        with self._channel.lock:
            if self._channel.out_window_size == window:
                self._channel.out_buffer_cv.wait(min(dial.STEP_S, left))
            self._waits = self._waits + 1 if self._channel.out_window_size == window else 0
        if self._waits >= _PATIENCE:  # this server says only at half its window what it has read
            self._waits, self._in_flight = 0, 2 * self._in_flight

    def _interrupted(self) -> bool:
        if self._channel.recv_stderr_ready() or self._channel.recv_ready():
            self._drain()
        return bool(self._said.data()) or self._channel.closed

    def end(self) -> bytes:
        """EOF, and what it said on stderr."""
        if not self._channel.closed:
            with contextlib.suppress(*BROKEN):
                self._channel.shutdown_write()
        while True:
            self._bell.hush()
            closed = self._channel.closed
            self._drain()
            if closed:
                break
            self._bell.wait(min(dial.STEP_S, self._left()))
        self._link.check_whole(self._channel)
        return self._said.data()

    def _drain(self) -> None:
        while self._channel.recv_ready():
            received(self._channel.recv, 1 << 16)
        while self._channel.recv_stderr_ready():
            self._said.add(received(self._channel.recv_stderr, 1 << 16))

    def _left(self) -> float:
        return self._link.left(self._deadline, "the upload")

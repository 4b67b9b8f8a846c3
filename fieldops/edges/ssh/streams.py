"""httpcore over a channel of an SSH connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpcore
from paramiko.channel import Channel

from fieldops.edges.pipe import FixedBackend
from fieldops.edges.ssh.channels import BROKEN, SILENCE_S, hang_up
from fieldops.edges.ssh.commands import SLICE, Bounded

if TYPE_CHECKING:
    from fieldops.edges.ssh.link import SshLink


class SocketBackend(FixedBackend):
    def __init__(self, link: SshLink, socket_path: str, program: str) -> None:
        self._link, self._path, self._program = link, socket_path, program

    def open(self, timeout: float | None) -> httpcore.NetworkStream:
        return self._link.open_stream(self._path, self._program, timeout or SILENCE_S)


class ChannelStream(httpcore.NetworkStream):
    def __init__(self, channel: Channel, link: SshLink) -> None:
        self._channel, self._link = channel, link

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except BROKEN as error:
            raise httpcore.ReadError(str(error)) from error
        if not data and not self._link.alive:
            raise httpcore.ReadError("the SSH connection ended")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._channel.settimeout(timeout)
        rest = memoryview(buffer)
        send: Callable[[memoryview], int] = self._channel.send  # type: ignore[assignment]  # the stubs know bytes only
        try:
            while rest:
                sent = send(rest[:SLICE])
                if sent == 0:
                    raise httpcore.WriteError("the channel was closed")
                rest = rest[sent:]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except BROKEN as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        hang_up(self._channel)

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # httpcore asks before it reuses a connection: readable while idle means it was closed
            return self._channel.recv_ready() or self._channel.closed or self._channel.eof_received or not self._link.alive
        return None


class BridgeStream(ChannelStream):
    """Through `fieldops-agent stdio`. Its complaints are read along: unread they would fill the window."""

    def __init__(self, channel: Channel, link: SshLink, socket_path: str) -> None:
        super().__init__(channel, link)
        self._path = socket_path
        self._said = Bounded()
        self._works = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = super().read(max_bytes, timeout)
        while self._channel.recv_stderr_ready():
            self._said.add(self._channel.recv_stderr(1 << 16))
        if data and not self._works:
            self._works = True
            self._link.bridged()
        if not data and not self._works:
            why = self._said.last_line() or "its bridge ended"
            raise self._link.no_agent(self._path, why)
        return data

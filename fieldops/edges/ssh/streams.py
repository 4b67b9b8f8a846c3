"""httpcore over a channel of an SSH connection."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import httpcore
from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges.pipe import FixedBackend
from fieldops.edges.ssh.channels import BROKEN, SILENCE_S, Connection, Refused, hang_up
from fieldops.edges.ssh.commands import SLICE, Bounded
from fieldops.errors import Unreachable


class SocketBackend(FixedBackend):
    """To a unix socket on the device: by a forwarded channel, else through the agent's stdio bridge."""

    def __init__(self, connection: Connection, socket_path: str, program: str) -> None:
        self._connection, self._path, self._program = connection, socket_path, program
        self._forwarding = True

    def open(self, timeout: float | None) -> httpcore.NetworkStream:
        """Sshd says "connect failed" as well where it forbids forwarding, so only the bridge's own end tells the two apart."""
        deadline = Deadline.after(timeout or SILENCE_S, self._connection.monotonic)
        if self._forwarding:
            try:
                channel = self._connection.open("direct-streamlocal@openssh.com", (self._path, "", 0), deadline)
                return ChannelStream(channel, self._connection)
            except Refused as refused:
                if not self._program:
                    raise self.no_agent(refused.message) from refused
        channel = self._connection.execute(f"{self._program} stdio --socket {shlex.quote(self._path)}", deadline)
        return BridgeStream(channel, self._connection, self)

    def bridged(self) -> None:
        """The bridge works where forwarding was refused: use it from now on without asking again."""
        self._forwarding = False

    def no_agent(self, why: str) -> Unreachable:
        # the bridge's own words name the socket and a next step as well
        reason = why.partition(". Next: ")[0].removeprefix(f"{self._path}: ")
        told = reason.lower()
        if "refused" in told or "no such file" in told:
            message, step = "its agent does not run", "start it at the device; `fieldops-agent status` there says how it is"
        elif "permission" in told:
            message, step = "this login may not use its agent", "log in as the user the agent runs as, or one of its group"
        else:
            message = "its agent cannot be reached over SSH"
            step = "let sshd allow `AllowStreamLocalForwarding`, or put fieldops-agent into the PATH of this login"
        return Unreachable(f"{message} ({self._path}: {reason})", phase="open", next_step=step, device=self._connection.device)


class ChannelStream(httpcore.NetworkStream):
    def __init__(self, channel: Channel, connection: Connection) -> None:
        self._channel, self._connection = channel, connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except BROKEN as error:
            raise httpcore.ReadError(str(error)) from error
        if not data and not self._connection.alive:
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
            return self._channel.recv_ready() or self._channel.closed or self._channel.eof_received or not self._connection.alive
        return None


class BridgeStream(ChannelStream):
    """Through `fieldops-agent stdio`. Its complaints are read along: unread they would fill the window."""

    def __init__(self, channel: Channel, connection: Connection, backend: SocketBackend) -> None:
        super().__init__(channel, connection)
        self._backend = backend
        self._said = Bounded()
        self._works = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = super().read(max_bytes, timeout)
        while self._channel.recv_stderr_ready():
            self._said.add(self._channel.recv_stderr(1 << 16))
        if data and not self._works:
            self._works = True
            self._backend.bridged()
        if not data and not self._works:
            why = self._said.last_line() or "its bridge ended"
            raise self._backend.no_agent(why)
        return data

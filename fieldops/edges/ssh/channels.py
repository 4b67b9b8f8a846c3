"""One SSH connection: its channels, its watchdog, and what all who wait are told at its end."""

# ruff: noqa: SLF001 - paramiko has no public call for unix-socket channels nor for a request with a time limit
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, cast

import paramiko
from paramiko.channel import Channel
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.ssh.sockets import Heard
from fieldops.errors import FieldopsError, LinkFault, LinkLost

PING_S = 2.5  # silence after which the other side is asked for a sign of life
SILENCE_S = 7.5  # silence after which the link is dead: stalls of 5 s pass, a cut is noticed within 10 s
_TICK_S = 0.5
_LAST_S = 0.3

_FORBIDDEN, _CONNECT_FAILED, _UNKNOWN_KIND = 1, 2, 3  # reasons of SSH_MSG_CHANNEL_OPEN_FAILURE (RFC 4254 §5.1)


BROKEN = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises when the connection ends under a call."""


def hang_up(channel: Channel) -> None:
    with contextlib.suppress(*BROKEN):
        channel.close()


def received(read: Callable[[int], bytes], size: int) -> bytes:
    """Reading also sends (it opens the window), so it breaks where the connection does: then nothing was received."""
    try:
        return read(size)
    except TimeoutError:
        raise
    except BROKEN:
        return b""


class Refused(LinkFault):
    """The other side said no to a channel; code as in RFC 4254."""

    def __init__(self, code: int, device: str) -> None:
        words = {_FORBIDDEN: "forbidden by the server", _UNKNOWN_KIND: "the server does not know this kind of channel"}
        super().__init__(
            words.get(code, "nothing answers there, or this login may not use it"),
            reason="channel_refused",
            next_step="check the SSH server's settings for this login",
            device=device,
        )
        self.code = code


class Connection:
    """Safe for several threads. Ends by close(), or by the watchdog when the other side is gone.

    round_trip_s: the least that a question to the other side has taken.
    """

    def __init__(self, transport: paramiko.Transport, sock: Heard, device: str, monotonic: Callable[[], float]) -> None:
        self.device = device
        self.monotonic = monotonic
        self._transport = transport
        self._sock = sock
        self.round_trip_s = float("inf")
        self._ending = threading.Event()
        self._lost = ""
        self._watchdog = threading.Thread(target=self._watch, name=f"fieldops-watch-{device}", daemon=True)
        self._watchdog.start()

    @property
    def alive(self) -> bool:
        return not self._ending.is_set() and self._transport.is_active()

    def is_alive(self) -> bool:
        return self.alive

    def close(self) -> None:
        """May be called twice and from any thread."""
        self._ending.set()
        self._transport.close()
        self._sock.close()

    # --- channels

    def open(self, kind: str, more: tuple[str | int, ...], deadline: Deadline, *, window: int | None = None) -> Channel:
        """What paramiko's open_channel does, for kinds it does not know and with our limit. Private names: version pinned."""
        transport: Any = self._transport
        if not self.alive:
            raise self.gone(None)
        with transport.lock:
            number = transport._next_channel()
            window, packet = transport._sanitize_window_size(window), transport._sanitize_packet_size(None)
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_OPEN)
            message.add_string(kind)
            for part in (number, window, packet, *more):
                message.add_int(part) if isinstance(part, int) else message.add_string(part)
            channel: Any = Channel(number)
            transport._channels.put(number, channel)
            transport.channel_events[number] = opened = threading.Event()
            transport.channels_seen[number] = True
            channel._set_transport(transport)
            channel._set_window(window, packet)
        asked = self.monotonic()
        self.send(message)
        try:
            while not opened.wait(min(dial.STEP_S, self._connecting(deadline))):
                pass
        except FieldopsError:
            transport._channels.delete(number)
            raise
        self.round_trip_s = min(self.round_trip_s, self.monotonic() - asked)
        if not self.alive:
            raise self.gone(None)
        if transport._channels.get(number) is None:
            error = transport.get_exception()
            code = error.code if isinstance(error, paramiko.ChannelException) else _CONNECT_FAILED
            raise Refused(code, self.device)
        opened_channel: Channel = channel
        return opened_channel

    def send(self, message: paramiko.Message) -> None:
        try:
            cast("Any", self._transport)._send_user_message(message)
        except BROKEN as error:
            raise self.gone(error) from error

    def _connecting(self, deadline: Deadline) -> float:
        if not self.alive:
            raise self.gone(None)
        return dial.left(deadline, "open", self.device, self.device)

    def left(self, deadline: Deadline, phase: str) -> float:
        if not self.alive:
            raise self.gone(None)
        return deadline.check(phase, self.device)

    def check_whole(self, channel: Channel) -> None:
        """An output is whole only when the connection outlived it. Raises LinkLost."""
        if channel.exit_status < 0:
            # its channels end a moment before a connection says that it is over; a killed command has no status either
            self._transport.join(_LAST_S)
        if not self.alive:
            raise self.gone(None)

    def gone(self, error: BaseException | None) -> LinkLost:
        said = self._lost or (f"the connection ended ({error})" if error else "the connection ended")
        return LinkLost(
            said,
            next_step="check the cable and the device's power; what it did meanwhile is read at the next try",
            device=self.device,
        )

    def execute(self, line: str, deadline: Deadline, *, window: int | None = None) -> Channel:
        channel = self.open("session", (), deadline, window=window)
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(line)
        try:
            cast("Any", channel)._event_pending()  # exec_command itself waits without a limit
            self.send(message)
            while not channel.event.wait(min(dial.STEP_S, self.left(deadline, "exec"))):
                pass
            self._accepted(channel)
        except BaseException:
            hang_up(channel)
            raise
        return channel

    def _accepted(self, channel: Channel) -> None:
        if channel.event_ready:
            return
        if not self.alive:
            raise self.gone(None)
        raise LinkFault(
            "the device does not allow commands over SSH",
            reason="exec_refused",
            next_step="allow commands for this login (no ForceCommand, no `restrict`), or use the agent's LAN port",
            device=self.device,
        )

    # --- watchdog

    def _watch(self) -> None:
        """Ask for a sign of life after silence; close everything when none comes. Any byte counts as one."""
        asking: threading.Thread | None = None
        heard, silence, looked = self._sock.heard_at, 0.0, self.monotonic()
        while not self._ending.wait(_TICK_S):
            if not self._transport.is_active():
                return
            now = self.monotonic()
            # a laptop that slept or was too busy to look has not listened either: only ticks of ours count as silence
            silence += min(now - looked, 2 * _TICK_S)
            looked = now
            if self._sock.heard_at != heard:
                heard, silence = self._sock.heard_at, min(now - self._sock.heard_at, 2 * _TICK_S)
            if silence > SILENCE_S:
                self._abort(f"nothing was heard for {silence:.0f} s")
                return
            if silence > PING_S and (asking is None or not asking.is_alive()):
                # in a thread of its own: on a full send buffer it blocks, and the watchdog must not
                asking = threading.Thread(target=self._ping, name=f"fieldops-ping-{self.device}", daemon=True)
                asking.start()
                asking.join(_TICK_S)

    def _ping(self) -> None:
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)  # any answer will do, a refusal included
        with contextlib.suppress(LinkLost):
            self.send(message)

    def _abort(self, why: str) -> None:
        self._lost = why
        self._sock.abort()
        self._transport.close()

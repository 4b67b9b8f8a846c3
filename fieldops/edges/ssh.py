"""One SSH connection to one device: commands, and HTTP to the agent's unix socket. The only importer of paramiko.

Rules, each learned the hard way (measured on paramiko 5.1 against OpenSSH 9.2):
- The host key is verified before any credential is sent. Strict always; accepting a key is a change of its own.
- Raw Transport and Channel only: SSHClient's file objects deadlock under garbage collection.
- EOF goes only to a command that reads stdin to its end; every other one gets `</dev/null`. An EOF that crosses the
  remote's CLOSE makes sshd drop the whole connection.
- stdout and stderr share one window, so both are drained by one loop. Channels are closed explicitly, never left to the
  collector.
- One command runs before the first forward: sshd sets TCP_NODELAY only then (else 40 ms a request).
- Nothing in paramiko notices a dead peer. A watchdog thread a link closes the socket when nothing was heard for 7.5 s, and
  all who wait raise LinkLost.
"""

# ruff: noqa: SLF001 - paramiko has no public call for unix-socket channels nor for a request with a time limit
from __future__ import annotations

import contextlib
import getpass
import logging
import os
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpcore
import httpx
import paramiko
from paramiko.agent import AgentSSH
from paramiko.channel import Channel
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST
from paramiko.pkey import UnknownKeyType

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.keys import ssh_fingerprint
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.pipe import FixedBackend, client_over
from fieldops.errors import (
    FieldopsError,
    HostKeyChanged,
    HostKeyUnknown,
    LinkFault,
    LinkLost,
    NotAuthorised,
    Unreachable,
)
from fieldops.fleet import DeviceEntry, SshAddress

# Refused channels and handshakes are logged by paramiko to stderr, across the console's screen; we say them ourselves.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

SLICE = 32_704  # what fits one packet of sshd's 32 KiB; larger writes copy their tail again and again
SESSIONS = 4  # commands at once; sshd allows 10 and counts each until our CLOSE came, after the next may have been opened
OUTPUT_LIMIT = 8 << 20  # of each of stdout and stderr; the rest is read and dropped
SEND_BUFFER = 4 << 20

PING_S = 2.5  # silence after which the other side is asked for a sign of life
SILENCE_S = 7.5  # silence after which the link is dead: stalls of 5 s pass, a cut is noticed within 10 s
_TICK_S = 0.5
_AGENT_S = 2.0  # a stale SSH_AUTH_SOCK hangs for ever
_TOUCH_S = 60.0  # a key in hardware waits for its person; the login's own deadline is mostly shorter
_AGENT_KEYS = 4  # servers end the connection at the sixth key tried

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_FORBIDDEN, _CONNECT_FAILED, _UNKNOWN_KIND = 1, 2, 3  # reasons of SSH_MSG_CHANNEL_OPEN_FAILURE (RFC 4254 §5.1)


@dataclass(frozen=True, slots=True)
class Result:
    """rc None: the command ended without a status (killed by a signal)."""

    rc: int | None
    out: bytes
    err: bytes
    truncated: bool = False


class _HeardSocket(socket.socket):
    """A socket that remembers when it last heard anything: the one sign of life that an upload cannot delay."""

    monotonic: Callable[[], float]
    heard_at: float

    @classmethod
    def over(cls, sock: socket.socket, monotonic: Callable[[], float]) -> _HeardSocket:
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.monotonic = monotonic
        made.heard_at = monotonic()
        return made

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        if data:
            self.heard_at = self.monotonic()
        return data


# --- connecting ----------------------------------------------------------------------------------------------------------


def connect(entry: DeviceEntry, *, known_hosts: KnownHosts, identities: Sequence[Path], deadline: Deadline) -> SshLink:
    """A link whose host key is known and whose login was accepted. identities are tried first, then ssh-agent's keys.

    Raises Unreachable (phase dns, tcp, banner, kex, auth), HostKeyUnknown, HostKeyChanged, NotAuthorised (login_refused),
    LinkFault (host_key_revoked, no_common_algorithm), Cancelled.
    """
    address = _address(entry)
    transport, sock = _handshake(address, known_hosts, deadline, entry.name)
    try:
        host_key = _verify(transport, address, known_hosts, entry.name)
        _log_in(transport, address, identities, deadline, entry.name)
        return SshLink(transport, sock, host_key, entry.name, deadline.monotonic)
    except BaseException:
        transport.close()
        sock.close()
        raise


def host_key(entry: DeviceEntry, deadline: Deadline) -> tuple[str, bytes]:
    """The key a host proves to hold, as (type, blob), without trusting it and without logging in. For `device trust`."""
    transport, sock = _handshake(_address(entry), KnownHosts(), deadline, entry.name)
    try:
        key = transport.get_remote_server_key()
        return key.get_name(), key.asbytes()
    finally:
        transport.close()
        sock.close()


def _address(entry: DeviceEntry) -> SshAddress:
    if entry.ssh is None:
        raise Unreachable(
            f"{entry.name} has no SSH address",
            phase="dns",
            next_step=f'write `ssh = "user@host"` for {entry.name} in fleet.toml',
            device=entry.name,
        )
    return entry.ssh


def _handshake(
    address: SshAddress, known_hosts: KnownHosts, deadline: Deadline, device: str
) -> tuple[paramiko.Transport, _HeardSocket]:
    sock = _HeardSocket.over(dial.connect(address.host, address.port, deadline, device), deadline.monotonic)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    transport = paramiko.Transport(sock)
    transport.daemon = True
    options = transport.get_security_options()
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.key_types = _preferred(known_hosts.key_types(address.host, address.port))
    # our own waits are the limits; these are only so that paramiko's thread never outlives them for long
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = max(1.0, deadline.left()) + 1.0
    done = threading.Event()
    where = f"{address.host}:{address.port}"
    try:
        transport.start_client(event=done)
        # waiting ends by `done` or by the transport's thread giving up
        while not done.wait(min(0.05, dial.left(deadline, _phase(transport), where, device))) and transport.is_active():
            pass
        _shaken(transport, where, device)
    except BaseException:
        transport.close()
        sock.close()
        raise
    return transport, sock


def _phase(transport: paramiko.Transport) -> str:
    return "kex" if transport.remote_version else "banner"


def _preferred(known: tuple[str, ...]) -> tuple[str, ...]:
    """Known types first: a host with several keys must show one we can compare."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known else set()
    wanted |= set(known)
    return tuple(sorted(_KEY_TYPES, key=lambda kind: kind not in wanted))


def _shaken(transport: paramiko.Transport, where: str, device: str) -> None:
    if transport.is_active() and transport.initial_kex_done:
        return
    error = transport.get_exception()
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        fault: LinkFault = LinkFault(
            f"{where} offers only algorithms that are no longer safe: {error}",
            reason="no_common_algorithm",
            next_step="update the device's SSH server",
            device=device,
        )
    else:
        phase = _phase(transport)
        fault = Unreachable(
            f"{where}: {'no SSH banner' if phase == 'banner' else 'the key exchange failed'} ({error or 'closed'})",
            phase=phase,
            next_step="check that the port is an SSH server's, and that server's log",
            device=device,
        )
    raise fault from error


def _verify(transport: paramiko.Transport, address: SshAddress, known_hosts: KnownHosts, device: str) -> tuple[str, bytes]:
    """The host's key once known_hosts vouches for it. Nothing of ours was sent so far."""
    key = transport.get_remote_server_key()
    blob = key.asbytes()
    verdict = known_hosts.verify(address.host, address.port, blob)
    where, got = f"{address.host}:{address.port}", ssh_fingerprint(blob)
    if verdict.kind == "revoked":
        raise LinkFault(
            f"{where} shows {got}, which is revoked",
            reason="host_key_revoked",
            next_step="do not connect; report it: somebody holds a key that was withdrawn",
            device=device,
        )
    if verdict.kind == "changed":
        known = ", ".join(f"{ssh_fingerprint(blob)} ({kind})" for kind, blob in verdict.known)
        raise HostKeyChanged(
            f"the host key of {where} changed: known {known}, got {got} ({key.get_name()})",
            next_step="compare with the label on the device; if it was really set up again: "
            f"fieldops device trust {device} --replace --expect-fingerprint {got}",
            known=known,
            got=got,
            device=device,
        )
    if verdict.kind == "unknown":
        authority = "; only a certificate authority vouches for it, which is not supported" if verdict.by_authority else ""
        raise HostKeyUnknown(
            f"the host key of {where} is not known: {got} ({key.get_name()}){authority}",
            next_step=f"compare with the label on the device, then: fieldops device trust {device} --expect-fingerprint {got}",
            fingerprint=got,
            device=device,
        )
    return key.get_name(), blob


def _log_in(
    transport: paramiko.Transport, address: SshAddress, identities: Sequence[Path], deadline: Deadline, device: str
) -> None:
    user = address.user or getpass.getuser()
    where = f"{user}@{address.host}:{address.port}"
    tried: list[str] = []
    unusable: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, key in _keys(identities, stack, unusable):
            tried.append(name)
            done = threading.Event()
            with contextlib.suppress(paramiko.SSHException):  # the connection ended: said below
                transport.auth_publickey(user, key, done)
                while not done.wait(min(0.05, dial.left(deadline, "auth", where, device))) and transport.is_active():
                    pass
            if transport.is_authenticated():
                return
            if not transport.is_active():
                break
    said = f"tried {', '.join(tried)}" if tried else "there was no key to try"
    also = f"; not usable: {', '.join(unusable)}" if unusable else ""
    raise NotAuthorised(
        f"{where} refused the login ({said}{also})",
        reason="login_refused",
        next_step="add your public key to the device's authorized_keys, or name the right key under [ssh] identities",
        device=device,
    ) from transport.get_exception()


def _keys(identities: Sequence[Path], stack: contextlib.ExitStack, unusable: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Files first, then ssh-agent's keys, of which the stack closes the connection. unusable: gets what could not be read."""
    for path in identities:
        try:
            yield path.name, paramiko.PKey.from_path(path)
        except (OSError, ValueError, TypeError, paramiko.SSHException, UnknownKeyType) as error:
            # a missing or wrong passphrase is a TypeError there; ssh-agent may hold the key unlocked
            unusable.append(f"{path.name} ({error})")
    for key in _agent_keys(stack)[:_AGENT_KEYS]:
        yield f"ssh-agent {key.comment or key.get_name()}", key


def _agent_keys(stack: contextlib.ExitStack) -> Sequence[paramiko.AgentKey]:
    """None when there is no ssh-agent, or one that does not answer in 2 s."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path or not hasattr(socket, "AF_UNIX"):
        return ()
    agent: Any = AgentSSH()  # not paramiko.Agent: that one connects without a time limit
    conn = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
    try:
        conn.settimeout(_AGENT_S)
        conn.connect(path)
        agent._connect(conn)
    except (OSError, ValueError, paramiko.SSHException):
        return ()
    conn.settimeout(_TOUCH_S)
    keys: Sequence[paramiko.AgentKey] = agent.get_keys()
    return sorted(keys, key=lambda key: key.get_name().startswith("sk-"))  # those that wait for a touch last


# --- the link ------------------------------------------------------------------------------------------------------------


class _Bell(threading.Event):
    """Rung by either of a channel's buffers. Only its listener clears it: a buffer's clear would lose the other's ring."""

    def clear(self) -> None:
        return

    def hush(self) -> None:
        super().clear()


class SshLink:
    """Safe for several threads. Ends by close(), or by the watchdog when the other side is gone."""

    def __init__(
        self,
        transport: paramiko.Transport,
        sock: _HeardSocket,
        host_key: tuple[str, bytes],
        device: str,
        monotonic: Callable[[], float],
    ) -> None:
        self.host_key = host_key
        self.device = device
        self._transport = transport
        self._sock = sock
        self._monotonic = monotonic
        self._ending = threading.Event()
        self._lost = ""
        self._warm = False
        self._streamlocal = True
        self._sessions = threading.BoundedSemaphore(SESSIONS)
        self._clients: list[httpx.Client] = []
        self._watchdog = threading.Thread(target=self._watch, name=f"fieldops-watch-{device}", daemon=True)
        self._watchdog.start()

    @property
    def alive(self) -> bool:
        return not self._ending.is_set() and self._transport.is_active()

    def close(self) -> None:
        """May be called twice and from any thread."""
        self._ending.set()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._transport.close()
        self._sock.close()

    # --- commands

    def run(self, command: str | Sequence[str], deadline: Deadline, *, stdin: bytes | None = None) -> Result:
        """Run one command: a list of arguments, or a POSIX sh script as text. stdin given: it must read all of it.

        Raises LinkLost, DeadlinePassed (the remote process may go on), Cancelled, Unreachable (phase open).
        """
        line = f"sh -c {shlex.quote(command)}" if isinstance(command, str) else shlex.join(command)
        while not self._sessions.acquire(timeout=min(dial.STEP_S, self._left(deadline, "exec"))):
            pass
        try:
            channel = self._exec(line if stdin is not None else f"{line} </dev/null", deadline)
            try:
                result = self._collect(channel, deadline, stdin or b"", eof=stdin is not None)
            finally:
                channel.close()
        finally:
            self._sessions.release()
        self._warm = True
        return result

    def _exec(self, line: str, deadline: Deadline) -> Channel:
        channel = self._open("session", (), deadline)
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(line)
        try:
            cast("Any", channel)._event_pending()  # exec_command itself waits without a limit
            self._send(message)
            while not channel.event.wait(min(dial.STEP_S, self._left(deadline, "exec"))):
                pass
            self._accepted(channel)
        except BaseException:
            channel.close()
            raise
        return channel

    def _accepted(self, channel: Channel) -> None:
        if channel.event_ready:
            return
        if not self.alive:
            raise self._gone(None)
        raise LinkFault(
            "the device does not allow commands over SSH",
            reason="exec_refused",
            next_step="allow commands for this login (no ForceCommand, no `restrict`), or use the agent's LAN port",
            device=self.device,
        )

    def _collect(self, channel: Channel, deadline: Deadline, stdin: bytes, *, eof: bool) -> Result:
        bell = _Bell()
        channel.in_buffer.set_event(bell)
        channel.in_stderr_buffer.set_event(bell)
        out, err = _Bounded(), _Bounded()
        waiting = memoryview(stdin)
        send: Callable[[memoryview], int] = channel.send  # type: ignore[assignment]  # the stubs know bytes only
        while True:
            bell.hush()
            closed = channel.closed  # before the drain: what came before the close is then surely in the buffers
            while channel.recv_ready():
                out.add(channel.recv(1 << 16))
            while channel.recv_stderr_ready():
                err.add(channel.recv_stderr(1 << 16))
            if closed:
                break
            if waiting and channel.send_ready():
                waiting = waiting[send(waiting[:SLICE]) :]
            elif eof and not waiting:
                eof = False
                channel.shutdown_write()
            else:
                bell.wait(min(0.02 if waiting else dial.STEP_S, self._left(deadline, "exec")))
        if not self.alive:  # an output is whole only when the connection outlived it
            raise self._gone(None)
        rc = channel.exit_status if channel.exit_status >= 0 else None
        return Result(rc, out.data(), err.data(), out.truncated or err.truncated)

    # --- HTTP

    def http(self, socket_path: str, *, program: str = "", deadline: Deadline | None = None) -> httpx.Client:
        """A client of what listens on the device's unix socket; the link closes it.

        program: the agent's command, used as `PROGRAM stdio --socket PATH` where sshd forbids forwarding.
        """
        if not self._warm and deadline is not None:
            self.run(["true"], deadline)
        client = client_over(_SocketBackend(self, socket_path, program), "http://agent")
        self._clients.append(client)
        return client

    def open_stream(self, socket_path: str, program: str, seconds: float) -> _ChannelStream:
        """To the remote socket: a forwarded channel, else the agent's stdio bridge. Raises LinkFault.

        sshd says "connect failed" as well where it forbids forwarding, so only the bridge's own end tells the two apart.
        """
        deadline = Deadline.after(seconds, self._monotonic)
        if self._streamlocal:
            try:
                return _ChannelStream(self._open("direct-streamlocal@openssh.com", (socket_path, "", 0), deadline), self)
            except _Refused as refused:
                if not program:
                    raise self.no_agent(socket_path, refused.message) from refused
        channel = self._exec(f"{program} stdio --socket {shlex.quote(socket_path)}", deadline)
        return _BridgeStream(channel, self, socket_path)

    def bridged(self) -> None:
        """The bridge works where forwarding was refused: use it from now on without asking again."""
        self._streamlocal = False

    def no_agent(self, socket_path: str, why: str) -> Unreachable:
        return Unreachable(
            f"the agent's socket {socket_path} cannot be reached: {why}",
            phase="open",
            next_step="check that the agent runs (`fieldops-agent status` at the device), that your login may use its socket,"
            " and that sshd allows `AllowStreamLocalForwarding` or the agent's program is in the PATH",
            device=self.device,
        )

    # --- channels

    def _open(self, kind: str, more: tuple[str | int, ...], deadline: Deadline) -> Channel:
        """What paramiko's open_channel does, for kinds it does not know and with our limit. Private names: version pinned."""
        transport: Any = self._transport
        if not self.alive:
            raise self._gone(None)
        with transport.lock:
            number = transport._next_channel()
            window, packet = transport._sanitize_window_size(None), transport._sanitize_packet_size(None)
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
        self._send(message)
        try:
            while not opened.wait(min(dial.STEP_S, self._connecting(deadline))):
                pass
        except FieldopsError:
            transport._channels.delete(number)
            raise
        if not self.alive:
            raise self._gone(None)
        if transport._channels.get(number) is None:
            error = transport.get_exception()
            code = error.code if isinstance(error, paramiko.ChannelException) else _CONNECT_FAILED
            raise _Refused(code, self.device)
        opened_channel: Channel = channel
        return opened_channel

    def _send(self, message: paramiko.Message) -> None:
        try:
            cast("Any", self._transport)._send_user_message(message)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._gone(error) from error

    def _connecting(self, deadline: Deadline) -> float:
        if not self.alive:
            raise self._gone(None)
        return dial.left(deadline, "open", self.device, self.device)

    def _left(self, deadline: Deadline, phase: str) -> float:
        if not self.alive:
            raise self._gone(None)
        return deadline.check(phase, self.device)

    def _gone(self, error: BaseException | None) -> LinkLost:
        said = self._lost or (f"the connection ended ({error})" if error else "the connection ended")
        return LinkLost(
            said,
            next_step="check the cable and the device's power; what it did meanwhile is read at the next try",
            device=self.device,
        )

    # --- watchdog

    def _watch(self) -> None:
        """Ask for a sign of life after silence; close everything when none comes. Any byte counts as one."""
        asking: threading.Thread | None = None
        while not self._ending.wait(_TICK_S):
            if not self._transport.is_active():
                return
            silence = self._monotonic() - self._sock.heard_at
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
            self._send(message)

    def _abort(self, why: str) -> None:
        self._lost = why
        with contextlib.suppress(OSError):
            # no lingering: bytes for a dead peer are not worth waiting for
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.shutdown(socket.SHUT_RDWR)
        self._transport.close()


class _Refused(LinkFault):
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


class _Bounded:
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


# --- httpcore over a channel ---------------------------------------------------------------------------------------------


class _SocketBackend(FixedBackend):
    def __init__(self, link: SshLink, socket_path: str, program: str) -> None:
        self._link, self._path, self._program = link, socket_path, program

    def open(self, timeout: float | None) -> httpcore.NetworkStream:
        return self._link.open_stream(self._path, self._program, timeout or SILENCE_S)


class _ChannelStream(httpcore.NetworkStream):
    def __init__(self, channel: Channel, link: SshLink) -> None:
        self._channel, self._link = channel, link

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
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
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._channel.close()

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # httpcore asks before it reuses a connection: readable while idle means it was closed
            return self._channel.recv_ready() or self._channel.closed or self._channel.eof_received or not self._link.alive
        return None


class _BridgeStream(_ChannelStream):
    """Through `fieldops-agent stdio`. Its complaints are read along: unread they would fill the window."""

    def __init__(self, channel: Channel, link: SshLink, socket_path: str) -> None:
        super().__init__(channel, link)
        self._path = socket_path
        self._said = _Bounded()
        self._works = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = super().read(max_bytes, timeout)
        while self._channel.recv_stderr_ready():
            self._said.add(self._channel.recv_stderr(1 << 16))
        if data and not self._works:
            self._works = True
            self._link.bridged()
        if not data and not self._works:
            words = self._said.data().decode("utf-8", "replace").strip().splitlines()
            why = "".join(char for char in words[-1] if char.isprintable())[:200] if words else "its bridge ended"
            raise self._link.no_agent(self._path, why)
        return data

"""From an address to a transport with agreed keys: dial, banner, key exchange, each within the caller's time."""

from __future__ import annotations

import threading
from typing import Any

import paramiko
from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.ssh.sockets import Heard, HeardChannel, HeardSocket
from fieldops.errors import LinkFault, Unreachable

_SEND_BUFFER = 4 << 20

# When paramiko asks for new keys (by itself after 512 MiB) and the server closes a channel at that moment, its thread waits for
# itself for 30 s. So the server asks, which is safe; ours are far out: RFC 4344 allows 2^32 blocks and 2^31 packets.
_REKEY_BYTES = 1 << 35
_REKEY_PACKETS = 1 << 31

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


def dialled(host: str, port: int, deadline: Deadline, device: str) -> HeardSocket:
    """A tuned TCP connection. Raises Unreachable (phase dns, tcp), Cancelled."""
    import socket

    sock = HeardSocket.over(dial.connect(host, port, deadline, device), deadline.monotonic)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return sock


def through(channel: Channel, deadline: Deadline) -> HeardChannel:
    return HeardChannel(channel, deadline.monotonic)


def shaken(sock: Heard, where: str, known_types: tuple[str, ...], deadline: Deadline, device: str) -> paramiko.Transport:
    """known_types: of the host keys on file; asked for first. Closes sock when it fails.

    Raises Unreachable (phase banner, kex), LinkFault (no_common_algorithm), Cancelled.
    """
    transport = paramiko.Transport(sock)  # type: ignore[arg-type]  # it takes whatever behaves like a socket
    transport.daemon = True
    packetizer: Any = transport.packetizer
    packetizer.REKEY_BYTES, packetizer.REKEY_PACKETS = _REKEY_BYTES, _REKEY_PACKETS
    options = transport.get_security_options()
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.key_types = _preferred(known_types)
    # our own waits are the limits; these are only so that paramiko's thread never outlives them for long
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = max(1.0, deadline.left()) + 1.0
    done = threading.Event()
    try:
        transport.start_client(event=done)
        # waiting ends by `done` or by the transport's thread giving up
        while not done.wait(min(0.05, dial.left(deadline, _phase(transport), where, device))) and transport.is_active():
            pass
        _check(transport, where, device)
    except BaseException:
        packetizer.complete_handshake()  # ends its timer, a thread that would outlive the caller's patience
        transport.close()
        sock.close()
        raise
    return transport


def _phase(transport: paramiko.Transport) -> str:
    return "kex" if transport.remote_version else "banner"


def _preferred(known: tuple[str, ...]) -> tuple[str, ...]:
    """Known types first: a host with several keys must show one we can compare."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known else set()
    wanted |= set(known)
    return tuple(sorted(_KEY_TYPES, key=lambda kind: kind not in wanted))


def _check(transport: paramiko.Transport, where: str, device: str) -> None:
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

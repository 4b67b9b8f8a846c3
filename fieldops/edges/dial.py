"""From an address to a connected TCP socket, within a deadline and stoppable: what both links stand on.

The system's resolver knows no time limit and a blocking connect no cancel token, so both are waited for in small steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
from dataclasses import dataclass, field

from fieldops.deadline import Deadline
from fieldops.errors import DeadlinePassed, Unreachable

STEP_S = 0.1  # how soon a cancel is noticed

_CABLE = "check the cable, the address and that the device is switched on"


@dataclass(slots=True)
class _Lookup:
    host: str
    port: int
    done: threading.Event = field(default_factory=threading.Event)
    found: list[tuple[socket.AddressFamily, str, int]] = field(default_factory=list)
    error: OSError | None = None

    def run(self) -> None:
        try:
            for family, _, _, _, at in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
                # a link-local address needs its zone again: getaddrinfo moves it into the fourth part
                zone = f"%{at[3]}" if len(at) > 3 and at[3] and "%" not in str(at[0]) else ""
                self.found.append((family, f"{at[0]}{zone}", int(at[1])))
        except OSError as error:  # socket.gaierror is one
            self.error = error
        except UnicodeError as error:  # a label longer than DNS allows
            self.error = OSError(errno.EINVAL, str(error))
        self.done.set()


def resolve(host: str, port: int, deadline: Deadline, device: str | None = None) -> list[tuple[socket.AddressFamily, str, int]]:
    """Addresses of a name, in the system's order. Raises Unreachable (phase dns), Cancelled."""
    lookup = _Lookup(host, port)
    # a resolver that hangs is left behind: it ends by its own limit and holds nothing
    threading.Thread(target=lookup.run, name="fieldops-resolve", daemon=True).start()
    while not lookup.done.wait(min(STEP_S, left(deadline, "dns", host, device))):
        pass
    if lookup.error is not None or not lookup.found:
        raise Unreachable(
            f"no address for {host}: {lookup.error.strerror if lookup.error else 'none found'}",
            phase="dns",
            next_step="check the name in fleet.toml, or write the IP address",
            device=device,
        ) from lookup.error
    return lookup.found


def connect(host: str, port: int, deadline: Deadline, device: str | None = None) -> socket.socket:
    """A connected, blocking socket with TCP_NODELAY; addresses are tried in turn. Raises Unreachable (dns, tcp), Cancelled."""
    found = resolve(host, port, deadline, device)
    failed: OSError | None = None
    for number, (family, address, at_port) in enumerate(found):
        # one dead address must not use up what the others need
        share = deadline.within(deadline.left() / (len(found) - number))
        try:
            return _connect_one(family, address, at_port, share, device)
        except OSError as error:
            failed = error
        except Unreachable as error:
            if number == len(found) - 1:
                raise
            failed = OSError(errno.ETIMEDOUT, error.message)
    assert failed is not None
    reason = failed.strerror or str(failed)
    raise Unreachable(f"{host}:{port}: {reason}", phase="tcp", next_step=_next_step(failed), device=device) from failed


def _next_step(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "the device answers but nothing listens on that port: check the port, or that the service runs"
    return _CABLE


def _connect_one(family: int, address: str, port: int, deadline: Deadline, device: str | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        host, _, zone = address.partition("%")
        at: tuple[str, int] | tuple[str, int, int, int] = (address, port)
        if zone:
            at = (host, port, 0, int(zone) if zone.isdigit() else socket.if_nametoindex(zone))
        _or_raise(sock.connect_ex(at), errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0))
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            while not selector.select(min(STEP_S, left(deadline, "tcp", f"{address}:{port}", device))):
                pass
        _or_raise(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.setblocking(True)
        tune(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _or_raise(code: int, *fine: int) -> None:
    if code not in (0, *fine):
        raise OSError(code, os.strerror(code))


def tune(sock: socket.socket) -> None:
    """No Nagle delay; a peer that vanished is noticed by the kernel within 9 s where it can do that."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_USER_TIMEOUT", 9000), ("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # an extra; the watchdog and the time limits are the mechanism
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def left(deadline: Deadline, phase: str, what: str, device: str | None) -> float:
    """Seconds left while connecting. Raises Cancelled, or Unreachable that names the phase."""
    try:
        return deadline.check(phase, device)
    except DeadlinePassed as error:
        words = {
            "dns": f"the name {what} was not resolved in time",
            "tcp": f"{what} did not answer in time",
            "banner": f"{what} accepted the connection and said nothing: no SSH server, or one that hangs",
            "kex": f"{what} stopped in the middle of the SSH key exchange",
            "auth": f"{what} did not answer the login in time",
            "open": f"{what} did not open a channel in time",
        }
        steps = {"dns": "check the name in fleet.toml, or write the IP address", "tcp": _CABLE}
        raise Unreachable(
            words.get(phase, f"{what}: no answer in time"),
            phase=phase,
            next_step=steps.get(phase, "check the device's load, or restart its SSH service; then try again"),
            device=device,
        ) from error

"""Sockets and servers: three unix sockets of our own modes, and the LAN port with certificates pinned both ways.

uvicorn takes signals for one server only and leaves the sockets' files behind, so both are done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldops.agent.identity import Identity
from fieldops.edges.dial import tune
from fieldops.errors import StorageFault

STOP_S = 2
BACKLOG = 128


class PeerCertificate(H11Protocol):
    """Puts the peer certificate's fingerprint into scope["state"]["peer"]; None without one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls else None
        self.app_state = {**self.app_state, "peer": hashlib.sha256(der).hexdigest() if der else None}


class QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, tls: ssl.SSLContext | None = None) -> QuietServer:
    given: dict[str, Any] = {"ssl_context_factory": lambda *_: tls} if tls is not None else {}
    config = uvicorn.Config(
        app,
        http=PeerCertificate,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=STOP_S,
        timeout_keep_alive=30,
        **given,
    )
    return QuietServer(config)


def unix_socket(path: Path, mode: int) -> socket.socket:
    """Bound with exactly that mode; the file of an agent that is gone is removed. Raises StorageFault (in_use, io_error)."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if _answered(path):
        made.close()
        raise StorageFault(
            f"another agent answers on {path}",
            reason="in_use",
            next_step="give each agent its own `[runtime] folder` in agent.toml",
        )
    before = os.umask(0o777 & ~mode)
    try:
        path.unlink(missing_ok=True)
        made.bind(str(path))
        made.listen(BACKLOG)  # who comes before the server runs waits
    except OSError as error:
        made.close()
        raise StorageFault(
            f"socket {path}: {error.strerror}", reason="io_error", next_step="check `[runtime] folder` in agent.toml"
        ) from error
    finally:
        os.umask(before)
    return made


def _answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def lan_socket(host: str, port: int) -> socket.socket:
    """Raises StorageFault when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named, since asyncio sets TCP_NODELAY only then: without it every answer but a connection's first waits 40 ms for an ACK
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tune(made)  # for the connections it takes: a laptop that vanished without a word must not hold one for ever
    try:
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise StorageFault(
            f"LAN address {host}:{port}: {error.strerror}", reason="in_use", next_step="change `[lan] listen` in agent.toml"
        ) from error
    return made


def tls_context(identity: Identity, certificates: list[str]) -> ssl.SSLContext:
    """TLS 1.3; a client certificate is optional, so that a stranger gets a clear 401, and must be a pinned one if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for pem in certificates:
        context.load_verify_locations(cadata=pem)
    return context


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, *, until_eof: bool) -> None:
    """SIGTERM, SIGINT and, when asked, the end of standard input set `stop`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        threading.Thread(target=_await_eof, args=(loop, stop), name="stdin", daemon=True).start()


def _await_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # The raw descriptor: a daemon thread inside sys.stdin would hold its lock when the interpreter ends.
    while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stop.set)

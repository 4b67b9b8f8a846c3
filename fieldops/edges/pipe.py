"""An httpx client over any byte stream: a channel of an SSH connection, or a socket to a pinned address."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import httpcore
import httpx

CONNECTIONS = 4  # a panel's readings, a long wait and an upload side by side
IDLE_S = 4.0  # below uvicorn's idle close of 5 s, so that a kept connection is rarely one that is just being closed


class PipeTransport(httpx.HTTPTransport):
    """httpx's own transport (its error mapping, its streams) over a backend of ours.

    tls: None for plain HTTP inside a pipe that is already protected.
    """

    def __init__(self, backend: httpcore.NetworkBackend, tls: ssl.SSLContext | None = None) -> None:
        context = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # given, so that httpx does not load the web's authorities
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=backend,
        )


class FixedBackend(httpcore.NetworkBackend):
    """Base of backends that know where to connect; the URL only names who is expected there."""

    def open(self, timeout: float | None) -> httpcore.NetworkStream:
        raise NotImplementedError

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - httpcore's signature
        port: int,  # noqa: ARG002
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return self.open(timeout)


def client_over(backend: httpcore.NetworkBackend, base_url: str, tls: ssl.SSLContext | None = None) -> httpx.Client:
    """Knows no proxy, no environment, no redirect. Every request must bring its own time limit (see agent_api)."""
    return httpx.Client(transport=PipeTransport(backend, tls), base_url=base_url, trust_env=False, timeout=httpx.Timeout(10.0))

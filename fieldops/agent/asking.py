"""The `fieldops-agent` verbs' way to the running agent: HTTP over local.sock, by the standard library alone."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from fieldops.agent.config import read
from fieldops.agent.home import AgentHome, Runtime
from fieldops.errors import Unreachable
from fieldops.wire import ErrorDoc, decode, error_of


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(home: Path | None, method: str, path: str, body: bytes | None, *, timeout: float) -> bytes:
    """timeout: seconds. Raises Unreachable, or the error that the agent answered with."""
    found = Runtime.of(read(AgentHome((home or AgentHome.default()).resolve()).config))
    connection = _Unix(found.local, timeout)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"no agent answers on {found.local}: {error}",
            phase="open",
            next_step="start it (`fieldops-agent serve`), or run this as the agent's own user",
        ) from error
    finally:
        connection.close()
    if response.status >= 400:
        raise error_of(decode(data, ErrorDoc, sender="the agent"))
    return data

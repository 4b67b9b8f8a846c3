"""The demo's control address: a line protocol on 127.0.0.1, one word answers, for the console's palette and for tests.

    store up      -> ok http://127.0.0.1:PORT     the central store comes up (or is up already)
    store down    -> ok
    status        -> ok up | ok down

Anything else, and anything that went wrong, is answered by `error TEXT`.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable

from fieldops.errors import FieldopsError

LINE_LIMIT = 200


class _Line(socketserver.StreamRequestHandler):
    timeout = 10.0
    server: _Listener

    def handle(self) -> None:
        try:
            words = self.rfile.readline(LINE_LIMIT).decode("ascii", "replace").strip()
            self.wfile.write(f"{self.server.answer(words)}\n".encode())
        except OSError:
            pass  # the asker went away; the next one gets its own connection


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, verbs: dict[str, Callable[[], str]]) -> None:
        super().__init__(("127.0.0.1", port), _Line)
        self.verbs = verbs
        self.one_at_a_time = threading.Lock()

    def answer(self, words: str) -> str:
        verb = self.verbs.get(words)
        if verb is None:
            return f"error no such verb; there are: {', '.join(sorted(self.verbs))}"
        with self.one_at_a_time:
            try:
                return f"ok {verb()}".rstrip()
            except FieldopsError as error:
                return f"error {error}"


class Control:
    """Answers until closed. port 0: any free one."""

    def __init__(self, port: int, verbs: dict[str, Callable[[], str]]) -> None:
        self._listener = _Listener(port, verbs)
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(2)


def ask(address: str, words: str, seconds: float) -> str:
    """One question to a demo's control address; its answer without the newline. Raises OSError."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), seconds) as link:
        link.sendall(f"{words}\n".encode())
        link.settimeout(seconds)
        with link.makefile("rb") as answer:
            return answer.readline(4096).decode("utf-8", "replace").strip()

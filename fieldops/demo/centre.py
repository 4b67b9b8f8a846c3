"""The plant's central store: away until somebody brings it up, on an address that is kept for it."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.demo import addresses, children


class Centre:
    """Its port is held while it is away, so that a connection is refused at once and nobody else takes the address."""

    def __init__(self, data: Path, log: Path, port: int) -> None:
        self._data = data
        self._log = log
        self._held: socket.socket | None = addresses.hold(port)
        self.port = int(self._held.getsockname()[1])
        self.child: children.Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def up(self) -> bool:
        return self.child is not None and self.child.alive

    def start(self, deadline: Deadline) -> str:
        """Its URL, when it answers. Does nothing when it is up."""
        if self.up:
            return self.url
        if self._held is not None:
            self._held.close()
            self._held = None
        command = children.python(
            "fieldops.central", "serve", "--data", str(self._data), "--listen", f"127.0.0.1:{self.port}", "--until-eof"
        )
        self.child = children.start("central store", command, self._log, children.environment())
        self.child.wait_ready(deadline)
        return self.url

    def invite(self, deadline: Deadline) -> str:
        """A code as the store's owner makes one, beside the running store."""
        command = children.python("fieldops.central", "invite", "--data", str(self._data), "--label", "the demo's laptop")
        done = subprocess.run(
            command, capture_output=True, timeout=deadline.check("the code"), env=children.environment(), check=True
        )
        return str(json.loads(done.stdout)["code"])

    def stop(self) -> str:
        if self.child is not None:
            self.child.stop()
            self.child = None
            self._held = addresses.hold(self.port)
        return ""

    def close(self) -> None:
        self.stop()
        if self._held is not None:
            self._held.close()
            self._held = None

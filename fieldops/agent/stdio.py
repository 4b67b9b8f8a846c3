"""The agent's socket over stdin and stdout: what a laptop runs through SSH where sshd forbids forwarding sockets.

Bytes only; who may do what is decided behind the socket, which this process opens with the rights of the SSH login.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from pathlib import Path

_PIECE = 65536


def _places() -> list[Path]:
    """Where agent.sock is looked for when no path is given; the same order as the laptop's probe."""
    named = [os.environ.get("FIELDOPS_AGENT_RUNTIME"), "/run/fieldops-agent"]
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        named.append(f"{user}/fieldops-agent")
    return [Path(folder) / "agent.sock" for folder in named if folder]


def _inward(sock: socket.socket) -> None:
    try:
        while data := os.read(0, _PIECE):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:  # the agent ended the connection: the other direction sees it and ends the process
        return


def run(arguments: list[str]) -> int:
    """Ends when the agent closes the connection. Exit 5 when there is none to be had."""
    parser = argparse.ArgumentParser(prog="fieldops-agent stdio", description=__doc__)
    parser.add_argument("--socket", type=Path, help="path of agent.sock")
    wanted: Path | None = parser.parse_args(arguments).socket
    path = wanted or next((place for place in _places() if place.exists()), None)
    if path is None:
        sys.stderr.write("no agent.sock found. Next: start the agent, or give --socket PATH\n")
        return 5
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError as error:
            sys.stderr.write(f"{path}: {error.strerror or error}. Next: check that the agent runs and who may use its socket\n")
            return 5
        threading.Thread(target=_inward, args=(sock,), daemon=True).start()
        try:
            while data := sock.recv(_PIECE):
                view = memoryview(data)
                while view:
                    view = view[os.write(1, view) :]
        except OSError:  # whoever read our output is gone
            return 0
    return 0

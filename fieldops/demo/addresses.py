"""Which ports the plant had last time. They are used again at the next start; one that is taken by now is replaced."""

from __future__ import annotations

import json
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a listener could be bound there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def hold(port: int) -> socket.socket:
    """A socket that keeps a port without listening: whoever connects is refused at once, as by a device that is off."""
    for wanted in (port, 0):
        held = socket.socket()
        try:
            held.bind((LOOPBACK, wanted))
        except OSError:
            held.close()
            continue
        return held
    raise OSError("no port left on the loopback interface")


def read(file: Path) -> dict[str, int]:
    """Ports by name from demo.json; empty when there is none, or none that can be read (new ports are found then)."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    ports = document.get("ports") if isinstance(document, dict) else None
    if not isinstance(ports, dict):
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 0 < port < 65536}

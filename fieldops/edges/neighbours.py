"""Who sits at the other end of a cable: IPv6 link-local neighbours of this laptop, with their zones. Hints, never proof.

A direct cable needs no address plan: each side has a link-local address by itself. The kernel's neighbour table is filled by
one echo request to all nodes of the link; where nothing may ask or nothing can be read, there are simply no hints.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.fleet import Address, Hint, SshAddress

AGENT_PORT = 8443  # where docs/links.md puts the LAN listener
MOST = 64  # a cable has one other end; more are a plant network, which DNS-SD is for
INTERFACES = Path("/sys/class/net")
_ASK_S = 1.5
_GOOD = frozenset({"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"})
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_LINK_LOCAL = re.compile(r"fe80::[0-9a-f:]{1,34}")


def wired(root: Path = INTERFACES) -> list[str]:
    """Interfaces with a carrier that are Ethernet or look like it; no loopback."""
    found = []
    for folder in sorted(root.glob("*")):
        try:
            usable = (folder / "type").read_text("ascii").strip() == "1" and (folder / "carrier").read_text(
                "ascii"
            ).strip() == "1"
        except (OSError, UnicodeDecodeError):  # switched off: reading `carrier` is an error then
            continue
        if usable and _ZONE.fullmatch(folder.name):
            found.append(folder.name)
    return found


def parse_table(text: str) -> list[tuple[str, str]]:
    """(address, zone) out of `ip -6 neigh`; routers are no devices, and what never answered is nobody."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or words[1] != "dev" or words[-1] not in _GOOD or "router" in words:
            continue
        if _LINK_LOCAL.fullmatch(words[0]) and _ZONE.fullmatch(words[2]) and (words[0], words[2]) not in found:
            found.append((words[0], words[2]))
    return found[:MOST]


def hints_of(neighbours: Iterable[tuple[str, str]]) -> list[Hint]:
    """Where an agent and an SSH server would be, at addresses that carry their zone."""
    return [
        Hint(
            name=f"cable-{zone.lower()}-{address.rpartition(':')[2]}",
            lan=Address(f"{address}%{zone}", AGENT_PORT),
            ssh=SshAddress(None, f"{address}%{zone}", 22),
        )
        for address, zone in neighbours
    ]


def neighbours(deadline: Deadline) -> list[Hint]:
    """Empty on a system without iproute2. Raises nothing but Cancelled and DeadlinePassed."""
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ip is None:
        return []
    ping = shutil.which("ping")
    for zone in wired() if ping is not None else ():
        _run([str(ping), "-6", "-c", "1", "-W", "1", "-q", f"ff02::1%{zone}"], deadline)
    return hints_of(parse_table(_run([ip, "-6", "neigh", "show"], deadline)))


def _run(command: list[str], deadline: Deadline) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=min(_ASK_S, deadline.check("the neighbours")),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("ascii", "replace")

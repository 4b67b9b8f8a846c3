"""Tells the plant network by DNS-SD where this device's LAN listener is: a hint, which the laptop then verifies.

A process of its own, so that the agent never loads zeroconf; the agent starts it beside a LAN listener and it ends with
the pipe it was given as stdin. No model, version or role is told: whoever listens learns that a device is there, no more.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys

from fieldops.fleet import ID_PATTERN


def is_loopback(host: str) -> bool:
    """Nobody else can reach a listener there, so there is nobody to tell."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def run(arguments: list[str]) -> int:
    """Announces until stdin ends."""
    parser = argparse.ArgumentParser(prog="fieldops-agent announce", description=__doc__)
    parser.add_argument("--id", required=True, help="device id")
    parser.add_argument("--port", required=True, type=int, help="port of the LAN listener")
    parser.add_argument("--address", action="append", default=[], help="address to announce on; repeat it; default: all")
    parser.add_argument("--ssh-port", type=int, default=22)
    given = parser.parse_args(arguments)
    if not ID_PATTERN.fullmatch(given.id) or not 0 < given.port < 65536:
        sys.stderr.write("no device id or port. Next: this is started by `fieldops-agent serve`, not by hand\n")
        return 2
    from fieldops.edges.discovery import Announcement, announce  # zeroconf is for this process alone

    try:
        with announce(Announcement(given.id, given.port, given.ssh_port, tuple(given.address))):
            while os.read(0, 4096):
                pass
    except OSError as error:  # no interface that can multicast: everything else works without
        sys.stderr.write(f"not announced: {error}. Next: add the device by its address on the laptop\n")
        return 5
    return 0

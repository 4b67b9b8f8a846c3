"""IPv6 neighbours on a cable as hints, and what a bare device could support."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.bundles.support import support_of
from fieldops.edges import boards, probe
from fieldops.edges.neighbours import MOST, hints_of, neighbours, parse_table, wired
from fieldops.fleet import parse_address, parse_ssh_address
from tests.links.conftest import soon

TABLE = """fe80::ba27:ebff:fe12:3456 dev eth0 lladdr b8:27:eb:12:34:56 REACHABLE
fe80::1 dev eth0 lladdr 00:00:5e:00:02:01 router STALE
fe80::dead dev eth0 FAILED
2001:db8::7 dev eth0 lladdr b8:27:eb:12:34:57 REACHABLE
fe80::2%evil dev eth0 lladdr 1 REACHABLE
fe80::3 dev et[red]h\x1b lladdr 1 REACHABLE
fe80::9 dev usb0 lladdr 02:00:00:00:00:09 STALE
half a
"""


def test_devices_on_a_cable_are_hints_with_their_zone() -> None:
    hints = hints_of(parse_table(TABLE))
    assert [(hint.name, str(hint.lan), str(hint.ssh)) for hint in hints] == [
        ("cable-eth0-3456", "[fe80::ba27:ebff:fe12:3456%eth0]:8443", "[fe80::ba27:ebff:fe12:3456%eth0]:22"),
        ("cable-usb0-9", "[fe80::9%usb0]:8443", "[fe80::9%usb0]:22"),
    ]
    for hint in hints:  # what is shown can be typed into fleet.toml
        assert parse_address(str(hint.lan)) == hint.lan
        assert parse_ssh_address(str(hint.ssh)) == hint.ssh
        assert hint.id is None


def test_a_crowd_is_no_cable() -> None:
    crowd = "".join(f"fe80::{number:x} dev eth0 lladdr 1 REACHABLE\n" for number in range(1, 500))
    assert len(parse_table(crowd)) == MOST


def test_only_what_has_a_carrier_is_asked(tmp_path: Path) -> None:
    for name, kind, carrier in (("eth0", "1", "1"), ("eth1", "1", "0"), ("lo", "772", "1"), ("eth2", "1", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
        if carrier is not None:
            (tmp_path / name / "carrier").write_text(f"{carrier}\n")
    assert wired(tmp_path) == ["eth0"]


def test_asking_this_machine_is_no_error() -> None:
    assert all(hint.lan.host.startswith("fe80::") for hint in neighbours(soon(5)))


GOOD = {"machine": "aarch64", "bits": "64", "libc": "glibc 2.36", "python": "3.11"}
ROOM = {"memory_bytes": 2 << 30, "disk_free_bytes": 8 << 30}


@pytest.mark.parametrize(
    ("facts", "tier", "why"),
    [
        ({}, "full", ""),
        ({"memory_bytes": 300 << 20}, "small", "300 MB of memory; two models side by side need 460"),
        ({"memory_bytes": None}, "small", "memory is not known"),
        ({"memory_bytes": 120 << 20}, "look", "120 MB of memory"),
        ({"disk_free_bytes": 100 << 20}, "look", "100 MB of disk are free"),
        ({"machine": "armv7l", "bits": "32"}, "look", "32-bit (armv7l)"),
        ({"bits": "32"}, "look", "32-bit (aarch64)"),
        ({"machine": "riscv64"}, "look", "riscv64: the model runtime has wheels"),
        ({"libc": "musl"}, "look", "musl: the model runtime needs glibc"),
        ({"libc": "glibc 2.24"}, "look", "the wheels need glibc 2.28"),
        ({"libc": ""}, "look", "the C library is not known"),
        ({"python": ""}, "look", "no Python"),
        ({"python": "3.9"}, "look", "Python 3.9; the agent needs 3.11"),
    ],
)
def test_a_device_says_what_it_supports_and_why_not_more(facts: dict[str, object], tier: str, why: str) -> None:
    support = support_of(**{**GOOD, **ROOM, **facts})  # type: ignore[arg-type]
    assert support.tier == tier
    assert why in "; ".join(support.why)
    assert bool(support.kit) == (tier != "look")


def _facts(**values: str) -> probe.Facts:
    return probe.parse(
        "".join(f"{k}={line}\n" for k, v in values.items() for line in v.split("|")).encode() + b"v=1\nend=1\n", "x"
    )


@pytest.mark.parametrize(
    ("before", "now", "throttled", "reason"),
    [
        ({}, {"pi_throttled": "throttled=0x50005"}, True, "under-voltage, throttled"),  # Raspberry, as vcgencmd writes it
        ({}, {"pi_throttled": "50000"}, False, ""),  # throttled since boot, not now
        ({"counted": "7|0"}, {"counted": "9|0"}, True, "thermal throttle events"),  # Intel
        ({"counted": "7|0"}, {"counted": "7|0"}, False, ""),
        ({}, {"counted": "7|0"}, None, ""),  # one reading says nothing
        ({}, {"cooling": "0|2"}, True, "cooling by lower frequency"),  # Jetson
        ({}, {"cooling": "0|0"}, False, ""),
        ({}, {}, None, ""),  # no sensor at all
    ],
)
def test_boards_say_in_their_own_ways_that_they_are_throttled(
    before: dict[str, str], now: dict[str, str], throttled: bool | None, reason: str
) -> None:
    earlier = _facts(boot_id="b", **before) if before else None
    found = boards.resources_of(_facts(boot_id="b", **now), earlier)
    assert (found.throttled, found.throttle_reason) == (throttled, reason)

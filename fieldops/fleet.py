"""The fleet as the technician names it: devices of the inventory, their ids, and what they measure of themselves.

Ids are SHA-256 in lower-case base32 without padding, 52 characters (hex would not fit a DNS label). Names and addresses
are labels that may change; the id is what a device *is*.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NewType, TypeVar

from msgspec import Struct

from fieldops.errors import Fault, UsageFault

DeviceId = NewType("DeviceId", str)
LaptopId = NewType("LaptopId", str)

A = TypeVar("A")

ID_PATTERN = re.compile(r"[a-z2-7]{52}")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SHORTEST_PREFIX = 6
SHOWN_OF_ID = 8


def key_id(public_key: bytes) -> str:
    """The id of whoever holds this key. public_key: 32 raw Ed25519 bytes (agent, laptop) or an SSH key blob (bare device)."""
    import base64  # OpenSSL behind hashlib takes longer to load than an inventory to read
    import hashlib

    return base64.b32encode(hashlib.sha256(public_key).digest()).decode("ascii").rstrip("=").lower()


def tls_name(device_id: str) -> str:
    """The name a device's certificate carries and that is sent as SNI, whatever its address."""
    return f"dev-{device_id}.fieldops.internal"


# --- the inventory -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """host may be a name, an IPv4 address, or an IPv6 address with a zone (`fe80::1%eth0`)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SshAddress:
    """user None: as the SSH configuration or the local user name says."""

    user: str | None
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.user}@{Address(self.host, self.port)}" if self.user else str(Address(self.host, self.port))


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One `[[device]]` of fleet.toml. id None: never seen yet. ssh and lan may both be given; LAN is tried first."""

    name: str
    site: str = ""
    device_class: str = ""
    ssh: SshAddress | None = None
    lan: Address | None = None
    id: DeviceId | None = None
    formerly: DeviceId | None = None
    tags: tuple[str, ...] = ()
    owner: str = ""


class Hint(Struct, frozen=True):
    """What somebody on the network says of a device: an address to ask, never proof. id: as claimed; None: none given."""

    name: str
    lan: Address
    ssh: SshAddress | None = None
    id: DeviceId | None = None


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """`host:port`, `[v6%zone]:port`, or `host` where a default port is given. Raises ValueError."""
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\](?::(\d+))?|([^\s:@\[\]/]+)(?::(\d+))?", text)
    if not match:
        raise ValueError("host:port")
    host = match[1] or match[3]
    port_text = match[2] or match[4]
    if port_text is None and default_port is None:
        raise ValueError("host:port")
    port = int(port_text) if port_text is not None else int(default_port or 0)
    if not 0 < port < 65536:
        raise ValueError("a port from 1 to 65535")
    return Address(host, port)


def parse_ssh_address(text: str) -> SshAddress:
    """`[user@]host[:port]`, port 22 when absent. Raises ValueError."""
    user, at, rest = text.rpartition("@")
    if at and not re.fullmatch(r"[^\s@:/]+", user):
        raise ValueError("user@host:port")
    address = parse_address(rest, default_port=22)
    return SshAddress(user or None, address.host, address.port)


class Inventory(Struct, frozen=True):
    """Devices in the order of the file; names are unique."""

    devices: tuple[DeviceEntry, ...] = ()

    def find(self, wanted: str) -> DeviceEntry:
        """By name, or by a unique prefix (>= 6 characters) of the id. Raises UsageFault with what there is."""
        for entry in self.devices:
            if entry.name == wanted:
                return entry
        if len(wanted) >= SHORTEST_PREFIX:
            found = [entry for entry in self.devices if entry.id and entry.id.startswith(wanted)]
            if len(found) == 1:
                return found[0]
        names = ", ".join(entry.name for entry in self.devices[:12]) or "none yet"
        raise UsageFault(
            f"no device {wanted!r} in the inventory",
            reason="unknown_device",
            next_step=f"use one of: {names}; or add it with `fieldops device add`",
        )


_DEVICE_KEYS = {"name", "site", "class", "ssh", "lan", "id", "formerly", "tags", "owner"}


def _header_lines(text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*device\s*\]\]", line)]


def _key_line(lines: list[str], start: int, stop: int, key: str) -> int:
    for number in range(start, stop):
        if re.match(rf'\s*"?{re.escape(key)}"?\s*=', lines[number - 1]):
            return number
    return start


def parse_inventory(text: str, file: str) -> Inventory:
    """fleet.toml as a value. Raises UsageFault that carries every fault with its line, not only the first."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        line = int(match[1]) if match else None
        raise UsageFault.in_file(file, [Fault(file, line, str(error), "valid TOML")]) from None
    lines = text.splitlines()
    faults = [
        Fault(file, _key_line(lines, 1, len(lines) + 1, key), f"unknown key {key!r}", "[[device]] tables")
        for key in document.keys() - {"device"}
    ]
    tables = document.get("device", [])
    if not isinstance(tables, list):
        raise UsageFault.in_file(file, [Fault(file, None, "`device` is no list of tables", "[[device]] tables")])
    starts = _header_lines(text)
    starts += [1] * (len(tables) - len(starts))
    devices: list[DeviceEntry] = []
    names: dict[str, int] = {}
    for index, table in enumerate(tables):
        start = starts[index]
        stop = starts[index + 1] if index + 1 < len(starts) else len(lines) + 1
        at = _Lines(file, lines, start, max(stop, start + 1))
        entry, found = _device(table, at)
        faults += found
        if entry is None:
            continue
        if entry.name in names:
            faults.append(Fault(file, at.line("name"), f"name {entry.name!r} again", f"another than line {names[entry.name]}'s"))
        names.setdefault(entry.name, at.line("name"))
        devices.append(entry)
    if faults:
        raise UsageFault.in_file(file, sorted(faults, key=lambda fault: fault.line or 0))
    return Inventory(tuple(devices))


class _Lines(Struct, frozen=True):
    file: str
    lines: list[str]
    start: int
    stop: int

    def line(self, key: str) -> int:
        return _key_line(self.lines, self.start, self.stop, key)

    def fault(self, key: str, found: str, expected: str) -> Fault:
        return Fault(self.file, self.line(key), found, expected)


class _Table:
    """One `[[device]]` table being read: values out, faults collected."""

    def __init__(self, table: dict[str, object], at: _Lines) -> None:
        self.table = table
        self.at = at
        self.faults = [
            at.fault(key, f"unknown key {key!r}", "one of " + ", ".join(sorted(_DEVICE_KEYS)))
            for key in table.keys() - _DEVICE_KEYS
        ]

    def reject(self, key: str, expected: str) -> None:
        found = f"{key} = {self.table[key]!r}" if key in self.table else f"no {key}"
        self.faults.append(self.at.fault(key, found, expected))

    def text(self, key: str) -> str:
        value = self.table.get(key, "")
        if isinstance(value, str):
            return value
        self.reject(key, "a text in quotes")
        return ""

    def name(self) -> str:
        name = self.text("name")
        if not NAME_PATTERN.fullmatch(name) and isinstance(self.table.get("name", ""), str):
            self.reject("name", "lower-case letters, digits, `.`, `_`, `-`, at most 63")
        return name

    def id(self, key: str) -> DeviceId | None:
        value = self.text(key)
        if value and not ID_PATTERN.fullmatch(value):
            self.reject(key, "52 characters a-z and 2-7")
        return DeviceId(value) if value else None

    def address(self, key: str, parse: Callable[[str], A]) -> A | None:
        if key not in self.table:
            return None
        try:
            return parse(self.text(key))
        except ValueError as error:
            self.reject(key, str(error))
            return None

    def tags(self) -> tuple[str, ...]:
        tags = self.table.get("tags", [])
        if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
            return tuple(tags)
        self.reject("tags", "a list of texts")
        return ()


def _device(table: dict[str, object], at: _Lines) -> tuple[DeviceEntry | None, list[Fault]]:
    read = _Table(table, at)
    entry = DeviceEntry(
        name=read.name(),
        site=read.text("site"),
        device_class=read.text("class"),
        ssh=read.address("ssh", parse_ssh_address),
        lan=read.address("lan", parse_address),
        id=read.id("id"),
        formerly=read.id("formerly"),
        tags=read.tags(),
        owner=read.text("owner"),
    )
    if "ssh" not in table and "lan" not in table:
        read.faults.append(at.fault("name", f"{entry.name or 'a device'} without an address", "ssh = or lan ="))
    return (None if read.faults else entry), read.faults


def toml_table(entry: DeviceEntry) -> str:
    """The `[[device]]` table of an entry, as it is appended to fleet.toml."""

    def pairs() -> Iterator[tuple[str, str]]:
        yield "name", entry.name
        if entry.site:
            yield "site", entry.site
        if entry.device_class:
            yield "class", entry.device_class
        if entry.ssh:
            yield "ssh", str(entry.ssh)
        if entry.lan:
            yield "lan", str(entry.lan)
        if entry.id:
            yield "id", entry.id
        if entry.formerly:
            yield "formerly", entry.formerly
        if entry.owner:
            yield "owner", entry.owner

    lines = ["[[device]]", *(f"{key} = {_quoted(value)}" for key, value in pairs())]
    if entry.tags:
        lines.append(f"tags = [{', '.join(_quoted(tag) for tag in entry.tags)}]")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = "".join(
        f"\\{char}"
        if char in '"\\'
        else char
        if char.isprintable()
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in text
    )
    return f'"{escaped}"'


def worst_first(states: Iterable[str]) -> list[str]:
    """Health words sorted as the console shows them."""
    order = {"FAIL": 0, "WARN": 1, "OFF": 2, "OK": 3}
    return sorted(states, key=lambda state: order.get(state, 4))


# --- what a device measures of itself ----------------------------------------------------------------------------------


class Serving(Struct, frozen=True, kw_only=True):
    """How one model answered over the last minute. None: not enough answers, or no baseline yet."""

    model: str
    version: str
    requests: int  # since the agent started
    failed: int  # since the agent started; a request that got an error or no answer in its deadline
    rate_per_s: float  # over the last minute
    p50_ms: float | None = None
    p95_ms: float | None = None
    baseline_p50_ms: float | None = None
    routes: dict[str, int] = {}  # answers by route since start: core, large, deadline, rule
    rested: dict[str, int] = {}  # why the large model was not asked, though the core was unsure: thermal, battery, load, ...


class Hardware(Struct, frozen=True, kw_only=True):
    """What models can run on here, as a process of the model runtime saw it. opset None: it could not be tried."""

    machine: str
    cores: int
    isa: list[str]  # as the kernel names them; empty: not told here
    runtime: str
    providers: list[str]  # execution providers that the runtime offers, best first
    opset: int | None


class Resources(Struct, frozen=True, kw_only=True):
    """What a device knows of its hardware at one instant. None always means "not measurable here", never 0."""

    read_at: float  # Unix seconds by the device's own clock
    boot_id: str
    uptime_s: float
    cpu_count: int
    cpu_pct: float | None = None  # 0..100 of all cores, since the last reading
    load_1m: float | None = None
    mem_total_bytes: int | None = None
    mem_available_bytes: int | None = None
    disk_total_bytes: int | None = None  # of the file system that holds the models
    disk_free_bytes: int | None = None
    quota_bytes: int | None = None  # storage.quota_bytes of agent.toml
    quota_used_bytes: int | None = None
    soc_temp_c: float | None = None
    temp_limit_c: float | None = None
    throttled: bool | None = None
    throttle_reason: str = ""
    clock_mhz: float | None = None
    clock_max_mhz: float | None = None
    power_w: float | None = None
    battery_pct: float | None = None  # of the emptiest battery; None: none is there
    on_battery: bool | None = None  # discharging; None: not measurable
    agent_rss_bytes: int | None = None
    hardware: Hardware | None = None  # None: not looked at yet
    serving: list[Serving] = []

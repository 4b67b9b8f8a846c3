"""config.toml of the laptop: what this person and this machine want. Everything has a default; the file may be absent.

    theme = "sunlight"                   # of themes/ or of the folder `themes` in the home
    data = "/opt/fieldops"               # holds themes/ and sample_fleet/; default: what came with the program
    [person]
    key = "~/.ssh/id_ed25519"            # who you are: the SSH key that the signed policy lists
    [store]
    url = "https://store.example:8443"   # the central store; without one, entries stay queued
    [ssh]
    identities = ["~/.ssh/id_ed25519"]   # keys offered to devices; default: the person's key, then the usual ones
    config = "~/.ssh/other"              # instead of the person's SSH configuration; "none": of none, and no
                                         # known_hosts but this laptop's own
    [sticks]
    folders = ["/srv/stick"]             # looked at like removable media, first
    site = "http://192.0.2.10:8080"      # site server: where it answers, its newer signed metadata counts
    [keys]
    "view.refresh" = "f5"                # the console's keys by binding id

Relative paths count from the folder of the file. All faults of a file are told at once, each with its line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from fieldops.errors import Fault, UsageFault


@dataclass(frozen=True, slots=True)
class Config:
    """None and empty: not set. keys: console binding id -> keys. ssh_alone: nothing of the person's or the system's SSH files counts."""

    theme: str | None = None
    data: Path | None = None
    person_key: Path | None = None
    store_url: str | None = None
    ssh_identities: tuple[Path, ...] = ()
    ssh_config: Path | None = None
    ssh_alone: bool = False
    stick_folders: tuple[Path, ...] = ()
    site: str | None = None
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_TOP = ("theme", "data", "person", "store", "ssh", "sticks", "keys")
_IN_TABLE = {"person": ("key",), "store": ("url",), "ssh": ("identities", "config"), "sticks": ("folders", "site")}


def parse_config(text: str, file: str, *, base: Path, user_home: Path) -> Config:
    """base: folder that relative paths count from; user_home: what `~` stands for. Raises UsageFault with every fault."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        fault = Fault(file, int(match[1]) if match else None, str(error), "valid TOML")
        raise UsageFault.in_file(file, [fault]) from None
    reading = _Reading(file, dict(_key_lines(text)), base, user_home, document)
    reading.refuse_unknown()
    config = Config(
        theme=reading.text("theme"),
        data=reading.path("data"),
        person_key=reading.path("person.key"),
        store_url=reading.url("store.url"),
        ssh_identities=reading.paths("ssh.identities"),
        ssh_config=reading.path("ssh.config"),
        ssh_alone=reading.value("ssh.config") == "none",
        stick_folders=reading.paths("sticks.folders"),
        site=reading.url("sticks.site"),
        keys=reading.table_of_texts("keys"),
    )
    if reading.faults:
        raise UsageFault.in_file(file, sorted(reading.faults, key=lambda fault: fault.line or 0))
    return config


def _key_lines(text: str) -> Iterator[tuple[str, int]]:
    """(dotted key, line) of every header and assignment; tomllib gives no lines. Multi-line values may add false keys."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([\w.\"-]+)\s*\]+", line)
        if header:
            table = header[1].replace('"', "")
            yield table, number
            continue
        assigned = re.match(r"\s*(\"[^\"]*\"|'[^']*'|[\w.-]+)\s*=", line)
        if assigned:
            key = assigned[1].strip("\"'")
            yield (f"{table}.{key}" if table else key), number


class _Reading:
    """Takes fields out of the document one by one and collects what is wrong with them."""

    def __init__(self, file: str, lines: dict[str, int], base: Path, user_home: Path, document: dict[str, object]) -> None:
        self.file = file
        self.lines = lines
        self.base = base
        self.user_home = user_home
        self.document = document
        self.faults: list[Fault] = []

    def fault(self, key: str, found: str, expected: str) -> None:
        line = self.lines.get(key, self.lines.get(key.partition(".")[0]))
        self.faults.append(Fault(self.file, line, found, expected))

    def refuse_unknown(self) -> None:
        for key, value in self.document.items():
            if key not in _TOP:
                self.fault(key, f"unknown key {key!r}", "one of " + ", ".join(_TOP))
            elif key in _IN_TABLE and isinstance(value, dict):
                for inner in value.keys() - set(_IN_TABLE[key]):
                    self.fault(f"{key}.{inner}", f"unknown key {inner!r} in [{key}]", "one of " + ", ".join(_IN_TABLE[key]))

    def value(self, key: str) -> object:
        """None: absent."""
        table, dot, inner = key.partition(".")
        found = self.document.get(table)
        if not dot or found is None:
            return found
        if not isinstance(found, dict):
            if table not in {fault.found.partition(" ")[0] for fault in self.faults}:
                self.fault(table, f"{table} = {found!r}", f"a table [{table}]")
            return None
        return found.get(inner)

    def text(self, key: str, expected: str = "a text in quotes") -> str | None:
        value = self.value(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self.fault(key, f"{key} = {value!r}", expected)
        return None

    def path(self, key: str) -> Path | None:
        text = self.text(key, "a path in quotes")
        return self.resolve(text) if text else None

    def resolve(self, text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            return self.user_home / text[2:]
        return self.base / text

    def paths(self, key: str) -> tuple[Path, ...]:
        return tuple(self.resolve(text) for text in self.texts(key, bool, "a list of paths in quotes"))

    def texts(self, key: str, fits: Callable[[str], bool], expected: str) -> tuple[str, ...]:
        value = self.value(key)
        if value is None:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) and fits(item) for item in value):
            return tuple(value)
        self.fault(key, f"{key} = {value!r}", expected)
        return ()

    def url(self, key: str) -> str | None:
        text = self.text(key, "an http or https address in quotes")
        if text is not None and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
            self.fault(key, f"{key} = {text!r}", "an http or https address such as https://site.example:8443")
            return None
        return text

    def table_of_texts(self, key: str) -> Mapping[str, str]:
        value = self.value(key)
        if value is None:
            return MappingProxyType({})
        if not isinstance(value, dict):
            self.fault(key, f"{key} = {value!r}", f"a table [{key}]")
            return MappingProxyType({})
        for inner, text in value.items():
            if not isinstance(text, str) or not text:
                self.fault(f"{key}.{inner}", f"{inner} = {text!r}", 'a key or keys in quotes, such as "f5" or "ctrl+r,f5"')
        return MappingProxyType({inner: text for inner, text in value.items() if isinstance(text, str)})

"""An agent's installation kit: which machine it is for, and which files, by digest. Pure; edges/kit.py makes and reads one.

A kit is a folder: kit.json, requirements.txt (every wheel by version and hash) and wheels/. What a device installs comes from
there and from nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from fieldops.decoding import decoder
from fieldops.errors import Fault, UsageFault

KIT_FILE = "kit.json"
REQUIREMENTS_FILE = "requirements.txt"
WHEELS = "wheels"
KIT_LIMIT_BYTES = 256 * 1024
MOST_FILES = 200
OLDEST_GLIBC: Final = (2, 28)  # Debian 10, RHEL 8, Ubuntu 18.10 and all after them
OLDEST_PYTHON: Final = (3, 11)

# name as a person writes it -> (machine as `uname -m` says it, C library)
PLATFORMS: Final[dict[str, tuple[str, str]]] = {
    "linux-x86_64": ("x86_64", "glibc"),
    "linux-aarch64": ("aarch64", "glibc"),
    "linux-armv7l": ("armv7l", "glibc"),
    "linux-i686": ("i686", "glibc"),
    "linux-riscv64": ("riscv64", "glibc"),
    "musl-x86_64": ("x86_64", "musl"),
    "musl-aarch64": ("aarch64", "musl"),
}

# As a signed target a kit is one archive: `<channel>/fieldops-agent-<platform>-py<X.Y>/<version>/kit.zip`.
KIT_TARGET = "kit.zip"
AGENT_PREFIX = "fieldops-agent-"
MOST_KIT_BYTES = 512 << 20

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!-]+)((?:\s+--hash=sha256:[0-9a-f]{64})+)")


class KitEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str  # base name under wheels/
    sha256: str
    size: int


class Kit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kit.json. python: "3.11". requirements: sha256 of requirements.txt."""

    schema: str = "fieldops.kit/v1"
    version: str  # of fieldops
    platform: str
    python: str
    requirements: str
    files: list[KitEntry]

    @property
    def machine(self) -> str:
        return PLATFORMS[self.platform][0]

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def id(self) -> str:
        """Names the software on the device: equal kits, equal ids."""
        return self.requirements[:12]

    @property
    def agent(self) -> str:
        """What it is called among the signed targets."""
        return agent_name(self.platform, self.python)


@dataclass(frozen=True, slots=True)
class Pinned:
    """One line of the lock."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        return " \\\n    ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in self.hashes)]) + "\n"


def agent_name(platform: str, python: str) -> str:
    """Where a model has its name, an agent's software has this: the kind of device that can run it."""
    return f"{AGENT_PREFIX}{platform}-py{python}"


def is_agent(name: str) -> bool:
    """No model may be called so."""
    return name.startswith(AGENT_PREFIX)


def agent_version(text: str) -> tuple[int, int, int]:
    """Agents are ordered by version alone. Raises UsageFault for what is not three numbers."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageFault(
            f"{text[:40]!r} is no version of an agent", reason="bad_kit", next_step="use three numbers, such as 1.4.0"
        )
    return int(match[1]), int(match[2]), int(match[3])


def parse_lock(text: str, file: str) -> tuple[Pinned, ...]:
    """Raises UsageFault: every line is `name==version` with hashes, and nothing else (no addresses, no options)."""
    joined = re.sub(r"\\\n", " ", text)
    pins: list[Pinned] = []
    faults: list[Fault] = []
    for number, line in enumerate(joined.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _PIN.fullmatch(line.strip())
        if match is None:
            faults.append(Fault(file, number, line.strip()[:80], "name==version with its hashes"))
            continue
        pins.append(Pinned(match[1], match[2], tuple(re.findall(r"[0-9a-f]{64}", match[3]))))
    if faults:
        raise UsageFault.in_file(file, faults)
    return tuple(pins)


def check_target(platform: str, python: str) -> None:
    """Raises UsageFault for what is no platform or Python version at all."""
    if platform not in PLATFORMS:
        raise UsageFault(
            f"no platform {platform!r}", reason="usage", next_step=f"use one of: {', '.join(PLATFORMS)} (`fieldops device show`)"
        )
    match = re.fullmatch(r"(\d+)\.(\d+)", python)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_PYTHON:
        raise UsageFault(
            f"the agent needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer, not {python!r}",
            reason="usage",
            next_step="write the device's version as `python3 --version` says it, such as 3.11",
        )


def wheel_platforms(platform: str) -> list[str]:
    """The wheel tags that run there, the newest first."""
    machine, libc = PLATFORMS[platform]
    if libc == "musl":
        return [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    major, newest = OLDEST_GLIBC
    tags = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)]
    return [*tags, *(f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")), f"linux_{machine}"]


def decode_kit(data: bytes, file: str) -> Kit:
    """Raises UsageFault."""

    def bad(why: str) -> UsageFault:
        return UsageFault(f"{file}: {why}", reason="bad_kit", next_step="build the kit again: `fieldops kit build`")

    if len(data) > KIT_LIMIT_BYTES:
        raise bad(f"{len(data)} bytes")
    try:
        kit = decoder(Kit).decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad(str(error)) from error
    if kit.schema != Kit.__struct_defaults__[0] or kit.platform not in PLATFORMS or len(kit.files) > MOST_FILES:
        raise bad("not a kit this version reads")
    for entry in kit.files:
        if not _NAME.fullmatch(entry.name) or not re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or entry.size < 0:
            raise bad(f"{entry.name[:80]!r} is no file of a kit")
    return kit

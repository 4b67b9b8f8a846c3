"""What a device without an agent can support, and why not more: the tiers of docs/links.md, as a function of its facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fieldops.bundles.kit import OLDEST_GLIBC, OLDEST_PYTHON

Tier = Literal["full", "small", "look"]

WITH_WHEELS = ("x86_64", "aarch64")  # the runtime has wheels for these, on glibc
LEAST_BYTES = 230 << 20  # a board sold as 256 MB tells less
ROOMY_BYTES = 460 << 20
LEAST_DISK_BYTES = 400 << 20
WORDS: dict[Tier, str] = {
    "full": "the agent, with two models side by side while one is on trial",
    "small": "the agent; the old model is unloaded before a new one is tried, and the rule answers meanwhile",
    "look": "facts and resources over SSH; no agent, so no models and no changes",
}


@dataclass(frozen=True, slots=True)
class Support:
    """why: what stands in the way of the next tier. kit: the words for `fieldops kit build`; "" when there is none."""

    tier: Tier
    why: tuple[str, ...]
    kit: str

    @property
    def text(self) -> str:
        return f"{self.tier}: {WORDS[self.tier]}"


def support_of(
    *, machine: str, bits: str, libc: str, python: str, memory_bytes: int | None, disk_free_bytes: int | None
) -> Support:
    """Machine as `uname -m`, bits of the programs there, libc as `glibc 2.36` or `musl`, python as `3.11`; "" unknown."""
    why = [*_processor(machine, bits), *_library(libc), *_python(python)]
    if memory_bytes is not None and memory_bytes < LEAST_BYTES:
        why.append(f"{memory_bytes >> 20} MB of memory; the agent and one model need {LEAST_BYTES >> 20}")
    if disk_free_bytes is not None and disk_free_bytes < LEAST_DISK_BYTES:
        why.append(f"{disk_free_bytes >> 20} MB of disk are free; the agent needs {LEAST_DISK_BYTES >> 20}")
    if why:
        return Support("look", tuple(why), "")
    kit = f"--platform linux-{machine} --python {python}"
    if memory_bytes is None or memory_bytes < ROOMY_BYTES:
        told = "memory is not known" if memory_bytes is None else f"{memory_bytes >> 20} MB of memory"
        return Support("small", (f"{told}; two models side by side need {ROOMY_BYTES >> 20}",), kit)
    return Support("full", (), kit)


def _processor(machine: str, bits: str) -> list[str]:
    if bits == "32" or re.fullmatch(r"i[3-6]86|arm(v[5-8]\w*)?", machine):
        return [f"32-bit ({machine or 'unknown'}): the model runtime has no wheel for it"]
    if machine not in WITH_WHEELS:
        return [f"{machine or 'an unknown machine'}: the model runtime has wheels for {' and '.join(WITH_WHEELS)}"]
    return []


def _library(libc: str) -> list[str]:
    if libc == "musl":
        return ["musl: the model runtime needs glibc"]
    match = re.fullmatch(r"glibc (\d{1,3})\.(\d{1,3})(\.\d+)?", libc)
    if match is None:
        return ["the C library is not known; the model runtime needs glibc"]
    if (int(match[1]), int(match[2])) < OLDEST_GLIBC:
        return [f"{libc}: the wheels need glibc {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]}"]
    return []


def _python(python: str) -> list[str]:
    wanted = f"{OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}"
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", python)
    if match is None:
        return [f"no Python; the agent needs {wanted} or newer"]
    if (int(match[1]), int(match[2])) < OLDEST_PYTHON:
        return [f"Python {python}; the agent needs {wanted} or newer"]
    return []

"""The manifest of a bundle: what the release team promises of one version of one model. It is a signed target itself.

A bundle never brings its own bar: accuracy floors stand in the task's golden set, which the policy role signs.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

VERSION_PATTERN = re.compile(r"[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(-[a-z0-9]{1,20})?")
MANIFEST_FILE = "manifest.json"
MANIFEST_LIMIT_BYTES = 256 * 1024


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class FileEntry(_Part, frozen=True, kw_only=True):
    """One payload file, by its base name in the bundle's target folder."""

    name: str
    sha256: str
    size: int


class Tensor(_Part, frozen=True, kw_only=True):
    """shape: -1 is the batch dimension. dtype: a numpy name, such as float32."""

    name: str
    dtype: str
    shape: list[int]


class Tier(_Part, frozen=True, kw_only=True):
    """One graph of the cascade. threshold: top probability (0..1) below which the next tier is asked; None on the last."""

    name: Literal["core", "large"]
    file: str
    variant: str  # fp32, int8
    threshold: float | None = None
    accuracy: float | None = None  # measured by `release add` on the golden set; None: not measured
    p50_ms: float | None = None  # measured there, on the release machine
    memory_bytes: int | None = None


class Rule(_Part, frozen=True, kw_only=True):
    """What answers when no model can: always this label, with no confidence."""

    label: int
    text: str


class Objectives(_Part, frozen=True, kw_only=True):
    """Ceilings the candidate must keep on the device during validation and probation."""

    p95_ms: float  # of one request through the cascade, at batch 1
    memory_bytes: int  # of the worker above its own baseline
    error_rate: float = 0.0  # 0..1 of requests
    power_w: float | None = None  # of the device above idle while it answers; None: nobody can say
    thermal_margin_c: float | None = None  # kept below the device's throttle point; None: likewise


class Baseline(_Part, frozen=True, kw_only=True):
    """What the release team saw on one class of device; a device's own baseline is measured there."""

    p50_ms: float
    p95_ms: float
    memory_bytes: int
    runtime: str = ""  # ORT version, EP and ISA it was seen under


class Needs(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """What a device must offer. Empty lists: any. Left out where not asked for, so that older agents read the rest."""

    device_classes: list[str] = []
    machines: list[str] = []  # platform.machine(): x86_64, aarch64, ...
    ram_bytes: int = 0
    disk_bytes: int = 0
    opset: int = 0
    providers: list[str] = []  # ONNX Runtime execution providers; one of them
    isa: list[str] = []  # instruction sets as the kernel names them (avx2, asimddp); all of them
    battery_pct: float | None = None  # lowest charge of a battery that is not being charged; None: any


class Manifest(_Part, frozen=True, kw_only=True):
    v: int
    model: str
    task: str  # names the golden set that judges it
    version: str
    counter: int  # grows with every release of this model; the device's floor compares these
    owner: str
    tiers: list[Tier]  # in the order they are asked
    inputs: list[Tensor]
    outputs: list[Tensor]
    objectives: Objectives
    fallback: Rule
    files: list[FileEntry]
    needs: Needs = Needs()
    replay: str | None = None  # file with the outputs recorded at release for the golden inputs (npz); None: not recorded
    replay_key: str = ""  # ORT version, EP and ISA under which replay is bit-equal; elsewhere a tolerance holds
    sketch: str | None = None  # file with the reference sketch (json); None: no drift can be told
    baseline: dict[str, Baseline] = {}  # by device class
    licence: str = ""
    card: str | None = None  # model card (markdown)

    def file(self, name: str) -> FileEntry:
        """Raises KeyError when the manifest does not list it."""
        for entry in self.files:
            if entry.name == name:
                return entry
        raise KeyError(name)

"""May this version come here at all? The whole plan is judged before its first byte: room, memory, runtime, heat, power.

Pure. What the device cannot measure is not judged. Each refusal names what is needed and what was found; all of them are
told at once, so that nobody walks to the device twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from fieldops.bundles.manifest import Manifest
from fieldops.errors import DeviceCannot

LINKS_BYTES = 4096  # what unpacking takes for each file: its name in the bundle's folder, the bytes are shared
JOURNAL_BYTES = 1 << 20  # registry and journal of the whole change, its write-ahead log included
RESERVE_BYTES = 8 << 20  # kept free for everything else on that disk
WORKER_BYTES = 96 << 20  # a worker before it loads a model: interpreter and runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes. free: of the file system; quota_left: of the models' quota; None: not limited, or not measurable.

    Active and last-good are on that disk already and stay; what is free is free beside them.
    """

    download: int
    files: int
    free: int | None
    quota_left: int | None = None

    @property
    def needed(self) -> int:
        return self.download + self.unpack + JOURNAL_BYTES + RESERVE_BYTES

    @property
    def unpack(self) -> int:
        return self.files * LINKS_BYTES

    @property
    def lacking(self) -> str:
        """Empty when there is room, else what is needed and what was found."""
        if self.free is not None and self.needed > self.free:
            parts = f"{self.download} to come, {self.unpack} to unpack, {JOURNAL_BYTES} journal, {RESERVE_BYTES} reserve"
            return f"needs {self.needed} bytes; {self.free} are free on the disk ({parts})"
        if self.quota_left is not None and self.download > self.quota_left:
            return f"needs {self.download} bytes; {max(0, self.quota_left)} are free of the quota"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The device now. None: not measurable, therefore not judged."""

    ram_bytes: int | None = None
    ram_available_bytes: int | None = None
    ram_freed_bytes: int = 0  # what the active version's worker gives back when it makes way
    isa: frozenset[str] | None = None
    opset: int | None = None
    providers: tuple[str, ...] | None = None
    throttled: bool | None = None
    soc_temp_c: float | None = None
    temp_limit_c: float | None = None
    on_battery: bool | None = None
    battery_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Shortfall:
    reason: str
    needed: str
    found: str
    next_step: str

    def __str__(self) -> str:
        return f"needs {self.needed}; here is {self.found}"


def shortfalls(manifest: Manifest, now: Condition) -> tuple[Shortfall, ...]:
    """Everything that stands in the way, what lasts before what passes."""
    return (*_lasting(manifest, now), *trial_shortfalls(manifest, now))


def _lasting(manifest: Manifest, now: Condition) -> tuple[Shortfall, ...]:
    needs = manifest.needs
    other = "choose a version made for this hardware"
    found: list[Shortfall] = []
    if now.ram_bytes is not None and now.ram_bytes < needs.ram_bytes:
        found.append(Shortfall("ram", f"{needs.ram_bytes} bytes of memory", f"{now.ram_bytes}", other))
    if now.isa and (missing := sorted(set(needs.isa) - now.isa)):
        found.append(Shortfall("isa", f"instructions {', '.join(needs.isa)}", f"none of {', '.join(missing)}", other))
    if now.opset is not None and now.opset < needs.opset:
        found.append(Shortfall("opset", f"ONNX opset {needs.opset}", f"at most {now.opset}", "update ONNX Runtime on the device"))
    if needs.providers and now.providers is not None and not set(needs.providers) & set(now.providers):
        have = ", ".join(now.providers) or "no provider"
        found.append(Shortfall("provider", f"one of {', '.join(needs.providers)}", have, other))
    return tuple(found)


def trial_shortfalls(manifest: Manifest, now: Condition) -> tuple[Shortfall, ...]:
    """What forbids a trial at this moment: memory, heat, power. Asked again when the trial begins."""
    found: list[Shortfall] = []
    if now.ram_available_bytes is not None:
        needed, there = worker_needs(manifest), now.ram_available_bytes + now.ram_freed_bytes
        if there < needed:
            found.append(
                Shortfall("memory", f"{needed} bytes of memory for its worker", f"{there} available", "end what else runs there")
            )
    margin = manifest.objectives.thermal_margin_c
    if margin is not None and now.throttled:
        found.append(Shortfall("thermal", "a clock that is not throttled", "a throttled one", "let the device cool down"))
    elif margin is not None and now.soc_temp_c is not None and now.temp_limit_c is not None:
        highest = now.temp_limit_c - margin
        if now.soc_temp_c > highest:
            here = f"{now.soc_temp_c:.1f} °C"
            found.append(Shortfall("thermal", f"at most {highest:.1f} °C", here, "let the device cool down"))
    lowest = manifest.needs.battery_pct
    if lowest is not None and now.on_battery and now.battery_pct is not None and now.battery_pct < lowest:
        here = f"{now.battery_pct:.0f} %, discharging"
        found.append(Shortfall("battery", f"a battery of at least {lowest:.0f} %", here, "connect the device to power"))
    return tuple(found)


def worker_needs(manifest: Manifest) -> int:
    """Bytes: a bare worker, and what its tiers were measured to take, where that was told."""
    return WORKER_BYTES + sum(tier.memory_bytes or 0 for tier in manifest.tiers)


def refusal(manifest: Manifest, found: tuple[Shortfall, ...]) -> DeviceCannot | None:
    """One error for all; its reason is the first one's. None: nothing is in the way."""
    if not found:
        return None
    steps = "; ".join(dict.fromkeys(each.next_step for each in found))
    return DeviceCannot(
        f"{manifest.model} {manifest.version} {', and '.join(map(str, found))}", reason=found[0].reason, next_step=steps
    )

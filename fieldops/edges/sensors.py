"""What a device measures of itself: psutil for the machine, files under a sysfs root for heat, clock and power.

None means "not measurable here" and never 0. The sysfs root is configurable, so the sample fleet and tests can show any
board. Sources: kernel docs thermal/sysfs-api, hwmon/sysfs-interface, cpufreq; Raspberry Pi `get_throttled` bits 0-3.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from fieldops.edges import cgroup
from fieldops.fleet import Resources

_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_COOLERS_OF_CPU = ("processor", "cpufreq", "cpu")


BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id(file: Path = BOOT_ID) -> str:
    """Changes at every start of the machine and at no other time. file: where the kernel says it, or who stands for it."""
    with contextlib.suppress(OSError):
        return file.read_text("ascii").strip()
    return hashlib.sha256(f"boot {psutil.boot_time():.0f}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Heat:
    """throttled None: this board does not say. reason: in words, "" when it is not throttled."""

    soc_temp_c: float | None
    limit_c: float | None
    throttled: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Supply:
    """on_battery: nothing charges it. pct: of the emptiest battery. None: not measurable, or no battery."""

    on_battery: bool | None
    pct: float | None


class Sensors:
    """root: `/sys`, or a tree that looks like it. models: the folder whose file system is reported. boot: see boot_id."""

    def __init__(self, root: Path, models: Path, quota_bytes: int | None, boot: Path = BOOT_ID) -> None:
        self._boot = boot
        self._root = root
        self._models = models
        self._quota = quota_bytes
        self._process = psutil.Process()
        self._throttle_counts: int | None = None
        psutil.cpu_percent(None)  # the first call only sets the mark that the next one measures from

    def heat(self) -> Heat:
        temperatures = sorted(self._temperatures(), reverse=True)
        throttled, reason = self._throttled()
        limits = [value / 1000 for value in self._limits() if value > 0]
        return Heat(temperatures[0] if temperatures else None, min(limits) if limits else None, throttled, reason)

    def supply(self) -> Supply:
        """Kernel docs power_supply: batteries say their charge in percent and whether they are being used up."""
        charge: list[int] = []
        draining: list[bool] = []
        for folder in sorted(self._root.glob("class/power_supply/*")):
            if _text(folder / "type") != "Battery" or _text(folder / "scope") == "Device":  # a mouse has one too
                continue
            percent = _number(folder / "capacity")
            if percent is not None and 0 <= percent <= 100:
                charge.append(percent)
            status = _text(folder / "status")
            if status and status != "Unknown":
                draining.append(status == "Discharging")
        return Supply(any(draining) if draining else None, float(min(charge)) if charge else None)

    def memory(self) -> tuple[int, int]:
        """(total, available) bytes: of the machine, or of the control groups that hold the agent, where that is less."""
        memory = psutil.virtual_memory()
        group = cgroup.memory(self._root, cgroup.own_groups())
        if group is None:
            return memory.total, memory.available
        return min(memory.total, group.limit), min(memory.available, group.left)

    def read(self, quota_used_bytes: int | None) -> Resources:
        """Everything but `serving`. Reads of /proc and /sys take well under a millisecond each."""
        memory, disk, heat, supply = self.memory(), self._disk(), self.heat(), self.supply()
        now = time.time()
        return Resources(
            read_at=now,
            boot_id=boot_id(self._boot),
            uptime_s=max(0.0, now - psutil.boot_time()),
            cpu_count=psutil.cpu_count() or 1,
            cpu_pct=psutil.cpu_percent(None),
            load_1m=_load(),
            mem_total_bytes=memory[0],
            mem_available_bytes=memory[1],
            disk_total_bytes=disk[0] if disk else None,
            disk_free_bytes=disk[1] if disk else None,
            quota_bytes=self._quota,
            quota_used_bytes=quota_used_bytes,
            soc_temp_c=heat.soc_temp_c,
            temp_limit_c=heat.limit_c,
            throttled=heat.throttled,
            throttle_reason=heat.reason,
            clock_mhz=_scaled(_number(self._cpufreq("scaling_cur_freq")), 1000),
            clock_max_mhz=_scaled(_number(self._cpufreq("cpuinfo_max_freq")), 1000),
            power_w=self.power(),
            battery_pct=supply.pct,
            on_battery=supply.on_battery,
            agent_rss_bytes=self._process.memory_info().rss,
        )

    def load_per_core(self) -> float | None:
        """The load average of the last minute, shared among the cores."""
        load = _load()
        return None if load is None else load / (psutil.cpu_count() or 1)

    def free_bytes(self) -> int | None:
        """What may still be written beside the models; None when it cannot be told."""
        disk = self._disk()
        return disk[1] if disk else None

    def _disk(self) -> tuple[int, int] | None:
        try:
            usage = psutil.disk_usage(str(self._models))
        except OSError:
            return None
        return usage.total, usage.free

    def _cpufreq(self, name: str) -> Path:
        return self._root / "devices/system/cpu/cpu0/cpufreq" / name

    def _temperatures(self) -> Iterator[float]:
        for pattern in ("class/thermal/thermal_zone*/temp", "class/hwmon/hwmon*/temp*_input"):
            for file in self._root.glob(pattern):
                value = _number(file)
                if value is not None and -40_000 <= value <= 200_000:
                    yield value / 1000

    def _limits(self) -> Iterator[int]:
        for kind in sorted(self._root.glob("class/thermal/thermal_zone*/trip_point_*_type")):
            limit = _number(kind.with_name(kind.name.replace("_type", "_temp")))
            if _text(kind) in {"passive", "hot", "critical"} and limit is not None:
                yield limit
        for pattern in ("class/hwmon/hwmon*/temp*_max", "class/hwmon/hwmon*/temp*_crit"):
            for file in self._root.glob(pattern):
                limit = _number(file)
                if limit is not None:
                    yield limit

    def _throttled(self) -> tuple[bool | None, str]:
        """The first source that says yes decides; None when there is no source at all."""
        said: list[tuple[bool, str]] = [*self._by_firmware(), *self._by_coolers(), *self._by_counters()]
        if not said:
            return None, ""
        for throttled, reason in said:
            if throttled:
                return True, reason
        return False, ""

    def _by_firmware(self) -> Iterator[tuple[bool, str]]:
        for file in self._root.glob("devices/platform/soc*/*firmware*/get_throttled"):
            text = _text(file)
            with contextlib.suppress(ValueError):
                bits = int(text.removeprefix("throttled=").removeprefix("0x"), 16)
                words = [word for bit, word in _PI_BITS.items() if bits >> bit & 1]
                yield bool(words), ", ".join(words)

    def _by_coolers(self) -> Iterator[tuple[bool, str]]:
        for folder in sorted(self._root.glob("class/thermal/cooling_device*")):
            kind, state = _text(folder / "type"), _number(folder / "cur_state")
            if state is not None and any(word in kind.lower() for word in _COOLERS_OF_CPU):
                yield state > 0, f"{kind} cooling step {state}"

    def _by_counters(self) -> Iterator[tuple[bool, str]]:
        """Intel counts throttle events for ever: only a rise since the last reading means now."""
        files = list(self._root.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"))
        counts = [count for count in map(_number, files) if count is not None]
        if counts:
            total, before = sum(counts), self._throttle_counts
            self._throttle_counts = total
            yield before is not None and total > before, "thermal throttle events"

    def power(self) -> float | None:
        """Watts: what the board's power monitor says, else the sum of its rails (mV x mA)."""
        for file in sorted(self._root.glob("class/hwmon/hwmon*/power*_input")):
            microwatts = _number(file)
            if microwatts is not None:
                return microwatts / 1e6
        rails: list[float] = []
        for file in sorted(self._root.glob("class/hwmon/hwmon*/curr*_input")):
            current = _number(file)
            voltage = _number(file.with_name(file.name.replace("curr", "in")))
            if current is not None and voltage is not None:
                rails.append(current * voltage / 1e6)
        return sum(rails) if rails else None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace").strip()
    except OSError:  # absent, or a driver that answers EINVAL while the part sleeps
        return ""


def _number(file: Path) -> int | None:
    try:
        return int(_text(file))
    except ValueError:
        return None


def _scaled(value: int | None, by: float) -> float | None:
    return None if value is None else value / by

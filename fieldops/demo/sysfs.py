"""A small tree that looks like /sys of a single-board computer, so that sensors have something to read on any machine.

The device's folder is a root for the probe as well (FIELDOPS_PROBE_ROOT): its `proc` leads to the real /proc.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUS = 4
MAX_KHZ = 1_800_000


@dataclass(frozen=True, slots=True)
class Readings:
    """What the sensors say. get_throttled: Raspberry Pi's bits (0x2: clock capped now, 0x8: soft temperature limit now)."""

    soc_millicelsius: int
    clock_khz: int
    power_microwatt: int
    get_throttled: int
    cooling_state: int


COOL = Readings(51_200, MAX_KHZ, 4_350_000, 0x0, 0)
THROTTLED = Readings(84_600, 600_000, 6_900_000, 0xA000A, 3)


def readings_for(condition: str, index: int) -> Readings:
    """Devices of one plant differ by a few degrees and tenths of a watt."""
    if condition == "throttled":
        return THROTTLED
    return Readings(COOL.soc_millicelsius + 700 * (index % 7), COOL.clock_khz, COOL.power_microwatt + 110_000 * (index % 5), 0, 0)


def files(readings: Readings) -> dict[str, str]:
    """Path below the tree's root -> text. Units as the kernel's: millidegrees, kHz, microwatts."""
    zone = "class/thermal/thermal_zone0"
    found = {
        f"{zone}/type": "cpu-thermal",
        f"{zone}/temp": str(readings.soc_millicelsius),
        f"{zone}/trip_point_0_type": "passive",
        f"{zone}/trip_point_0_temp": "80000",
        f"{zone}/trip_point_1_type": "critical",
        f"{zone}/trip_point_1_temp": "85000",
        "class/thermal/cooling_device0/type": "cpufreq-cpu0",
        "class/thermal/cooling_device0/cur_state": str(readings.cooling_state),
        "class/thermal/cooling_device0/max_state": "4",
        "class/hwmon/hwmon0/name": "ina219",
        "class/hwmon/hwmon0/power1_input": str(readings.power_microwatt),
        "devices/platform/soc/soc:firmware/get_throttled": f"{readings.get_throttled:x}",
        "devices/system/cpu/present": f"0-{CPUS - 1}",
    }
    for cpu in range(CPUS):
        folder = f"devices/system/cpu/cpu{cpu}/cpufreq"
        found |= {
            f"{folder}/scaling_cur_freq": str(readings.clock_khz),
            f"{folder}/cpuinfo_max_freq": str(MAX_KHZ),
            f"{folder}/scaling_max_freq": str(MAX_KHZ),
            f"{folder}/scaling_governor": "ondemand",
        }
    return found


def write_tree(device_folder: Path, readings: Readings) -> Path:
    """Write `sys/` below the device's folder, beside a `proc` that leads to the real one. Returns `sys/`."""
    root = device_folder / "sys"
    for path, text in files(readings).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{text}\n", encoding="ascii")
    proc = device_folder / "proc"
    if not proc.is_symlink():
        proc.symlink_to("/proc")
    return root

"""Heat, clock and power from a made-up sysfs: what is there is read in its unit, what is not is None."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.edges.sensors import Sensors


def _put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", "ascii")


def test_a_board_that_says_nothing_is_unknown_and_never_zero(tmp_path: Path) -> None:
    found = Sensors(tmp_path, tmp_path, None).read(None)
    unknown = (found.soc_temp_c, found.temp_limit_c, found.throttled, found.clock_mhz, found.power_w, found.quota_used_bytes)
    assert unknown == (None,) * 6
    assert found.boot_id
    assert found.disk_free_bytes


def test_the_hottest_zone_the_lowest_limit_the_clock_and_the_power_in_their_units(tmp_path: Path) -> None:
    _put(tmp_path, "class/thermal/thermal_zone0/temp", "51000")
    _put(tmp_path, "class/thermal/thermal_zone1/temp", "62500")
    _put(tmp_path, "class/thermal/thermal_zone0/trip_point_0_type", "critical")
    _put(tmp_path, "class/thermal/thermal_zone0/trip_point_0_temp", "95000")
    _put(tmp_path, "class/thermal/thermal_zone0/trip_point_1_type", "passive")
    _put(tmp_path, "class/thermal/thermal_zone0/trip_point_1_temp", "80000")
    _put(tmp_path, "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000")
    _put(tmp_path, "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000")
    _put(tmp_path, "class/hwmon/hwmon0/in1_input", "5000")
    _put(tmp_path, "class/hwmon/hwmon0/curr1_input", "800")
    found = Sensors(tmp_path, tmp_path, 10).read(5)
    assert (found.soc_temp_c, found.temp_limit_c, found.clock_mhz, found.clock_max_mhz) == (62.5, 80.0, 600.0, 1800.0)
    assert found.power_w == pytest.approx(4.0)
    assert (found.quota_bytes, found.quota_used_bytes) == (10, 5)


@pytest.mark.parametrize(
    ("path", "text", "throttled", "reason"),
    [
        ("devices/platform/soc/soc:firmware/get_throttled", "0x5", True, "under-voltage, throttled"),
        ("devices/platform/soc/soc:firmware/get_throttled", "50000", False, ""),
        ("devices/platform/soc/soc:firmware/get_throttled", "nonsense", None, ""),
        ("class/thermal/cooling_device0/cur_state", "2", True, "Processor cooling step 2"),
        ("class/thermal/cooling_device0/cur_state", "0", False, ""),
    ],
)
def test_throttling_is_what_the_board_says_now(tmp_path: Path, path: str, text: str, throttled: bool | None, reason: str) -> None:
    _put(tmp_path, "class/thermal/cooling_device0/type", "Processor")
    _put(tmp_path, path, text)
    heat = Sensors(tmp_path, tmp_path, None).heat()
    assert (heat.throttled, heat.reason) == (throttled, reason)


def test_counted_throttle_events_mean_now_only_when_they_rise(tmp_path: Path) -> None:
    counter = "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    _put(tmp_path, counter, "7")
    sensors = Sensors(tmp_path, tmp_path, None)
    assert sensors.heat().throttled is False
    _put(tmp_path, counter, "9")
    assert sensors.heat().throttled is True
    assert sensors.heat().throttled is False

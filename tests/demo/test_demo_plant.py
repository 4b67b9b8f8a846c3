from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.demo import addresses, plant, sysfs
from fieldops.errors import UsageFault


def test_the_default_plant_shows_every_condition_and_every_link() -> None:
    devices = plant.cameras(plant.DEFAULT)
    assert len(devices) == 8
    assert {device.reach for device in devices} == {"ssh", "lan", "bare", "off"}
    assert [device.condition for device in devices].count("healthy") == 2
    assert len({device.condition for device in devices}) == 7


def test_a_larger_plant_gets_more_healthy_devices_with_names_of_their_own() -> None:
    devices = plant.cameras(24)
    assert len({device.name for device in devices}) == 24
    assert devices[:8] == plant.cameras(8)
    assert all(device.condition == "healthy" for device in devices[8:])


@pytest.mark.parametrize("count", [0, -1, 25])
def test_a_plant_of_another_size_is_refused_with_the_limits(count: int) -> None:
    with pytest.raises(UsageFault) as caught:
        plant.cameras(count)
    assert "1 to 24" in caught.value.next_step


def test_sensors_of_the_throttled_device_say_so_and_of_no_other() -> None:
    bits = {
        camera.condition: int(
            sysfs.files(sysfs.readings_for(camera.condition, index))["devices/platform/soc/soc:firmware/get_throttled"], 16
        )
        for index, camera in enumerate(plant.cameras(8))
    }
    assert [condition for condition, value in bits.items() if value & 0xF] == ["throttled"]


def test_a_written_tree_reads_back_and_can_be_written_again(tmp_path: Path) -> None:
    for _ in range(2):
        root = sysfs.write_tree(tmp_path, sysfs.COOL)
    assert (root / "class/thermal/thermal_zone0/temp").read_text() == "51200\n"
    assert (tmp_path / "proc").is_symlink()


def test_ports_that_were_written_are_read_again_and_junk_is_none(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert addresses.read(file) == {}
    file.write_bytes(b'{"ports": {"meter-01.ssh": 4711, "control": 70000, "x": "y"}}')
    assert addresses.read(file) == {"meter-01.ssh": 4711}
    file.write_bytes(b"{")
    assert addresses.read(file) == {}


def test_a_held_port_refuses_and_is_not_free() -> None:
    with addresses.hold(0) as held:
        port = held.getsockname()[1]
        assert not addresses.is_free(port)
        with addresses.hold(port) as other:
            assert other.getsockname()[1] != port

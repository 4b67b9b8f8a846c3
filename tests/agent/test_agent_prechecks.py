"""Before the first byte, and before a trial: a device that cannot says so. And room made on it, never out of what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.errors import DeviceCannot
from fieldops.steps import Prune
from tests.agent.conftest import Agent, Laptop


def battery(root: Path, percent: int, status: str) -> None:
    folder = root / "class" / "power_supply" / "BAT0"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("type", "Battery"), ("capacity", str(percent)), ("status", status)):
        (folder / name).write_text(text + "\n", "ascii")


def prune(laptop: Laptop, device: Agent, *versions: str) -> str:
    return laptop.do(device, Prune(model="digits", versions=list(versions))).message


def test_a_trial_waits_for_a_battery_before_the_first_byte_and_again_when_it_begins(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], tmp_path: Path
) -> None:
    battery(tmp_path, 20, "Discharging")
    device = make_device(f'[sensors]\nroot = "{tmp_path}"\n').start()
    laptop = make_laptop()
    laptop.enrol(device)
    here = set((device.home / "models" / "sha256").iterdir())
    with pytest.raises(DeviceCannot, match=r"needs a battery of at least 40 %; here is 20 %, discharging") as refused:
        laptop.stage(device, "digits@1.3.0")
    assert refused.value.reason == "battery"
    assert set((device.home / "models" / "sha256").iterdir()) == here
    assert device.slot().state == "settled"
    resources = device.get("/v1/resources")
    assert (resources["battery_pct"], resources["on_battery"]) == (20, True)
    battery(tmp_path, 20, "Charging")
    laptop.stage(device, "digits@1.3.0")
    battery(tmp_path, 39, "Discharging")
    with pytest.raises(DeviceCannot) as late:
        laptop.activate(device, "1.3.0")
    assert late.value.reason == "battery"
    slot = device.slot()
    assert (slot.state, slot.active, slot.candidate) == ("staged", "1.0.0", "1.3.0")
    battery(tmp_path, 40, "Discharging")
    assert laptop.activate(device, "1.3.0").version == "1.3.0"


def test_a_runtime_that_cannot_run_the_version_is_told_with_everything_it_lacks(device: Agent, laptop: Laptop) -> None:
    here = set((device.home / "models" / "sha256").iterdir())
    with pytest.raises(DeviceCannot) as refused:
        laptop.stage(device, "digits@1.4.0")
    assert refused.value.exit_code == 6
    for word in ("warp9", "opset 9999", "at most", "WarpExecutionProvider", "CPUExecutionProvider"):
        assert word in refused.value.message
    assert set((device.home / "models" / "sha256").iterdir()) == here
    hardware = device.get("/v1/resources")["hardware"]
    assert hardware["opset"] >= 17
    assert "CPUExecutionProvider" in hardware["providers"]


def test_prune_frees_what_nobody_goes_back_to_and_nothing_else(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    laptop.install(device, "1.2.0")
    before = device.get("/v1/resources")["quota_used_bytes"]
    for needed in ("1.2.0", "1.1.0"):
        with pytest.raises(DeviceCannot) as refused:
            prune(laptop, device, needed)
        assert refused.value.reason == "in_use"
    with pytest.raises(DeviceCannot) as unknown:
        prune(laptop, device, "9.9.9")
    assert unknown.value.reason == "not_staged"
    assert "removed 1.0.0" in prune(laptop, device)
    slot = device.slot()
    assert [version.version for version in slot.versions] == ["1.1.0", "1.2.0"]
    assert device.get("/v1/resources")["quota_used_bytes"] < before
    assert laptop.revert(device).version == "1.1.0"


def test_a_staged_version_goes_only_when_it_is_named(device: Agent, laptop: Laptop) -> None:
    laptop.stage(device, "digits@1.1.0")
    (device.home / "models" / "sha256" / ("0" * 64)).write_bytes(b"left by a power cut")
    assert "nothing to remove; 19 bytes of waste" in prune(laptop, device)
    assert device.slot().candidate == "1.1.0"
    assert "removed 1.1.0" in prune(laptop, device, "1.1.0")
    slot = device.slot()
    assert (slot.state, slot.candidate, [version.version for version in slot.versions]) == ("settled", None, ["1.0.0"])
    laptop.stage(device, "digits@1.1.0")
    assert laptop.activate(device, "1.1.0").version == "1.1.0"

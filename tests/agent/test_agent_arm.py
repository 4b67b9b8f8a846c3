"""A version that the device tries by itself: activated, validated, committed or reverted with no laptop there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldops.errors import DeviceCannot
from fieldops.steps import Arm, Disarm
from fieldops.wire import SlotStatus, StepRecord
from tests.agent.conftest import Agent, Laptop, within


def arm(laptop: Laptop, device: Agent, version: str, **limits: float) -> StepRecord:
    now = time.time()
    window: dict[str, Any] = {"start": now, "end": now + 3600} | limits
    return laptop.do(device, Arm(model="digits", version=version, trial_s=5, **window))


def disarmed(device: Agent) -> SlotStatus:
    return device.until(lambda slot: slot.armed_until is None)


def acts(device: Agent) -> list[tuple[str, str, str]]:
    """What the device did by itself."""
    me = f"device:{device.ready['device']}"
    entries = device.get("/v1/journal")["entries"]
    return [(each["action"], each["version"], each["reason"]) for each in entries if each["actor"] == me]


def test_an_armed_version_is_tried_and_committed_by_the_device_alone(device: Agent, laptop: Laptop) -> None:
    laptop.stage(device, "digits@1.1.0")
    assert "armed" in arm(laptop, device, "1.1.0").message
    slot = disarmed(device)
    assert (slot.state, slot.active, slot.last_good) == ("committed", "1.1.0", "1.0.0")
    done = acts(device)
    assert [each[0] for each in done if each[1] == "1.1.0"] == ["validate", "trial", "commit", "disarm"]
    assert done[-1] == ("disarm", "1.1.0", "committed")


def test_an_armed_version_that_fails_its_checks_leaves_the_old_one_and_says_so(device: Agent, laptop: Laptop) -> None:
    laptop.stage(device, "digits@2.0.0-bad")
    arm(laptop, device, "2.0.0-bad")
    slot = disarmed(device)
    assert (slot.state, slot.active) == ("reverted", "1.0.0")
    assert acts(device)[-1][2].startswith("validation_failed")


def test_a_device_killed_in_an_armed_trial_of_one_start_goes_back(device: Agent, laptop: Laptop) -> None:
    laptop.stage(device, "digits@1.1.0")
    now = time.time()
    laptop.do(device, Arm(model="digits", version="1.1.0", trial_s=3600, start=now, end=now + 3600))
    device.until(lambda slot: slot.state == "trial")
    device.kill()
    device.start()
    slot = disarmed(device)
    assert (slot.state, slot.active) == ("reverted", "1.0.0")
    assert acts(device)[-1] == ("disarm", "1.1.0", "trial_attempts")


def test_it_waits_for_power_and_a_window_that_passes_leaves_it_staged(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], tmp_path: Path
) -> None:
    battery = tmp_path / "class" / "power_supply" / "BAT0"
    battery.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("capacity", "20"), ("status", "Discharging")):
        (battery / name).write_text(text, "ascii")
    device = make_device(f'[sensors]\nroot = "{tmp_path}"\n').start()
    laptop = make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    arm(laptop, device, "1.1.0", battery_pct=30.0, end=time.time() + 2.0)
    slot = disarmed(device)
    assert (slot.state, slot.active, slot.candidate) == ("staged", "1.0.0", "1.1.0")
    assert acts(device)[-1] == ("disarm", "1.1.0", "window_over")
    arm(laptop, device, "1.1.0", battery_pct=30.0)
    (battery / "status").write_text("Charging", "ascii")
    assert disarmed(device).active == "1.1.0"


def test_before_its_window_it_can_be_disarmed(device: Agent, laptop: Laptop) -> None:
    laptop.stage(device, "digits@1.1.0")
    start = time.time() + 3600
    arm(laptop, device, "1.1.0", start=start, end=start + 60)
    assert device.slot().armed_from == start
    assert "1.1.0 stays staged" in laptop.do(device, Disarm(model="digits")).message
    slot = device.slot()
    assert (slot.state, slot.candidate, slot.armed_until) == ("staged", "1.1.0", None)
    assert laptop.do(device, Disarm(model="digits")).message == "nothing was armed"


def test_what_cannot_be_armed_is_refused(device: Agent, laptop: Laptop) -> None:
    with pytest.raises(DeviceCannot) as missing:
        arm(laptop, device, "1.1.0")
    assert missing.value.reason == "not_staged"
    laptop.stage(device, "digits@1.1.0")
    now = time.time()
    for window in ({"start": now - 9, "end": now - 5}, {"start": now + 9, "end": now + 9}, {"end": now + 40 * 86400}):
        with pytest.raises(DeviceCannot) as refused:
            arm(laptop, device, "1.1.0", **window)
        assert refused.value.reason == "bad_window"
    assert within().left() > 0

"""The large model runs when the device can afford it, and every answer says what was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldops.errors import DeviceCannot
from fieldops.steps import SetTiers
from fieldops.tiers import TierSettings
from tests.agent.conftest import Agent, Laptop, request_of, within


def decisions(device: Agent, rows: Any) -> Counter[tuple[str, str]]:
    """(route, why) of each answer."""
    found: Counter[tuple[str, str]] = Counter()
    with device.client("infer.sock") as client:
        for row in rows:
            said = client.post("/v2/models/digits/infer", json=request_of(row)).json()["parameters"]
            found[(said["route"], said["why"])] += 1
    return found


@pytest.fixture
def unsure(images: tuple[Any, Any]) -> Any:
    """Grey noise: the core is sure of none of it."""
    return np.random.default_rng(5).uniform(0, 16, (6, 64)).astype(np.float32)


def set_tiers(laptop: Laptop, device: Agent, settings: TierSettings) -> str:
    return laptop.do(device, SetTiers(model="digits", settings=settings)).message


def test_a_person_sets_when_the_large_model_may_run_and_takes_it_back(device: Agent, laptop: Laptop, unsure: Any) -> None:
    always = TierSettings(threshold=1.0)
    assert set_tiers(laptop, device, always) == "large model asked below confidence 1; before: as signed"
    assert decisions(device, unsure) == {("large", "unsure"): 6}
    never = TierSettings(large="never", threshold=1.0)
    assert set_tiers(laptop, device, never).startswith("the core answers alone; before: large model")
    assert decisions(device, unsure) == {("core", "setting"): 6}
    device.kill()
    device.start()
    assert decisions(device, unsure) == {("core", "setting"): 6}
    (serving,) = device.get("/v1/resources")["serving"]
    assert (serving["routes"], serving["rested"]) == ({"core": 6}, {"setting": 6})
    assert set_tiers(laptop, device, TierSettings()) == "as signed; before: the core answers alone"
    assert ("core", "setting") not in decisions(device, unsure)
    acts = [entry["reason"] for entry in device.get("/v1/journal")["entries"] if entry["action"] == "set_tiers"]
    assert acts[-1] == "as signed"


def test_a_setting_without_sense_is_refused_and_changes_nothing(device: Agent, laptop: Laptop) -> None:
    with pytest.raises(DeviceCannot) as refused:
        set_tiers(laptop, device, TierSettings(threshold=2.0))
    assert refused.value.reason == "bad_setting"


def test_on_a_low_battery_and_in_heat_the_core_answers_alone(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], tmp_path: Path, unsure: Any
) -> None:
    files = {
        "class/power_supply/BAT0/type": "Battery",
        "class/power_supply/BAT0/capacity": "15",
        "class/power_supply/BAT0/status": "Discharging",
        "class/thermal/thermal_zone0/temp": "60000",
    }

    def put(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n", "ascii")

    for path, text in files.items():
        put(path, text)
    device = make_device(f'[sensors]\nroot = "{tmp_path}"\n').start()
    laptop = make_laptop()
    laptop.enrol(device)
    set_tiers(laptop, device, TierSettings(threshold=1.0, battery_pct=20.0, hottest_c=70.0))
    assert decisions(device, unsure) == {("core", "battery"): 6}

    def until(why: str) -> None:
        """The agent looks at its sensors about once a second."""
        deadline = within()
        while set(decisions(device, unsure[:1])) != {why_of(why)}:
            deadline.check(why)
            deadline.cancel.wait(0.05)

    def why_of(why: str) -> tuple[str, str]:
        return ("large", "unsure") if why == "unsure" else ("core", why)

    put("class/power_supply/BAT0/status", "Charging")
    until("unsure")
    put("class/thermal/thermal_zone0/temp", "70000")
    until("thermal")


def test_the_metadata_says_where_the_gate_is(device: Agent) -> None:
    with device.client("infer.sock") as client:
        assert client.get("/v2/models/digits").json()["parameters"] == {"gate": "graph", "tiers": "core, large"}

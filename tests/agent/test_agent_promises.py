"""What the manifest promises is kept on the device: power, heat, memory, errors; each refusal says what is needed and found."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fieldops.bundles.manifest import Baseline, Objectives
from fieldops.errors import DeviceCannot
from fieldops.steps import SetTiers
from fieldops.tiers import TierSettings
from tests.agent.conftest import DIGITS, Agent, Laptop, request_of, spec, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture

MB = 1 << 20
PROMISES = {
    "1.5.0": Objectives(p95_ms=5000, memory_bytes=96 * MB, power_w=1.5, thermal_margin_c=5.0),
    "1.6.0": Objectives(p95_ms=5000, memory_bytes=2 * MB),
}


@dataclass(frozen=True)
class Board:
    """A tree that looks like /sys."""

    root: Path

    def put(self, path: str, value: int | str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        part = self.root / f"{path}.part"  # the agent reads whenever it likes
        part.write_text(f"{value}\n", "ascii")
        part.replace(self.root / path)

    def power(self, watts: float) -> None:
        self.put("class/hwmon/hwmon0/power1_input", int(watts * 1e6))

    def heat(self, celsius: float) -> None:
        self.put("class/thermal/thermal_zone0/temp", int(celsius * 1000))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path / "sys")
    made.put("class/thermal/thermal_zone0/trip_point_0_type", "passive")
    made.put("class/thermal/thermal_zone0/trip_point_0_temp", 80_000)
    made.heat(50)
    made.power(2.0)
    return made


@pytest.fixture
def visit(
    board: Board,
    make_device: Callable[..., Agent],
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
) -> tuple[Agent, Laptop]:
    """A device with that board, and a laptop with a stick of versions that promise more."""
    for number, (version, objectives) in enumerate(PROMISES.items()):
        manifest = spec("1.2.0")
        tiers = [msgspec.structs.replace(tier, accuracy=0.9, p50_ms=1.0) for tier in manifest.tiers]
        baseline = {"bench": Baseline(p50_ms=1e-4, p95_ms=2e-4, memory_bytes=1)}
        changes = {"version": version, "counter": 7 + number, "objectives": objectives, "tiers": tiers, "baseline": baseline}
        office.repo.add_bundle("stable", DIGITS / "1.2.0", msgspec.structs.replace(manifest, **changes))
    office.repo.sign("stable")
    office.repo.publish()
    device = make_device(f'[sensors]\nroot = "{board.root}"\n').start()
    laptop = replace(make_laptop(), source=office.export("promising").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    return device, laptop


@contextmanager
def while_it_is_tried(device: Agent, change: Callable[[], None]) -> Iterator[None]:
    """The change happens once the checks of the candidate have begun."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if device.slot().state == "validating":
                change()
                return
            over.wait(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(30)


def unsure_answer(device: Agent) -> tuple[str, str]:
    row = np.random.default_rng(5).uniform(0, 16, 64).astype(np.float32)
    with device.client("infer.sock") as client:
        said: dict[str, Any] = client.post("/v2/models/digits/infer", json=request_of(row)).json()["parameters"]
    return said["route"], said["why"]


def until(device: Agent, wanted: tuple[str, str]) -> None:
    """The agent looks at its sensors about once a second."""
    deadline = within()
    while unsure_answer(device) != wanted:
        deadline.check(str(wanted))
        deadline.cancel.wait(0.05)


def test_heat_that_comes_with_the_checks_ends_them_and_marks_nobody(visit: tuple[Agent, Laptop], board: Board) -> None:
    device, laptop = visit
    laptop.stage(device, "digits@1.5.0")
    with (
        while_it_is_tried(device, lambda: board.heat(76)),
        pytest.raises(DeviceCannot, match=r"needs at most 75\.0 °C; here is 76\.0 °C") as hot,
    ):
        laptop.activate(device, "1.5.0")
    assert hot.value.reason == "thermal"
    slot = device.slot()
    assert (slot.state, slot.active) == ("reverted", "1.0.0")
    assert {each.role for each in slot.versions if each.version == "1.5.0"} == {"stored"}  # not quarantined: it did nothing wrong
    board.heat(50)
    checks = {check.name: check for check in laptop.activate(device, "1.5.0").checks}
    assert checks["power"].ok
    assert (checks["power"].measured, checks["power"].limit) == ("0.00 W above idle (2.00 W)", "1.5 W above idle")
    assert "class bench at release: p50 0.00 ms, p95 0.00 ms" in checks["latency"].note
    assert "look at clock and heat" in checks["latency"].note
    laptop.commit(device, "1.5.0")
    # In service the same promises bound the large model, with no setting of this device.
    laptop.do(device, SetTiers(model="digits", settings=TierSettings(threshold=1.0)))
    until(device, ("large", "unsure"))
    board.heat(75)
    until(device, ("core", "thermal"))
    board.heat(50)
    until(device, ("large", "unsure"))
    board.power(3.5)
    until(device, ("core", "power"))


def test_a_version_over_its_power_budget_is_refused(visit: tuple[Agent, Laptop], board: Board) -> None:
    device, laptop = visit
    laptop.stage(device, "digits@1.5.0")
    with while_it_is_tried(device, lambda: board.power(4.25)), pytest.raises(DeviceCannot) as refused:
        laptop.activate(device, "1.5.0")
    assert refused.value.reason == "validation_failed"
    assert "power 2.25 W above idle (2.00 W) (limit 1.5 W above idle)" in refused.value.message
    slot = device.slot()
    assert (slot.state, slot.active) == ("reverted", "1.0.0")
    assert {each.role for each in slot.versions if each.version == "1.5.0"} == {"quarantined"}


def test_a_version_over_its_memory_ceiling_is_refused(visit: tuple[Agent, Laptop]) -> None:
    device, laptop = visit
    laptop.stage(device, "digits@1.6.0")
    with pytest.raises(DeviceCannot) as refused:
        laptop.activate(device, "1.6.0")
    assert refused.value.reason == "validation_failed"
    assert "2.1 MB" in refused.value.message
    assert device.slot().active == "1.0.0"


def brittle(folder: Path) -> Path:
    """digits 1.2.0 whose core is right for every drawing and fails where pixel 0 says so (tests/faults/build_odd_core.py)."""
    shutil.copytree(DIGITS / "1.2.0", folder)
    shutil.copyfile(Path(__file__).parents[1] / "faults" / "odd_core.onnx", folder / "core.onnx")
    return folder


def test_more_failed_requests_than_the_manifest_allows_take_a_version_back(
    device: Agent,
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
    tmp_path: Path,
    images: tuple[Any, Any],
) -> None:
    manifest = spec("1.2.0")
    changes: dict[str, Any] = {
        "version": "1.7.0",
        "counter": 9,
        "objectives": Objectives(p95_ms=5000, memory_bytes=96 * MB, error_rate=0.1),
        "tiers": [msgspec.structs.replace(tier, accuracy=0.9, p50_ms=1.0) for tier in manifest.tiers],
        "replay": None,
    }
    office.repo.add_bundle("stable", brittle(tmp_path / "brittle"), msgspec.structs.replace(manifest, **changes))
    office.repo.sign("stable")
    office.repo.publish()
    laptop = replace(make_laptop(), source=office.export("brittle").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    laptop.stage(device, "digits@1.7.0")
    laptop.activate(device, "1.7.0", trial_s=3600)
    odd = images[0][0].copy()
    odd[0] = 1000.0
    with device.client("infer.sock") as client:
        said = [client.post("/v2/models/digits/infer", json=request_of(odd)).status_code for _ in range(6)]
        assert set(said) == {500}
        for _ in range(34):
            assert client.post("/v2/models/digits/infer", json=request_of(images[0][0])).status_code == 200
        with pytest.raises(DeviceCannot, match="6 of 40 requests failed") as sick:
            laptop.commit(device, "1.7.0")
        assert sick.value.reason == "unhealthy"
        for _ in range(60):  # 6 of 100 would be few enough, so more of them fail
            client.post("/v2/models/digits/infer", json=request_of(odd))
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == ("1.0.0", "error_rate")
    (revert,) = [each for each in device.get("/v1/journal")["entries"] if each["action"] == "revert"]
    assert "requests failed; 10.00% may" in revert["detail"]

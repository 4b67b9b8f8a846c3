"""What a device does when nobody helps: another boot, nobody at the other end, bad health, a second laptop, a long journal."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldops.agent.arming import LOOK_S
from fieldops.agent.crash_scene import BOOT, INSTALL, MODEL, NEW, NEXT_BOOT, flash, started
from fieldops.agent.figures import WORTH, Figures
from fieldops.edges.faults import workers_of
from fieldops.edges.registry import Registry
from fieldops.errors import DeviceCannot
from fieldops.steps import Arm, Stage
from fieldops.wire import JournalEntry
from tests.agent.conftest import Agent, Laptop, request_of, within


def _acts(agent: Agent) -> list[tuple[str, str, str]]:
    return [(entry["actor"].partition(":")[0], entry["action"], entry["reason"]) for entry in agent.get("/v1/journal")["entries"]]


def _kill_workers(agent: Agent, count: int) -> None:
    """So many, one after the other; whoever comes after them lives."""
    assert agent.process is not None
    waiting, dead = within(), set[int]()
    while len(dead) < count:
        waiting.check("a worker")
        for pid in sorted(set(workers_of(agent.process.pid)) - dead)[:1]:
            os.kill(pid, signal.SIGKILL)
            dead.add(pid)
        waiting.cancel.wait(0.05)


@pytest.fixture
def machine(make_device: Callable[..., Agent], tmp_path: Path) -> Callable[[str], Agent]:
    """A device whose machine starts anew: machine(boot) cuts its power and starts it in that boot."""
    boot = tmp_path / "boot_id"
    boot.write_text("first\n", "ascii")
    device = make_device(f'[sensors]\nboot_id = "{boot}"\n')

    def start(name: str) -> Agent:
        if device.process is not None:
            device.kill()
        boot.write_text(f"{name}\n", "ascii")
        return device.start()

    return start


def test_a_reboot_in_the_middle_of_a_trial_reverts_it_and_the_log_says_why(
    machine: Callable[[str], Agent], make_laptop: Callable[..., Laptop]
) -> None:
    device, laptop = machine("first"), make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0", trial_s=3600, attempts=100)
    assert machine("first").slot().state == "trial"  # the agent alone began anew
    slot = machine("second").slot()
    assert (slot.state, slot.active, slot.reason) == ("reverted", "1.0.0", "trial_deadline")
    assert ("device", "reverted", "trial_deadline") in _acts(device)
    assert device.get("/v1/hello")["boot_id"] == "second"
    assert {entry["boot_id"] for entry in device.get("/v1/journal")["entries"]} >= {"first", "second"}


def test_a_reboot_in_a_probation_begins_it_again_and_health_still_reverts(
    machine: Callable[[str], Agent], make_laptop: Callable[..., Laptop]
) -> None:
    device, laptop = machine("first"), make_laptop()
    laptop.enrol(device)
    laptop.install(device, "1.1.0")
    slot = machine("second").slot()
    assert (slot.state, slot.active) == ("committed", "1.1.0")
    _kill_workers(device, 3)
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == ("1.0.0", "worker_crashes")


def test_a_laptop_that_is_gone_and_a_disk_that_is_full_in_a_trial_end_in_the_old_version(
    machine: Callable[[str], Agent], make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    device, laptop = machine("first"), make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0", trial_s=3600, attempts=100)
    device.faults = "serve full 1"
    machine("second")
    with device.client("infer.sock") as client:
        said = client.post("/v2/models/digits/infer", json=request_of(images[0][0])).json()["parameters"]
    assert (said["version"], said["route"] in {"core", "large"}) == ("1.0.0", True)
    device.faults = ""
    slot = machine("second").slot()
    assert (slot.state, slot.active, slot.reason) == ("reverted", "1.0.0", "trial_deadline")


def test_a_probation_that_nothing_disturbs_settles_by_itself(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]
) -> None:
    device = make_device("[validation]\nprobation_s = 1\n").start()
    laptop = make_laptop()
    laptop.enrol(device)
    laptop.install(device, "1.1.0")
    slot = device.until(lambda slot: slot.state == "settled")
    assert (slot.active, slot.last_good, slot.reason) == ("1.1.0", "1.0.0", "probation_over")
    assert ("device", "settle", "probation_over") in _acts(device)


def test_a_committed_version_whose_worker_keeps_dying_is_reverted_by_the_device(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    _kill_workers(device, 3)
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == ("1.0.0", "worker_crashes")
    assert ("device", "reverted", "worker_crashes") in _acts(device)


def test_an_agent_starts_and_answers_on_a_disk_without_one_free_block(flashed: Path, short_folder: Path) -> None:
    """On a real one: SQLite itself needs a file that is not there yet."""
    disk = short_folder / "d"
    disk.mkdir()
    script = Path(__file__).with_name("full_disk_process.py")
    words = [sys.executable, str(script), str(disk), str(flashed), str(short_folder / "r")]
    mounted = f"mount -t tmpfs -o size=8m tmpfs {disk} || exit 77; exec {shlex.join(words)}"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare: apt-get install util-linux")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mounted], env=env, capture_output=True, timeout=100, check=False)
    if done.returncode in {1, 77} and b"Traceback" not in done.stderr:
        pytest.skip("this machine allows no mount namespaces")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {"reserve": True, "version": "1.0.0", "by_a_model": True, "given_up": True}


def _later(device: Agent, seconds: float) -> None:
    """By the device's own clock."""
    waiting, begun = within(), device.get("/v1/resources")["uptime_s"]
    while device.get("/v1/resources")["uptime_s"] < begun + seconds:
        waiting.check("the device's clock")
        waiting.cancel.wait(0.05)


def test_an_armed_version_waits_for_a_cool_and_quiet_device_and_then_goes_on_alone(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], tmp_path: Path
) -> None:
    zone = tmp_path / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("70000\n", "ascii")
    device, laptop = make_device(f'[sensors]\nroot = "{tmp_path}"\n').start(), make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")

    def armed(**limits: float) -> None:
        now = time.time()
        laptop.do(device, Arm(model="digits", version="1.1.0", trial_s=5, start=now, end=now + 3600, **limits))

    for limits in ({"load": -1.0}, {"hottest_c": 60.0, "load": 1e6}):  # no machine is that idle
        armed(**limits)
        _later(device, 3 * LOOK_S)
        slot = device.slot()
        assert (slot.state, slot.active, slot.armed_until is None) == ("staged", "1.0.0", False)
    (zone / "temp").write_text("40000\n", "ascii")
    slot = device.until(lambda slot: slot.armed_until is None)
    assert (slot.state, slot.active, slot.last_good) == ("committed", "1.1.0", "1.0.0")


def test_a_second_laptop_is_told_who_is_at_the_device_and_until_when(
    device: Agent, laptop: Laptop, make_laptop: Callable[..., Laptop]
) -> None:
    other = make_laptop(name="other")
    other.enrol(device)
    bundle = laptop.bundle("digits@1.1.0")
    step = Stage(channel=bundle.channel, model="digits", version="1.1.0", manifest_sha256=bundle.manifest_sha256)
    _, envelope = laptop.signed(device, step)
    with device.client() as client:
        assert client.post("/v1/steps", content=envelope).status_code == 202
        told = client.get("/v1/models").json()
    assert told["lease_holder"] == laptop.signer.id
    assert 0 < told["lease_s"] <= 120
    with pytest.raises(DeviceCannot, match=laptop.signer.id[:8]) as refused:
        other.stage(device, "digits@1.1.0")
    assert refused.value.reason == "busy"
    assert " s" in refused.value.next_step


# --- worse than before -----------------------------------------------------------------------------------------------------


def _answers(figures: Figures, ms: float, confidence: float, count: int = WORTH) -> None:
    for at in range(count):
        figures.answer(float(at), ms, "core", confidence=confidence)


@pytest.mark.parametrize(
    ("before", "now", "ceiling", "sign"),
    [
        ((2.0, 0.9), (2.0, 0.9), 1.0, ""),
        ((2.0, 0.9), (7.0, 0.9), 1.0, "latency"),
        ((2.0, 0.9), (7.0, 0.9), 8.0, ""),  # slower, and still within what was signed
        ((20.0, 0.9), (25.0, 0.9), 8.0, ""),  # these programs were always slow: their requests are large
        ((2.0, 0.9), (2.0, 0.3), 1.0, "confidence"),
        ((2.0, 0.4), (2.0, 0.3), 1.0, ""),
    ],
)
def test_a_version_is_compared_with_what_the_same_programs_had_before(
    before: tuple[float, float], now: tuple[float, float], ceiling: float, sign: str
) -> None:
    figures = Figures()
    _answers(figures, *before)
    figures.restart()
    _answers(figures, *now, count=WORTH - 1)
    assert figures.worse(ceiling, None) == ""  # too few answers to tell
    _answers(figures, *now, count=1)
    assert figures.worse(ceiling, None) == sign


def test_without_a_version_before_it_its_own_baseline_is_what_is_usual() -> None:
    figures = Figures()
    _answers(figures, 7.0, 0.9)
    assert figures.worse(1.0, None) == ""
    assert figures.worse(1.0, 2.0) == "latency"
    assert figures.worse(1.0, 3.0) == ""


# --- the journal -----------------------------------------------------------------------------------------------------------


def _entry(reason: str) -> JournalEntry:
    return JournalEntry(seq=0, time=0.0, boot_id="b", actor="device:x", action="test", model="", version="", reason=reason)


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    made = Registry.open(tmp_path / "registry.db")
    with made.change() as change:
        for number in range(1, 101):
            change.note(_entry(str(number)))
    yield made
    made.close()


def _seqs(registry: Registry) -> list[int]:
    return [entry.seq for entry in registry.journal(0, 1000)[0]]


def test_entries_that_nobody_was_given_stay_and_read_ones_make_room(registry: Registry) -> None:
    assert registry.prune(lambda lost: _entry(f"lost {lost}"), most_entries=60) == 0
    registry.handed_out(50, 80)  # does not follow on from what was given before
    assert registry.prune(lambda lost: _entry(f"lost {lost}"), most_entries=60) == 0
    registry.handed_out(0, 30)
    assert registry.prune(lambda lost: _entry(f"lost {lost}"), most_entries=60) == 30
    assert _seqs(registry) == list(range(31, 101))


def test_beyond_the_bound_the_oldest_go_and_the_journal_says_how_many_were_never_read(registry: Registry) -> None:
    registry.handed_out(0, 5)
    assert registry.prune(lambda lost: _entry(f"lost {lost}"), most_entries=20) == 60
    entries, newest = registry.journal(0, 1000)
    assert [entry.seq for entry in entries] == list(range(61, 102))
    assert (entries[-1].reason, newest) == ("lost 55", 101)


def test_a_trial_goes_on_after_a_restart_of_the_agent_and_ends_at_a_reboot(tmp_path: Path) -> None:
    flash(tmp_path / "home")
    with started(tmp_path / "home", BOOT) as running:
        assert running.play(INSTALL[:2]) is None
    with started(tmp_path / "home", BOOT) as running:
        assert (running.slot().state, running.answering.serving) == ("trial", NEW)
    with started(tmp_path / "home", NEXT_BOOT) as running:
        assert running.slot().model == MODEL
        assert (running.slot().state, running.slot().reason) == ("reverted", "trial_deadline")

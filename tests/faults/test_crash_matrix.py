"""Every crash of a change and of a revert over the agent's own storage code, in this process; and that the harness can see."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fieldops.agent.crash_matrix import PLANS, Matrix
from fieldops.agent.crash_scene import LATER, MODEL, NEXT_BOOT, flash, started, survey
from fieldops.agent.crash_states import CrashState, Disk, Done, at_rest, power_cuts
from fieldops.agent.home import AgentHome

ENDLESS = float("inf")
CORE = hashlib.sha256(LATER.payload["core.bin"]).hexdigest()
EACH = pytest.mark.parametrize("plan", sorted(PLANS))


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return Matrix(tmp_path)


@pytest.mark.parametrize(
    ("crash", "plan"),
    [
        ("process gone", "install"),
        ("process gone", "revert"),
        ("power cut", "install"),
        ("power cut", "revert"),
        ("torn commit", "revert"),
        pytest.param("torn commit", "install", marks=pytest.mark.slow_faults),
    ],
)
def test_after_every_state_that_a_crash_may_leave_the_device_is_old_or_new(matrix: Matrix, crash: str, plan: str) -> None:
    row = matrix.states(crash, plan, ENDLESS, thorough=True)
    assert row.faults == []
    assert row.whole
    assert row.tried == row.old + row.new + row.trial
    assert row.old
    assert row.new or (crash, plan) == ("torn commit", "install")  # a torn commit counts for nothing, the last one too


@EACH
@pytest.mark.parametrize("once", [False, True])
def test_a_disk_that_is_full_at_any_write_costs_nothing_but_the_change(matrix: Matrix, plan: str, once: bool) -> None:
    row = matrix.full(plan, ENDLESS, once=once)
    assert row.faults == []
    assert row.whole


def test_a_revert_killed_after_each_operation_goes_on_to_its_end(matrix: Matrix) -> None:
    row = matrix.kill("revert", ENDLESS)
    assert row.faults == []
    assert row.whole
    assert (row.old, row.new) == (row.tried - 1, 1)


@pytest.mark.slow_faults
def test_an_install_killed_after_each_operation_is_old_or_new(matrix: Matrix) -> None:
    row = matrix.kill("install", ENDLESS)
    assert row.faults == []
    assert row.whole
    assert row.tried > 50


def _without(kind: str, names: Callable[[Path], bool] = lambda _: True) -> Callable[[Done], bool]:
    return lambda done: not (done.operation.kind == kind and names(done.operation.path))


@pytest.mark.parametrize(
    ("careless", "told"),
    [
        (_without("fsync", lambda path: path.stem == CORE), "is not what the record says"),  # a name before its bytes
        (_without("fsync_folder", lambda path: path.parent.name == "bundles"), "No such file"),  # a folder's names lost
        (_without("fsync_folder", lambda path: path.name == "bundles"), "No such file"),  # the folder itself lost
    ],
)
def test_the_harness_sees_what_a_careless_agent_would_lose(
    matrix: Matrix, tmp_path: Path, careless: Callable[[Done], bool], told: str
) -> None:
    root, done = matrix.record("install")
    kept = [each for each in done if careless(each)]
    assert len(kept) < len(done)
    assert any(told in fault for fault in _faults(power_cuts(_disk(root), kept, thorough=False), tmp_path / "careless"))


def _disk(root: Path) -> Disk:
    return Disk(root, at_rest(AgentHome(root).registry))


def _faults(states: Iterator[CrashState], place: Path) -> Iterator[str]:
    """One state at a time: whoever has seen enough stops."""
    for state in states:
        state.put(place)
        yield from survey(place, entries=state.entries, boot_id=NEXT_BOOT, then=())[1]
        shutil.rmtree(place)


def test_a_lost_journal_entry_and_a_damaged_model_are_told(tmp_path: Path) -> None:
    flash(tmp_path / "home")
    with started(tmp_path / "home", NEXT_BOOT) as running:
        there = running.device.registry.journal(0, 100)[1]
        blob = next(path for path in running.device.home.bundles.rglob("core.bin"))
    blob.write_bytes(b"\0")
    _, faults = survey(tmp_path / "home", entries=there + 1, boot_id=NEXT_BOOT, then=())
    assert any("lost 1 entries" in fault for fault in faults)
    assert any("core.bin is not what the record says" in fault for fault in faults)


def test_a_link_for_foreign_runtimes_that_leads_nowhere_is_told_and_put_right_at_the_start(tmp_path: Path) -> None:
    flash(tmp_path / "home")
    place = AgentHome(tmp_path / "home").current / MODEL
    right = place.readlink()
    place.unlink()
    place.symlink_to("../models/bundles/gone")
    _, faults = survey(tmp_path / "home", entries=0, boot_id=NEXT_BOOT, then=())
    assert faults == ["current/ is at ../models/bundles/gone"]
    assert place.readlink() == right
    assert survey(tmp_path / "home", entries=0, boot_id=NEXT_BOOT, then=())[1] == []


def test_the_verb_prints_its_matrix_and_leaves_nothing_behind(tmp_path: Path) -> None:
    words = ["selftest", "crash", "--dir", str(tmp_path), "--seconds", "2", "--json"]
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", *words], stdout=subprocess.PIPE, check=True)
    report = json.loads(done.stdout)
    assert (report["schema"], report["ok"], report["full"]) == ("fieldops.agent_selftest_crash/v1", True, False)
    assert "stub" in report["payload"]
    assert {(row["crash"], row["plan"]) for row in report["matrix"]} >= {("kill -9", "install"), ("power cut", "revert")}
    assert all(row["tried"] >= 1 for row in report["matrix"])
    assert list(tmp_path.iterdir()) == []

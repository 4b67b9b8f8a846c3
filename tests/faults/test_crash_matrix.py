"""Every crash of a change and of a revert over the agent's own storage code, in this process; and that the harness can see."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from fieldops.agent.crash_matrix import SHORT, Matrix, Played
from fieldops.agent.crash_matrix import row as crash_row
from fieldops.agent.crash_plans import PLANS, STORIES, of_row
from fieldops.agent.crash_scene import BOOT, LATER, MODEL, NEXT_BOOT, flash
from fieldops.agent.crash_states import CrashState, Done, at_rest, power_cuts
from fieldops.agent.crash_survey import survey
from fieldops.agent.home import AgentHome
from fieldops.edges.disk import witnessed
from fieldops.edges.durability import durability
from fieldops.edges.faults import Lying
from fieldops.edges.operation import FAULTS
from fieldops.slots import TABLE, Event
from fieldops.wire import SlotState

ENDLESS = float("inf")
CORE = hashlib.sha256(LATER.payload["core.bin"]).hexdigest()
STORY = pytest.mark.parametrize("plan", SHORT)
STATES = ("process gone", "power cut", "torn commit", "full at start")


@pytest.fixture(scope="module")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is such a place: the crashes are simulated, and what a flush costs is of no interest."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("matrix")
        return
    with tempfile.TemporaryDirectory(prefix="fo-", dir=memory, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return Matrix(tmp_path)


@pytest.fixture(scope="module")
def shared(quick_folder: Path) -> Matrix:
    """Plans are played once for all that only look at crashes of them."""
    return Matrix(quick_folder)


# --- the table -------------------------------------------------------------------------------------------------------------


def test_the_plans_are_those_of_the_transition_table_and_no_row_is_missing() -> None:
    rows = {f"{state} {event}" for state, event in TABLE}
    assert set(PLANS) == rows | set(STORIES)
    assert {event for _, event in TABLE} == set(get_args(Event))
    with pytest.raises(KeyError):
        of_row("settled", "a new event")  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "event"), list(TABLE), ids=[f"{state}-{event}" for state, event in TABLE])
def test_each_transition_is_taken_and_a_crash_at_each_of_its_commits_leaves_old_or_new(
    shared: Matrix, state: SlotState, event: Event
) -> None:
    name = f"{state} {event}"
    assert shared.played(name).takes(state, event)
    for crash in ("process gone", "full at start"):
        row = shared.states(crash, name, ENDLESS, thorough=True, commits=True)
        assert row.faults == []
        assert row.whole
        assert row.tried


# --- the two stories, whole ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crash", "plan"),
    [
        ("process gone", "install"),
        ("process gone", "revert"),
        ("power cut", "install"),
        ("power cut", "revert"),
        ("torn commit", "revert"),
    ],
)
def test_after_every_state_that_a_crash_may_leave_the_device_is_old_or_new(shared: Matrix, crash: str, plan: str) -> None:
    row = shared.states(crash, plan, ENDLESS, thorough=True)
    assert row.faults == []
    assert row.whole
    assert row.tried == row.old + row.new + row.trial
    assert row.old
    assert row.new


@STORY
@pytest.mark.parametrize("once", [False, True])
def test_a_disk_that_is_full_at_any_write_costs_nothing_but_the_change(shared: Matrix, plan: str, once: bool) -> None:
    row = shared.full(plan, ENDLESS, once=once)
    assert row.faults == []
    assert row.whole


def test_a_revert_killed_after_each_operation_goes_on_to_its_end(matrix: Matrix) -> None:
    row = matrix.kill("revert", ENDLESS)
    assert row.faults == []
    assert row.whole
    assert row.new  # at the last operation it is through
    assert row.tried == row.old + row.new


# --- everything: make faults -----------------------------------------------------------------------------------------------


@pytest.mark.slow_faults
@pytest.mark.parametrize("crash", ["kill -9", *STATES, "disk full", "disk full once"])
@pytest.mark.timeout(1800)
def test_every_crash_of_every_plan(shared: Matrix, crash: str) -> None:
    rows = [crash_row(shared, crash, plan) for plan in PLANS]
    assert [(row.plan, fault) for row in rows for fault in row.faults] == []
    assert all(row.whole for row in rows)
    assert sum(row.tried for row in rows) > 10 * len(PLANS) or crash == "kill -9"


# --- the harness itself ----------------------------------------------------------------------------------------------------


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
    shared: Matrix, quick_folder: Path, careless: Callable[[Done], bool], told: str
) -> None:
    played = shared.played("install")
    kept = [each for each in played.done if careless(each)]
    assert len(kept) < len(played.done)
    states = power_cuts(played.disk(), kept, thorough=False)
    assert any(told in fault for fault in _faults(played, states, quick_folder / "careless"))


def _faults(played: Played, states: Iterator[CrashState], place: Path) -> Iterator[str]:
    """One state at a time: whoever has seen enough stops."""
    plan = replace(played.plan, acts=())
    for state in states:
        shutil.rmtree(place, ignore_errors=True)
        state.put(place)
        yield from survey(place, plan, played.limits, entries=state.entries, boot_id=NEXT_BOOT)[1]


def test_a_lost_journal_entry_a_damaged_model_and_a_wrong_version_are_told(matrix: Matrix, tmp_path: Path) -> None:
    played = matrix.played("revert")
    there = at_rest(AgentHome(played.root).registry).entries
    _, lost = survey(played.root, played.plan, played.limits, entries=there + 1, boot_id=BOOT)
    assert any("lost 1 entries" in fault for fault in lost)
    flash(tmp_path / "home")
    next((tmp_path / "home" / "models" / "bundles").rglob("core.bin")).write_bytes(b"\0")
    _, faults = survey(tmp_path / "home", played.plan, played.limits, entries=0, boot_id=BOOT)
    assert any("core.bin is not what the record says" in fault for fault in faults)
    assert any("the rule answers, 1.0.0 should" in fault for fault in faults)


def test_a_link_for_foreign_runtimes_that_leads_nowhere_is_told_and_put_right_at_the_start(matrix: Matrix) -> None:
    played = matrix.played("revert")
    place = AgentHome(played.root).current / MODEL
    right = place.readlink()
    place.unlink()
    place.symlink_to("../models/bundles/gone")
    plan = replace(played.plan, acts=())
    _, faults = survey(played.root, plan, played.limits, entries=0, boot_id=BOOT)
    assert faults == ["before the start: current/ is at ../models/bundles/gone"]
    assert place.readlink() == right
    assert survey(played.root, plan, played.limits, entries=0, boot_id=BOOT)[1] == []


def test_storage_that_leaves_flushes_out_is_found_to_lose_a_model(quick_folder: Path) -> None:
    with witnessed(Lying()):
        played = Matrix(quick_folder / "lying").played("install")
        states = list(power_cuts(played.disk(), played.done, thorough=False))
        found = list(_faults(played, iter(states[-60:]), quick_folder / "after"))
    assert any("is not what the record says" in fault for fault in found)
    assert any("No such file" in fault for fault in found)


# --- the verb --------------------------------------------------------------------------------------------------------------


def _verb(folder: Path, *more: str, faults: str = "") -> tuple[int, str]:
    words = ["selftest", "crash", "--dir", str(folder), "--seconds", "2", *more]
    env = {**os.environ, **({FAULTS: faults} if faults else {})}
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", *words], stdout=subprocess.PIPE, env=env, check=False)
    return done.returncode, done.stdout.decode("utf-8")


def test_the_verb_prints_its_matrix_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, out = _verb(tmp_path, "--json")
    report = json.loads(out)
    assert (report["schema"], report["full"]) == ("fieldops.agent_selftest_crash/v1", False)
    assert (report["ok"], code) == ((True, 0) if report["storage"]["keeps"] else (False, 6))
    assert [row["faults"] for row in report["matrix"] if row["failed"]] == []
    assert "stub" in report["payload"]
    assert {(row["crash"], row["plan"]) for row in report["matrix"]} >= {("kill -9", "install"), ("power cut", "revert")}
    assert all(row["tried"] >= 1 for row in report["matrix"])
    assert list(tmp_path.iterdir()) == []


def test_a_flush_that_goes_nowhere_is_noticed(tmp_path: Path) -> None:
    with witnessed(Lying()):
        found = durability(tmp_path)
    assert not found.keeps
    assert "it goes nowhere" in found.why or "lies in memory" in found.why


def test_the_verb_says_that_storage_lies(quick_folder: Path) -> None:
    code, out = _verb(quick_folder, faults="selftest lie 1")
    assert code == 6
    assert "This storage does not keep what it is told to keep" in out
    assert "FAILED" in out


def test_a_mount_in_memory_or_without_barriers_is_named(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    for options, told in (("tmpfs tmpfs rw", "lies in memory"), ("ext4 /dev/x rw,nobarrier", "mounted with nobarrier")):
        mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/y rw\n2 1 0:5 / {tmp_path} rw,noatime shared:1 - {options}\n", "utf-8")
        found = durability(tmp_path, mounts)
        assert not found.keeps
        assert told in found.why
    mounts.write_text(f"1 0 8:1 / {tmp_path}/other rw - tmpfs tmpfs rw\n", "utf-8")
    assert durability(tmp_path, mounts).file_system == ""

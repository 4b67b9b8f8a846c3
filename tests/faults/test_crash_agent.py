"""Real agents with real models: agent, worker or laptop killed, or the disk full, after each journaled transition of a change.

Between two of those the in-process matrix (test_crash_matrix.py) goes through every operation, with kills of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fieldops.edges.operation import FAULTS
from fieldops.errors import FieldopsError
from fieldops.steps import Activate
from fieldops.wire import SlotStatus
from tests.agent.conftest import Agent, Laptop, Release, request_of, within

# httpcore leaves a unix socket that was refused to the garbage collector; here agents are away for a while.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

NEW, OLD = "1.1.0", "1.0.0"
CHANGES: dict[str, Callable[[Laptop, Agent], object]] = {
    "stage": lambda laptop, agent: laptop.stage(agent, f"digits@{NEW}"),
    "activate": lambda laptop, agent: laptop.do(agent, _activate(shadow_s=1)),
    "commit": lambda laptop, agent: laptop.commit(agent, NEW),
    "revert": lambda laptop, agent: laptop.revert(agent),
}


def _activate(shadow_s: int = 0) -> Activate:
    return Activate(model="digits", version=NEW, trial_s=3600, attempts=100, shadow_s=shadow_s)


@dataclass
class Bench:
    """Homes as they were before each change; every trial works on a copy of one."""

    folder: Path
    laptop: Laptop
    release: Release
    images: tuple[Any, Any]

    def before(self, change: str) -> Path:
        """The home before this change; all changes ahead of it are made."""
        home = self.folder / f"before-{change}"
        if not home.exists():
            names = list(CHANGES)
            ahead = names[names.index(change) - 1] if names.index(change) else None
            with self.agent(home, self.before(ahead) if ahead else None) as agent:
                if ahead is None:
                    self.laptop.enrol(agent)
                else:
                    CHANGES[ahead](self.laptop, agent)
        return home

    @contextlib.contextmanager
    def agent(self, home: Path, of: Path | None, faults: str = "") -> Iterator[Agent]:
        if of is not None:
            shutil.copytree(of, home)
        agent = Agent(home, self.folder / "r", faults=faults).start()
        try:
            yield agent
        finally:
            if agent.process is not None:
                agent.kill()

    def points(self, change: str) -> list[int]:
        """After which operations of an agent that makes the change a commit of its registry is on disk."""
        listed, home = self.folder / "operations", self.folder / "count"
        with self.agent(home, self.before(change), f"serve list={listed} 0") as agent:
            first = len(listed.read_text("ascii").splitlines()) if listed.exists() else 0
            CHANGES[change](self.laptop, agent)
            lines = listed.read_text("ascii").splitlines()
        shutil.rmtree(home)
        listed.unlink()
        return [at for at, line in enumerate(lines, 1) if at > first and line == "commit registry.db"]

    def sound(self, agent: Agent) -> SlotStatus:
        """The invariant: what should answer answers, its files are those of the record, the journal is whole."""
        slot = agent.until(lambda slot: slot.state not in {"validating", "reverting"})
        answering = slot.candidate if slot.state == "trial" else slot.active
        with agent.client("infer.sock") as client:
            reply = client.post("/v2/models/digits/infer", json=request_of(self.images[0][0]))
        assert (reply.status_code, reply.json()["parameters"]["version"]) == (200, answering)
        assert reply.json()["parameters"]["route"] in {"core", "large"}
        for version in slot.versions:
            folder = agent.home / "models" / "bundles" / version.manifest_sha256
            text = (folder / "manifest.json").read_bytes()
            assert hashlib.sha256(text).hexdigest() == version.manifest_sha256
            for file in json.loads(text)["files"]:
                assert hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        page = agent.get("/v1/journal")
        assert [entry["seq"] for entry in page["entries"]] == list(range(1, page["newest"] + 1))
        states = {OLD: {"settled", "staging", "staged", "trial", "reverted"}, NEW: {"committed"}}
        assert slot.state in states[slot.active or ""]
        return slot

    def killed(self, change: str, at: int) -> None:
        home = self.folder / "killed"
        with self.agent(home, self.before(change), f"serve kill {at}") as agent:
            with ThreadPoolExecutor(1) as hands:
                asked = hands.submit(CHANGES[change], self.laptop, agent)
                waiting = within()
                while agent.process is not None and agent.process.poll() is None and not asked.done():
                    waiting.check("the kill")
                    waiting.cancel.wait(0.02)
                agent.kill()
                agent.faults = ""
                agent.start()
                self.sound(agent)
                with contextlib.suppress(FieldopsError):  # the laptop holds on: it reads how its step ended
                    asked.result(60)
            self._again(change, agent, self.sound(agent))
        shutil.rmtree(home)

    def _again(self, change: str, agent: Agent, slot: SlotStatus) -> None:
        if change == "activate" and slot.state == "trial":
            return
        done = {"stage": slot.state == "staged", "commit": slot.active == NEW, "revert": slot.active == OLD}
        if not done.get(change):
            CHANGES[change](self.laptop, agent)
        after = self.sound(agent)
        wanted = {"stage": "staged", "activate": "trial", "commit": "committed", "revert": "reverted"}
        assert after.state == wanted[change]

    def worker_killed(self, change: str, at: int) -> None:
        home = self.folder / "wounded"
        with self.agent(home, self.before(change), f"serve kill-workers {at}") as agent:
            with contextlib.suppress(FieldopsError):
                CHANGES[change](self.laptop, agent)
            self.sound(agent)
            agent.kill()
            agent.start()
            self.sound(agent)
        shutil.rmtree(home)

    def full(self, change: str, at: int) -> None:
        home = self.folder / "full"
        with self.agent(home, self.before(change), f"serve full {at}") as agent:
            with contextlib.suppress(FieldopsError):
                CHANGES[change](self.laptop, agent)
            with agent.client("infer.sock") as client:
                reply = client.post("/v2/models/digits/infer", json=request_of(self.images[0][0]))
                assert reply.json()["parameters"]["version"] in {OLD, NEW}
            agent.kill()
            agent.faults = ""
            agent.start()
            self._again(change, agent, self.sound(agent))
        shutil.rmtree(home)

    def visit_points(self) -> list[int]:
        """As `points`, of a whole visit: stage, activate, commit."""
        listed, home = self.folder / "operations", self.folder / "count"
        with self.agent(home, self.before("stage"), f"serve list={listed} 0") as agent:
            first = len(listed.read_text("ascii").splitlines()) if listed.exists() else 0
            assert self._visit(agent, self.folder / "laptop.pid", "") == 0
            lines = listed.read_text("ascii").splitlines()
        shutil.rmtree(home)
        listed.unlink()
        return [at for at, line in enumerate(lines, 1) if at > first and line == "commit registry.db"]

    def laptop_dies(self, at: int, *, by_device: bool) -> bool:
        """At its own n-th operation, or at the device's; is it dead."""
        home, pid = self.folder / "left", self.folder / "laptop.pid"
        order = f"serve kill={pid} {at}" if by_device else ""
        with self.agent(home, self.before("stage"), order) as agent:
            first = self._visit(agent, pid, "" if by_device else f"laptop kill {at}")
            self.sound(agent)
            agent.kill()  # the order may not have been reached, and must not meet the next visit
            agent.faults = ""
            agent.start()
            self.sound(agent)
            assert self._visit(agent, pid, "") == 0
            assert self.sound(agent).active == NEW
        shutil.rmtree(home)
        return first == -9

    def _visit(self, agent: Agent, pid: Path, faults: str) -> int:
        job = {
            "folder": str(self.laptop.folder),
            "stick": str(self.release.stick),
            "person": str(self.release.person),
            "home": str(agent.home),
            "runtime": str(agent.runtime),
            "version": NEW,
            "ready": agent.ready,
            "pid": str(pid),
        }
        file = self.folder / "job.json"
        file.write_text(json.dumps(job), "utf-8")
        words = [sys.executable, str(Path(__file__).with_name("laptop_process.py")), "laptop", str(file)]
        root = str(Path(__file__).parents[2])
        env = {**os.environ, "PYTHONPATH": root, **({FAULTS: faults} if faults else {})}
        return subprocess.run(words, env=env, timeout=120, check=False).returncode


@pytest.fixture
def bench(
    short_folder: Path, make_laptop: Callable[..., Laptop], flashed: Path, release: Release, images: tuple[Any, Any]
) -> Bench:
    made = Bench(short_folder, make_laptop(), release, images)
    shutil.copytree(flashed, short_folder / "before-stage")
    (short_folder / "before-stage" / "agent.toml").write_text('class = "bench"\n', "utf-8")
    with made.agent(short_folder / "before-stage", None) as agent:
        made.laptop.enrol(agent)
    return made


# --- a part of it, always --------------------------------------------------------------------------------------------------


def test_an_agent_killed_in_the_middle_of_an_activation_or_a_commit_is_old_or_new(bench: Bench) -> None:
    points = bench.points("activate")
    bench.killed("activate", points[len(points) // 2])
    bench.killed("commit", bench.points("commit")[-1])


def test_a_worker_killed_in_a_validation_leaves_the_old_model_answering(bench: Bench) -> None:
    points = bench.points("activate")
    bench.worker_killed("activate", points[len(points) // 2])


def test_a_laptop_that_dies_in_the_middle_is_followed_by_one_that_goes_on(bench: Bench) -> None:
    points = bench.points("stage")
    assert bench.laptop_dies(points[len(points) // 2], by_device=True)


# --- all of it: make faults ------------------------------------------------------------------------------------------------


@pytest.mark.slow_faults
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("fault", ["killed", "worker_killed", "full"])
def test_a_fault_after_every_journaled_transition_of_a_change(bench: Bench, change: str, fault: str) -> None:
    points = bench.points(change)
    assert points
    for at in points:
        getattr(bench, fault)(change, at)


@pytest.mark.slow_faults
@pytest.mark.timeout(3000)
def test_a_laptop_killed_at_every_operation_of_its_own(bench: Bench) -> None:
    at, dead = 1, True
    while dead:
        dead = bench.laptop_dies(at, by_device=False)
        at += 1
    assert at > 10


@pytest.mark.slow_faults
@pytest.mark.timeout(3000)
def test_a_laptop_killed_after_every_journaled_transition_of_its_device(bench: Bench) -> None:
    points = bench.visit_points()
    assert len(points) > 10
    died = [bench.laptop_dies(at, by_device=True) for at in points]
    assert sum(died) > len(points) // 2  # what the device does of itself moves the others; some find it through already

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fieldops.deadline import Deadline
from fieldops.demo import children
from fieldops.demo.control import ask
from fieldops.fleet import parse_inventory

Within = Callable[[float], Deadline]

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(sys.platform == "win32", reason="the sample fleet needs unix sockets")]


def served(folder: Path, log: Path) -> children.Child:
    command = children.python("fieldops", "demo", "--serve", "--devices", "2", "--dir", str(folder))
    return children.start("demo", command, log, children.environment())


def processes_of(child: children.Child) -> list[psutil.Process]:
    return psutil.Process(child.pid).children(recursive=True)


def verb(home: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = children.python("fieldops", "--home", home, *words)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=children.environment(), stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo ran before, so that the tests start from what a restart finds."""
    folder = tmp_path_factory.mktemp("demo")
    child = served(folder / "plant", folder / "first.log")
    try:
        child.wait_ready(Deadline.after(120, time.monotonic))
    finally:
        assert child.stop_by(signal.SIGTERM) == 0
    return folder / "plant"


def test_the_ready_line_says_where_everything_is_and_every_verb_works_on_it(plant: Path, tmp_path: Path, within: Within) -> None:
    child = served(plant, tmp_path / "demo.log")
    try:
        ready = child.wait_ready(within(90))
        assert ready["schema"] == "fieldops.demo/v1"
        assert {"home", "stick", "store", "devices"} <= ready.keys()
        assert [sorted(device) for device in ready["devices"]] == [
            ["class", "condition", "id", "lan", "name", "pid", "ssh"],
            ["class", "condition", "id", "lan", "name", "pid", "ssh"],
        ]
        shown = verb(ready["home"], "resources", "meter-01", "meter-02", "--json")
        assert shown.returncode == 0, shown.stderr
        assert verb(ready["home"], "audit", "sync").returncode == 0
        assert ask(ready["control"], "status", 10) == "ok up"
    finally:
        assert child.stop_by(signal.SIGTERM) == 0
    assert f'export FIELDOPS_HOME="{ready["home"]}"' in (tmp_path / "demo.log").read_text()


def test_a_restart_has_the_same_devices_at_the_same_addresses(plant: Path, tmp_path: Path, within: Within) -> None:
    before = json.loads((plant / "demo.json").read_text())
    child = served(plant, tmp_path / "demo.log")
    try:
        ready = child.wait_ready(within(90))
    finally:
        child.stop_by(signal.SIGTERM)

    def places(document: dict[str, Any]) -> list[tuple[str, ...]]:
        return [(each["name"], each["id"], each["ssh"], each["lan"]) for each in document["devices"]]

    assert places(ready) == places(before)
    entries = {each.name: each for each in parse_inventory((plant / "home" / "fleet.toml").read_text(), "fleet.toml").devices}
    assert {each["name"]: each["id"] for each in ready["devices"]} == {name: entry.id for name, entry in entries.items()}


def test_a_second_demo_on_the_same_folder_is_refused(plant: Path, tmp_path: Path, within: Within) -> None:
    child = served(plant, tmp_path / "demo.log")
    try:
        child.wait_ready(within(90))
        second = served(plant, tmp_path / "second.log")
        assert second.process.wait(60) == 8
        second.stop()
        assert str(child.pid) in (tmp_path / "second.log").read_text()
    finally:
        child.stop_by(signal.SIGTERM)


def test_nothing_survives_a_demo_that_is_killed_and_the_next_one_starts(plant: Path, tmp_path: Path, within: Within) -> None:
    child = served(plant, tmp_path / "demo.log")
    child.wait_ready(within(90))
    running = processes_of(child)
    assert len(running) >= 6  # SSH, two agents with a worker each, load, store
    os.kill(child.pid, signal.SIGKILL)
    child.stop()
    _, alive = psutil.wait_procs(running, timeout=30)
    assert alive == []
    again = served(plant, tmp_path / "again.log")
    try:
        again.wait_ready(within(90))
    finally:
        assert again.stop_by(signal.SIGTERM) == 0


def test_a_killed_agent_is_reported_as_such_and_the_other_devices_answer(plant: Path, tmp_path: Path, within: Within) -> None:
    child = served(plant, tmp_path / "demo.log")
    try:
        ready = child.wait_ready(within(90))
        victim = psutil.Process(ready["devices"][0]["pid"])
        victim.kill()
        psutil.wait_procs([victim], timeout=20)
        gone = verb(ready["home"], "models", "meter-01", "--json")
        assert gone.returncode in {5, 6}, gone.stdout
        assert json.loads(gone.stdout)["next"]
        assert verb(ready["home"], "models", "meter-02", "--json").returncode == 0
    finally:
        child.stop_by(signal.SIGTERM)

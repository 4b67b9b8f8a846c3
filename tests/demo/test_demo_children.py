from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.deadline import Deadline
from fieldops.demo import children
from fieldops.errors import DeadlinePassed, DeviceCannot

Within = Callable[[float], Deadline]

ECHO = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    print(json.dumps({"said": line.strip()}), flush=True)
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", flush=True)
while True:
    signal.pause()
"""


def started(script: str, tmp_path: Path) -> children.Child:
    return children.start("child", [sys.executable, "-c", script], tmp_path / "child.log", children.environment())


def test_a_child_is_ready_answers_and_ends_at_the_end_of_its_pipe(tmp_path: Path, within: Within) -> None:
    child = started(ECHO, tmp_path)
    assert child.wait_ready(within(20)) == {"ready": True}
    child.say("counts")
    assert child.document(within(20)) == {"said": "counts"}
    assert child.stop() == 0


def test_a_child_that_dies_early_is_reported_with_its_last_words(tmp_path: Path, within: Within) -> None:
    child = started("import sys; sys.exit('no room in /tmp')", tmp_path)
    with pytest.raises(DeviceCannot, match="no room in /tmp"):
        child.wait_ready(within(20))
    child.stop()


def test_a_silent_child_is_waited_for_no_longer_than_the_deadline(tmp_path: Path, within: Within) -> None:
    child = started("import sys; sys.stdin.read()", tmp_path)
    with pytest.raises(DeadlinePassed):
        child.wait_ready(within(0.3))
    child.stop()


def test_a_child_that_hears_nothing_is_killed(tmp_path: Path, within: Within) -> None:
    child = started(DEAF, tmp_path)
    child.wait_ready(within(20))
    assert child.stop(0.2) == -9
    assert not child.alive


def test_children_do_not_keep_each_others_pipes_open(tmp_path: Path, within: Within) -> None:
    first, second = started(ECHO, tmp_path), started(ECHO, tmp_path)
    for child in (first, second):
        child.wait_ready(within(20))
    assert first.stop(10) == 0  # it saw EOF although the second still runs
    assert second.alive
    children.stop_all([first, second])
    assert not second.alive


def test_a_childs_environment_has_no_home_of_the_person_who_runs_the_demo() -> None:
    os.environ["FIELDOPS_HOME"] = "/nowhere"
    try:
        assert "FIELDOPS_HOME" not in children.environment()
        assert children.environment(FIELDOPS_HOME="/demo")["FIELDOPS_HOME"] == "/demo"
    finally:
        del os.environ["FIELDOPS_HOME"]

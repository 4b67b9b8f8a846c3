from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fieldops.demo import children

STEPS = [
    "discover",
    "connect-ssh",
    "connect-lan",
    "resources",
    "drift",
    "benchmark",
    "stick-verify",
    "stick-tampered-refused",
    "sideload",
    "degraded-reverts",
    "laptop-dies-reverts",
    "runbook-rollback",
    "visit-close",
    "sync",
    "audit-verify",
]


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform == "win32", reason="the sample fleet needs unix sockets")
def test_the_whole_main_job_holds_step_by_step() -> None:
    done = subprocess.run(
        children.python("fieldops", "demo", "--tour", "--json"),
        capture_output=True,
        text=True,
        timeout=380,
        env=children.environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    document = json.loads(done.stdout)
    failed = [step for step in document["steps"] if not step["ok"]]
    assert failed == [], done.stderr
    assert [step["id"] for step in document["steps"]] == STEPS
    assert document.keys() == {"schema", "ok", "steps"}
    assert document["schema"] == "fieldops.tour/v1"
    assert all(step.keys() == {"id", "ok", "seconds", "detail"} for step in document["steps"])
    assert (document["ok"], done.returncode) == (True, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tour", "--serve"), "exclude each other"),
        (("--tour", "--devices", "3"), "needs all 8"),
        (("--devices", "25"), "1 to 24"),
        ((), "needs a terminal"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_starts(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        children.python("fieldops", "demo", *words),
        capture_output=True,
        text=True,
        timeout=60,
        env=children.environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr

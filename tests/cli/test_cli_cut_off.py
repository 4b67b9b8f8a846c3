"""A laptop that dies in the middle of a runbook, and what `runbook resume` makes of it; benchmarks of a file on the laptop."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fieldops.cli.documents.benches import BenchRun
from fieldops.cli.documents.runbooks import RunbookRun, RunbookRuns
from fieldops.wire import ErrorDoc
from tests.cli.conftest import Done, Run, command, environment, sample_fleet

READY_S = 90
MODEL = Path(__file__).parents[2] / "sample_fleet" / "digits" / "1.1.0" / "core.onnx"

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(sys.platform == "win32", reason="the sample fleet needs unix sockets")]


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sample_fleet(tmp_path_factory.mktemp("fleet"), devices=1) as home:
        yield home


def asked(home: Path, *words: str) -> msgspec.Struct:
    ran = subprocess.run(
        command(*words, "--json"),
        capture_output=True,
        text=True,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        timeout=READY_S,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return Done(ran.returncode, ran.stdout, ran.stderr).document()


def killed_after_the_intent(home: Path, *words: str) -> None:
    """SIGKILL as soon as the log holds the intent of the step: the device may have it, may do it, or may never hear of it."""
    with sqlite3.connect(f"file:{home / 'audit.db'}?mode=ro", uri=True) as log:
        count = "select count(*) from entry"
        before = log.execute(count).fetchone()[0]
        process = subprocess.Popen(
            command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(home)
        )
        end = time.monotonic() + READY_S
        while log.execute(count).fetchone()[0] < before + 2:  # the begin of the run, then the intent
            assert process.poll() is None, "it ended before the step"
            assert time.monotonic() < end
        process.kill()
        process.wait(READY_S)
    log.close()


def test_a_runbook_cut_off_by_a_dead_laptop_goes_on_and_still_knows_what_answered_before(fleet_home: Path) -> None:
    asked(fleet_home, "sideload", "meter-01", "--bundle", "digits@1.1.0", "--yes")
    killed_after_the_intent(
        fleet_home, "runbook", "run", "rollback-model", "device=meter-01", "--yes", "--reason", "blurred", "--ticket", "T-7"
    )
    runs = asked(fleet_home, "runbook", "status")
    assert isinstance(runs, RunbookRuns)
    cut = asked(fleet_home, "runbook", "status", runs.runs[0])
    assert isinstance(cut, RunbookRun)
    assert (cut.outcome, cut.steps[-1].id, cut.steps[-1].ok) == (None, "switch", None)

    resumed = asked(fleet_home, "runbook", "resume", cut.run, "--yes")
    assert isinstance(resumed, RunbookRun)
    assert resumed.outcome == "committed"
    assert {step.ok for step in resumed.steps} == {True}
    lines = [msgspec.json.decode(line) for line in (fleet_home / "runs" / f"{cut.run}.jsonl").read_bytes().splitlines()]
    facts = [line["values"] for line in lines if line["type"] == "fact" and "previous" in line["values"]]
    assert facts == [{"previous": "1.1.0", "version": "1.0.0"}]  # where an undo would go

    again = asked(fleet_home, "runbook", "resume", cut.run, "--yes")
    assert again == resumed
    log = msgspec.json.encode(asked(fleet_home, "audit", "list")).decode()
    assert log.count('"runbook.end"') == 1
    assert log.count('"T-7"') >= 2  # the words it began with stand at what the resumed run wrote as well


def test_a_file_on_the_laptop_is_measured_and_kept(run: Run) -> None:
    first, second = (run("bench", "run", "--local", str(MODEL), "--samples", "64", "--json").document() for _ in range(2))
    assert isinstance(first, BenchRun)
    assert isinstance(second, BenchRun)
    assert first.run.result.model == "core"
    assert first.run.result.p90_ms is not None
    assert first.run.result.p99_ms is None  # 64 samples say nothing of it
    assert first.run.result.throttled is None
    assert run("bench", "compare", first.run.id, second.run.id).code == 0


def test_a_file_that_is_no_model_is_the_callers_fault_and_nothing_is_kept(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes.onnx"
    file.write_text("not a model")
    for path, reason in ((file, "bad_model"), (tmp_path / "nowhere.onnx", "no_such_file")):
        refused = run("bench", "run", "--local", str(path), "--json")
        assert refused.code == 2
        document = refused.document()
        assert isinstance(document, ErrorDoc)
        assert (document.reason, path.name in document.message) == (reason, True)
    assert "no runs yet" in run("bench", "list").out

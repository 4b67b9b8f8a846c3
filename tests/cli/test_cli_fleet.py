"""The verbs against real agents of the sample fleet, as a script uses them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fieldops.cli.documents.benches import BenchRun
from fieldops.cli.documents.changes import Changed, Plan, Pulled
from fieldops.cli.documents.devices import DeviceStates
from fieldops.cli.documents.log import AuditVerified
from fieldops.cli.documents.readings import DriftReport, Logs, ModelsReport, ResourcesReport
from fieldops.cli.documents.runbooks import RunbookRun
from fieldops.wire import ErrorDoc
from tests.cli.conftest import Done, environment, sample_fleet

READY_S = 90

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(sys.platform == "win32", reason="the sample fleet needs unix sockets")]


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sample_fleet(tmp_path_factory.mktemp("fleet"), devices=2) as home:
        yield home


class Script:
    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, code: int = 0) -> msgspec.Struct:
        ran = subprocess.run(
            [sys.executable, "-m", "fieldops", *words, "--json"],
            capture_output=True,
            text=True,
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            timeout=READY_S,
            check=False,
        )
        done = Done(ran.returncode, ran.stdout, ran.stderr)
        assert done.code == code, f"{done.out}\n{done.err}"
        return done.document()


def test_tiers_are_set_and_kept_inputs_are_pulled(script: Script) -> None:
    done = script("models", "tiers", "meter-01", "digits", "--hottest", "70", "--yes")
    assert isinstance(done, Changed)
    assert done.devices[0].records[0].message.startswith("large model rests from 70 °C; before: ")
    wrong = script("models", "tiers", "meter-01", "digits", "--threshold", "2", "--yes", code=2)
    assert isinstance(wrong, ErrorDoc)
    pulled = script("samples", "pull", "meter-01", "digits")
    assert isinstance(pulled, Pulled)
    assert (pulled.unreadable, pulled.new) == (0, pulled.unlabelled)
    unlabelled = script("models", "recalibrate", "meter-01", "digits", "--yes", code=2)
    assert isinstance(unlabelled, ErrorDoc)
    assert unlabelled.reason == "no_labels"


def test_what_nobody_goes_back_to_is_pruned_through_the_gate(script: Script) -> None:
    plan = script("models", "prune", "meter-01", "digits", "--dry-run")
    assert isinstance(plan, Plan)
    assert plan.devices[0].steps == ["remove digits versions that are neither active nor last-good"]
    done = script("models", "prune", "meter-01", "digits", "--yes")
    assert isinstance(done, Changed)
    assert "nothing to remove" in done.devices[0].records[0].message
    refused = script("models", "prune", "meter-01", "digits", "1.0.0", "--yes", code=6)
    assert isinstance(refused, ErrorDoc)
    assert refused.reason in {"in_use", "not_staged"}


@pytest.fixture
def script(fleet_home: Path) -> Script:
    return Script(fleet_home)


def test_several_devices_are_read_at_once(script: Script) -> None:
    resources = script("resources", "--all")
    assert isinstance(resources, ResourcesReport)
    assert [each.error for each in resources.devices] == [None, None]
    states = script("device", "show", "--all")
    assert isinstance(states, DeviceStates)
    assert {each.enrolled for each in states.devices} == {True}
    for words, kind in ((("models", "--all"), ModelsReport), (("drift", "--all"), DriftReport), (("logs", "meter-01"), Logs)):
        assert isinstance(script(*words), kind)


def test_a_model_goes_on_and_back_and_all_of_it_stands_in_the_record(script: Script) -> None:
    plan = script("sideload", "meter-01", "--bundle", "digits@1.1.0", "--dry-run")
    assert isinstance(plan, Plan)
    assert plan.devices[0].steps[-1] == "commit digits 1.1.0"
    loaded = script("sideload", "meter-01", "--bundle", "digits@1.1.0", "--yes", "--ticket", "T-1")
    assert isinstance(loaded, Changed)
    assert {record.state for record in loaded.devices[0].records} == {"done"}
    again = script("sideload", "meter-01", "--bundle", "digits@1.1.0", "--yes")
    assert isinstance(again, Changed)
    assert again.devices[0].records == []
    back = script("rollback", "meter-01", "digits", "--yes")
    assert isinstance(back, Changed)
    assert back.devices[0].to_version == "1.0.0"
    audit = script("audit", "verify")
    assert isinstance(audit, AuditVerified)
    assert audit.ok, audit.problems


def test_what_the_device_refuses_has_its_code(script: Script) -> None:
    refused = script("sideload", "meter-02", "--bundle", "digits@2.0.0-bad", "--yes", code=6)
    assert isinstance(refused, ErrorDoc)
    assert refused.device == "meter-02"
    assert "golden" in refused.message


def test_a_benchmark_is_kept_and_a_runbook_runs_to_its_end(script: Script) -> None:
    measured = script("bench", "run", "meter-02", "digits", "--samples", "64", "--yes")
    assert isinstance(measured, BenchRun)
    assert measured.run.result.p90_ms is not None
    script("bench", "compare", "meter-02:digits", measured.run.id)
    ran = script("runbook", "run", "rollback-model", "device=meter-02", "--yes", code=6)
    assert isinstance(ran, RunbookRun)
    assert ran.outcome == "refused"  # it has no last-good yet, and says so before anything is done

"""`visit prepare|close` and what opens the sealed inputs, as programs: documents, exit codes, files."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import msgspec

from fieldops.cli.documents.visit import SampleKey, SamplesOpened, VisitReadiness
from fieldops.edges.sealed import seal
from fieldops.operations.visit import VisitReport
from fieldops.wire import Sample, SealedSample, b64, unb64
from tests.cli.conftest import Run


def test_prepare_says_what_is_missing_and_what_to_do_about_it(run: Run, fleet: Path) -> None:
    done = run("visit", "prepare", "--json")
    found = done.document()
    assert isinstance(found, VisitReadiness)
    assert (done.code, found.ready) == (7, False)
    told = {each.what: each for each in found.findings}
    assert "no root is pinned" in told["trust"].detail
    assert "never enrolled" in told["device"].detail
    assert "no stick" in told["stick"].detail
    assert told["log"].ok
    assert all(bool(each.next) != each.ok for each in found.findings)
    assert "MISSING" in run("visit", "prepare").out


def test_closing_a_visit_to_nobody_leaves_a_report_and_an_entry_all_the_same(run: Run, fleet: Path, home: Path) -> None:
    done = run("visit", "close", "--all", "--reason", "end of the day", "--timeout", "5", "--json")
    report = done.document()
    assert isinstance(report, VisitReport)
    assert done.code == 5
    [left] = report.devices
    assert left.error is not None
    assert report.warnings == [f"press-01: not reached to the end: {left.error.message}"]
    assert (report.reason, report.confirmed, report.queued) == ("end of the day", 0, 1)
    written = Path(report.folder) / "report.json"
    assert msgspec.json.decode(written.read_bytes(), type=VisitReport) == report
    assert "not reached to the end" in (Path(report.folder) / "report.txt").read_text("utf-8")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    [entry] = json.loads(run("audit", "list", "--json").out)["entries"]
    assert (entry["act"], entry["result"]["status"]) == ("visit.close", "failed")


def test_syncing_at_the_end_without_a_store_is_a_warning_and_its_exit_code(run: Run, fleet: Path) -> None:
    done = run("visit", "close", "press-01", "--sync", "--timeout", "5", "--json")
    report = done.document()
    assert isinstance(report, VisitReport)
    assert report.sync_error is not None
    assert (report.sync_error.reason, report.queued, done.code) == ("no_store", 1, 5)


def test_sealed_inputs_open_with_the_key_that_was_made_for_it(run: Run, tmp_path: Path) -> None:
    key, export, to = tmp_path / "retrain.key", tmp_path / "cam-digits.samples.jsonl", tmp_path / "opened.jsonl"
    made = run("samples", "keygen", str(key), "--json").document()
    assert isinstance(made, SampleKey)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run("samples", "keygen", str(key)).code == 2
    told: dict[str, Any] = {
        "model": "digits",
        "version": "1.0.0",
        "time": 1.0,
        "reason": "out_of_range",
        "label": 3,
        "confidence": 0.4,
    }
    ours = SealedSample(id=1, sealed=b64(seal(b"pixels", [unb64(made.public_key)])), **told)
    theirs = SealedSample(id=2, sealed=b64(seal(b"pixels", [bytes(range(32))])), **told)
    export.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (ours, theirs)))
    opened = run("samples", "open", str(export), "--key", str(key), "--to", str(to), "--json").document()
    assert opened == SamplesOpened(file=str(to), samples=1, unreadable=1)
    [line] = to.read_bytes().splitlines()
    assert msgspec.json.decode(line, type=Sample) == Sample(id=1, request=b64(b"pixels"), **told)
    export.write_bytes(b"no json\n")
    bad = run("samples", "open", str(export), "--key", str(key), "--to", str(to))
    assert bad.code == 2
    assert "jsonl:1" in bad.err
    assert run("samples", "open", str(export), "--key", str(export), "--to", str(to)).code == 2

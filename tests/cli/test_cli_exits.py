"""Exit codes and reasons: told to a person on stderr, to a program as the one document on stdout. Never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fieldops.cli.diagnostics import ended
from fieldops.cli.documents.log import AuditEntries
from fieldops.errors import LinkFault, NeedsPerson
from fieldops.wire import ErrorDoc
from tests.cli.conftest import LIMIT_S, Run, command, environment

NOBODY_ASKS = [
    ("device", "remove", "press-01"),
    ("device", "enrol", "press-01"),
    ("device", "trust", "press-01"),
    ("bench", "run", "press-01", "digits"),
    ("bench", "baseline", "press-01", "digits"),
    ("sideload", "press-01", "--bundle", "digits@1.0.0"),
    ("rollback", "press-01", "digits"),
    ("runbook", "run", "rollback", "device=press-01"),
    ("runbook", "resume", "20260101000000-1"),
]

CASES = [
    (2, "usage", ("frobnicate",)),
    (2, "usage", ("device", "frobnicate")),
    (2, "usage", ("resources",)),
    (2, "usage", ("resources", "press-01", "--timeout", "soon")),
    (2, "usage", ("device", "add", "Press 1", "--ssh", "a b")),
    (2, "usage", ("bench", "run")),
    (2, "unknown_device", ("resources", "press-99")),
    (2, "unknown_device", ("drift", "press-99")),
    (2, "unknown_device", ("device", "remove", "press-99", "--yes")),
    (2, "known_device", ("device", "add", "press-01", "--ssh", "me@127.0.0.1")),
    (2, "unknown_benchmark", ("bench", "compare", "a", "b")),
    (2, "unknown_run", ("runbook", "status", "20260101000000-1")),
    (2, "unknown_runbook", ("runbook", "check", "nothing")),
    (2, "bad_file", ("policy", "pin", "nowhere.json")),
    (2, "no_root", ("device", "enrol", "press-01", "--yes")),
    (2, "bad_fingerprint", ("device", "enrol", "press-01", "--yes", "--expect-fingerprint", "SHA256:cut-off")),
    (2, "no_stick", ("stick", "list", "/nowhere")),
    (2, "no_terminal", ()),
    (3, "missing", ("stick", "list", "STICK")),
    (3, "hash_mismatch", ("policy", "pin", "STICK/metadata/1.root.json", "--expect-fingerprint", "00")),
    (5, "unreachable", ("resources", "press-01")),
    (5, "unreachable", ("models", "press-01")),
    (5, "unreachable", ("rollback", "press-01", "digits", "--dry-run")),
    (5, "unreachable", ("device", "trust", "press-01", "--expect-fingerprint", f"SHA256:{43 * 'x'}")),
    (9, "no_store", ("audit", "sync")),
    *((2, "needs_yes", words) for words in NOBODY_ASKS),
]


@pytest.fixture
def stick(home: Path, fleet: Path) -> Path:
    """A folder that looks like a stick, with a root that says nothing."""
    metadata = home / "stick" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "1.root.json").write_text("{}")
    return metadata.parent


@pytest.mark.parametrize(
    ("code", "reason", "words"), CASES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else None
)
def test_what_cannot_be_done_has_its_code_its_reason_and_its_next_step(
    run: Run, stick: Path, code: int, reason: str, words: tuple[str, ...]
) -> None:
    words = tuple(word.replace("STICK", str(stick)) for word in words)
    told = run(*words)
    assert (told.code, told.out) == (code, ""), told.err
    assert "next: " in told.err
    assert "Traceback" not in told.err
    if not words:
        return  # without a verb there is no --json
    error = run(*words, "--json")
    document = error.document()
    assert isinstance(document, ErrorDoc)
    assert (error.code, error.err, document.exit, document.reason) == (code, "", code, reason)
    assert document.next


def test_a_log_that_is_no_database_is_the_laptops_storage(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "audit.db").write_bytes(b"not a database" * 500)
    told = run("audit", "list")
    assert (told.code, told.out) == (8, "")
    assert "next: " in told.err


def test_a_log_of_a_newer_program_is_refused_politely(run: Run, home: Path, fleet: Path) -> None:
    assert run("device", "remove", "press-01", "--yes").code == 0
    with sqlite3.connect(home / "audit.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    told = run("audit", "list")
    assert told.code == 8
    assert "newer" in told.err


def test_an_unreadable_inventory_is_two_with_every_fault_and_its_line(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "fleet.toml").write_text(
        '[[device]]\nname = "press-01"\nssh = "me@host:99999"\n\n[[device]]\nname = "PRESS"\nlan = "no-port"\nsight = "north"\n'
    )
    told = run("device", "list")
    assert (told.code, told.out) == (2, "")
    lines = [line.split(" ")[2].rsplit(":", 2)[-2] for line in told.err.splitlines() if line.startswith("  ")]
    assert sorted(lines) == ["3", "6", "7", "8"]
    error = run("device", "list", "--json").document()
    assert isinstance(error, ErrorDoc)
    assert error.reason == "bad_file"
    assert "4 faults" in error.message


@pytest.mark.parametrize("text", ["[[device]", "device = 3\n", "[[device]]\nname = 3\n", '[[device]]\nname = "a"\n', "\udcff"])
def test_no_inventory_however_broken_is_a_bug(run: Run, home: Path, text: str) -> None:
    home.mkdir()
    (home / "fleet.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    told = run("resources", "a")
    assert told.code == 2
    assert "bug" not in told.err


def test_the_gravest_of_several_devices_is_the_exit_code(run: Run, fleet: Path) -> None:
    with fleet.open("a") as file:
        file.write('[[device]]\nname = "press-02"\nlan = "127.0.0.1:9"\n')
    told = run("resources", "--all")
    assert told.code == 5
    assert "press-01: " in told.err
    assert "press-02: " in told.err


def test_a_dry_run_of_an_inventory_change_changes_nothing(run: Run, home: Path, fleet: Path) -> None:
    before = fleet.read_text()
    assert run("device", "remove", "press-01", "--dry-run").code == 0
    assert run("device", "add", "press-02", "--ssh", "me@host", "--dry-run").code == 0
    assert fleet.read_text() == before
    assert not (home / "audit.db").exists()


def test_ctrl_c_while_a_device_is_silent_is_130(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT_S)
        home.mkdir()
        (home / "fleet.toml").write_text(f'[[device]]\nname = "a"\nssh = "me@127.0.0.1:{silent.getsockname()[1]}"\n')
        process = subprocess.Popen(
            command("resources", "a", "--timeout", "50"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home),
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_bug_says_so_and_shows_its_traceback_only_where_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIELDOPS_DEBUG", raising=False)
    assert ended(lambda: 1 // 0, as_json=False) == 1
    err = capsys.readouterr().err
    assert "a bug: please report" in err
    assert "Traceback" not in err
    monkeypatch.setenv("FIELDOPS_DEBUG", "1")
    assert ended(lambda: 1 // 0, as_json=False) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_another_process_wrote_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise LinkFault("\x1b[2Jgone\x07", reason="link_lost", next_step="look", device="a\x1b[1m")

    assert ended(refused, as_json=False) == 5
    assert "\x1b" not in capsys.readouterr().err


def test_a_full_pipe_is_no_error_of_ours(fleet: Path, home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            command("device", "list"), stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment(home), check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_that_needs_a_person_keeps_its_code() -> None:
    def failed() -> None:
        raise NeedsPerson("undo failed", reason="undo_failed", next_step="go there", device="press-01")

    assert ended(failed, as_json=True) == 10


def test_what_a_killed_run_left_open_is_settled_by_the_next_change(run: Run, home: Path, fleet: Path) -> None:
    """An intent without outcome, by a process that is gone: the log says that nobody knows, and goes on."""
    program = (
        "import os\nfrom fieldops.audit.entry import Draft\nfrom fieldops.wiring import Laptop\n"
        "Laptop.open().journal.append(Draft(actor='local:me', phase='intent', act='Commit'))\nos._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program], env=environment(home), check=False, timeout=LIMIT_S)
    assert killed.returncode == 9
    assert run("device", "remove", "press-01", "--yes").code == 0
    entries = run("audit", "list", "--json").document()
    assert isinstance(entries, AuditEntries)
    settled = [(entry.of, entry.result.status) for entry in entries.entries if entry.act == "Commit" and entry.result is not None]
    assert settled == [(1, "unknown")]

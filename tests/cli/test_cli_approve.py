"""`fieldops approve` and the files it writes and reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fieldops.bundles.approvals import APPROVAL_NAMESPACE, Statement, encode_statement
from fieldops.edges.keys import ssh_keygen, sshsig_verify
from fieldops.errors import UsageFault
from fieldops.wiring.statements import read_approvals

STATEMENT = encode_statement(
    Statement(
        allow="accept_expired",
        model="digits",
        version="1.1.0",
        manifest_sha256="ab" * 32,
        devices=["d" * 52],
        until=4_000_000_000.0,
        reason="the line\x1b[31m stands still",
    )
)


def fieldops(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fieldops", "--home", str(home), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    ssh_keygen(tmp_path / "key")
    (folder / "config.toml").write_text(f'[person]\nkey = "{(tmp_path / "key").as_posix()}"\n', "utf-8")
    (tmp_path / "s.json").write_text(STATEMENT, "utf-8")
    return folder


def test_an_approval_is_the_exact_text_signed_by_the_person_and_stands_in_the_log(home: Path, tmp_path: Path) -> None:
    done = fieldops(home, "approve", str(tmp_path / "s.json"), "--yes", "--out", str(tmp_path / "a"))
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "a")), done.stderr
    assert "digits 1.1.0" in done.stderr
    assert "\x1b" not in done.stderr
    (approval,) = read_approvals([tmp_path / "a"])
    assert approval.statement == STATEMENT
    who = sshsig_verify(approval.signature, APPROVAL_NAMESPACE, STATEMENT.encode())
    assert json.loads((tmp_path / "a").read_text("utf-8"))["by"] == who
    listed = fieldops(home, "audit", "list", "--json")
    assert [entry["act"] for entry in json.loads(listed.stdout)["entries"]] == ["approve"]


def test_an_approval_is_never_written_over_another_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("precious", "utf-8")
    done = fieldops(home, "approve", str(tmp_path / "s.json"), "--yes", "--out", str(tmp_path / "a"))
    assert (done.returncode, (tmp_path / "a").read_text("utf-8")) == (2, "precious")


def test_nobody_approves_without_being_asked_or_saying_yes(home: Path, tmp_path: Path) -> None:
    done = fieldops(home, "approve", str(tmp_path / "s.json"))
    assert done.returncode == 2
    assert not list(tmp_path.glob("*.approval"))


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, "x" * 300_000, STATEMENT])
def test_what_is_no_approval_is_a_usage_fault(text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text, "utf-8")
    with pytest.raises(UsageFault):
        read_approvals([tmp_path / "a"])
    with pytest.raises(UsageFault):
        read_approvals([tmp_path / "none"])

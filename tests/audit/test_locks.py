"""Exclusive means one process, says which, and never outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fieldops.edges.locks import exclusive
from fieldops.errors import StorageFault

HOLDER = """
import sys
from pathlib import Path
from fieldops.edges.locks import exclusive
with exclusive(Path(sys.argv[1]), "console"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_the_second_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    child = hold(tmp_path / "console.lock")
    try:
        with pytest.raises(StorageFault) as refused, exclusive(tmp_path / "console.lock", "console"):
            pass
    finally:
        child.communicate()
    assert refused.value.reason == "in_use"
    assert f"process {child.pid}" in refused.value.message
    assert refused.value.exit_code == 8


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    child = hold(tmp_path / "console.lock")
    child.kill()
    child.communicate()
    with exclusive(tmp_path / "console.lock", "console"):
        assert (tmp_path / "console.lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_given_back_and_holds_within_one_process_too(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "sync.lock", "sync"):
            with pytest.raises(StorageFault) as refused, exclusive(tmp_path / "sync.lock", "sync"):
                pass
            assert str(os.getpid()) in refused.value.message


def test_a_place_that_cannot_be_locked_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault), exclusive(tmp_path / "file" / "x.lock", "sync"):
        pass

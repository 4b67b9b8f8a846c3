"""Who wrote an entry and whether it still runs, asked of real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fieldops.edges.processes import boot_id, has_ended, session

TELL = "import sys; from fieldops.edges.processes import session; print(session(), flush=True); sys.stdin.read()"


def test_a_process_runs_until_it_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = child.stdout.readline().strip()
    assert told.startswith(f"{child.pid}.")
    assert not has_ended(told, boot_id())
    child.kill()
    if sys.platform == "linux":
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has taken its exit code yet
        assert has_ended(told, boot_id())
    child.communicate()
    assert has_ended(told, boot_id())


@pytest.mark.parametrize(
    ("who", "boot", "ended"),
    [
        (session(), boot_id(), False),
        (f"{os.getpid()}.12345", boot_id(), True),  # the pid was given out again
        (session(), "another-boot", True),
        (session(), "", False),
        ("no session", boot_id(), False),
        ("", "", False),
    ],
    ids=[
        "this one",
        "pid given out again",
        "another boot",
        "no boot id",
        "no session",
        "nothing",
    ],  # every xdist worker's own differ
)
def test_only_what_is_certain_counts_as_ended(who: str, boot: str, ended: bool) -> None:
    assert has_ended(who, boot) is ended

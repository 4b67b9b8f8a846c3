"""Who wrote an entry and whether it still runs: pid and start time, so that a pid given out again is not mistaken for it."""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

_ASK_S = 5.0
_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


@functools.cache
def boot_id() -> str:
    """Different after every start of this machine; "" where that cannot be told."""
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text("ascii").strip()
    if sys.platform == "darwin":
        return _asked("sysctl", "-n", "kern.bootsessionuuid").lower()
    return ""


@functools.cache
def session() -> str:
    """`<pid>.<start time>` of this process."""
    return f"{os.getpid()}.{_started(os.getpid()) or 0}"


def has_ended(session: str, boot: str) -> bool:
    """Whether that process is certainly gone. Where it cannot be told the answer is False: its intent stays open."""
    if boot and boot_id() and boot != boot_id():
        return True
    pid, _, start = session.partition(".")
    if not pid.isdigit():
        return False
    if os.name == "nt":  # no /proc and no ps; only a new boot ends a session there
        return False
    return _started(int(pid)) != start if start != "0" else _started(int(pid)) is None


def _started(pid: int) -> str | None:
    """In the system's own measure, without spaces; None when there is no such process."""
    if not (_PROC / "self/stat").exists():
        return None if os.name == "nt" else re.sub(r"\W+", "_", _asked("ps", "-o", "lstart=", "-p", str(pid))) or None
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # the name in brackets may hold anything, so count from its end: field 3 is the state, field 22 ticks since boot
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def _asked(*command: str) -> str:
    import subprocess  # Linux answers from /proc, and an audit list should not wait for this

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()

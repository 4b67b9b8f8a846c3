"""The demo's processes: each holds a pipe from the demo and ends at its EOF, so none outlives the demo however it ends.

A child says that it is ready by one JSON line on stdout; what it has to say to people goes to its log file.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot

STOP_S = 4.0  # an agent stops gracefully in 2 s
LINE_LIMIT = 1 << 20


def environment(**extra: str) -> dict[str, str]:
    """The demo's own environment for a child, without the homes of the person who runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FIELDOPS_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


@dataclass(slots=True)
class Child:
    """One running process. ready: the JSON object of its first line; empty until `wait_ready`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    ready: dict[str, Any] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def line(self, deadline: Deadline) -> bytes:
        """The next line of its stdout. Raises DeviceCannot when it ends or says nothing in time."""
        stdout = self.process.stdout
        assert stdout is not None  # always a pipe, see start()
        while b"\n" not in self._buffer:
            left = min(0.5, deadline.check(f"{self.name} to answer"))
            readable, _, _ = select.select([stdout], [], [], left)
            if not readable:
                continue
            piece = os.read(stdout.fileno(), 65536)
            if not piece or len(self._buffer) > LINE_LIMIT:
                raise DeviceCannot(
                    f"{self.name} ended before it was ready (status {self.process.poll()}): {last_words(self.log)}",
                    reason="child_ended",
                    next_step=f"read {self.log}",
                )
            self._buffer += piece
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line

    def document(self, deadline: Deadline) -> dict[str, Any]:
        """The next line of its stdout as a JSON object."""
        line = self.line(deadline)
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DeviceCannot(
                f"{self.name} said {line[:80]!r}, which is no JSON", reason="child_answer", next_step=f"read {self.log}"
            ) from error
        if not isinstance(value, dict):
            raise DeviceCannot(f"{self.name} said {line[:80]!r}", reason="child_answer", next_step=f"read {self.log}")
        return value

    def wait_ready(self, deadline: Deadline) -> dict[str, Any]:
        self.ready = self.document(deadline)
        return self.ready

    def say(self, text: str) -> None:
        """One line to its stdin. A child that is gone is found out by `document`."""
        stdin = self.process.stdin
        assert stdin is not None  # always a pipe, see start()
        try:
            stdin.write(text.encode() + b"\n")
            stdin.flush()
        except OSError:
            pass  # the pipe is broken: reading its answer says so with the log's last words

    def close_pipe(self) -> None:
        """EOF on its stdin: the child's sign to end."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except OSError:
                pass  # it ended with a line of ours unread; closing is all we wanted

    def _wait(self, seconds: float) -> int | None:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds: float = STOP_S) -> int:
        """End it: by EOF, then SIGTERM, then SIGKILL. Returns its status."""
        self.close_pipe()
        status = self._wait(seconds)
        if status is None:
            self.process.terminate()
            status = self._wait(seconds)
        if status is None:
            self.process.kill()
            status = self.process.wait()  # nothing survives SIGKILL; the wait only reaps
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def stop_by(self, number: int, seconds: float = 20.0) -> int:
        """End it by a signal, as a person or a service manager would. Returns its status."""
        self.process.send_signal(number)
        self._wait(seconds)
        return self.stop()


def last_words(log: Path) -> str:
    """The last line a child left in its log, for the message that names it."""
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "it left no log"
    return lines[-1][:300] if lines else "it said nothing"


def python(*words: str) -> list[str]:
    """`python -m words...` with the interpreter that runs the demo."""
    return [sys.executable, "-m", *words]


def start(name: str, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None = None) -> Child:
    """Start it and return at once. Its process group is its own: Ctrl+C reaches the demo, which ends its children in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    return Child(name, process, log)


def stop_all(children: Iterable[Child]) -> None:
    """End them together: all pipes are closed before any is waited for."""
    ending = [child for child in children if child.alive]
    for child in ending:
        child.close_pipe()
    until = time.monotonic() + STOP_S
    for child in ending:
        child.stop(max(0.1, until - time.monotonic()))

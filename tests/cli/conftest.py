"""Runs of `python -m fieldops` in a home of their own, as a script or as somebody at a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from fieldops.cli.schemas import types

LIMIT_S = 60
READY_S = 90  # of a sample fleet


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    def document(self) -> msgspec.Struct:
        """The one document on stdout, decoded by the type that its schema is generated from."""
        schema = msgspec.json.decode(self.out)["schema"]
        return msgspec.json.decode(self.out, type=types()[schema])


class Run(Protocol):
    def __call__(self, *words: str) -> Done: ...


def environment(home: Path) -> dict[str, str]:
    """Nothing of the person who runs the tests: no own known hosts, keys or ssh-agent."""
    kept = {name: value for name, value in os.environ.items() if name not in {"SSH_AUTH_SOCK", "FIELDOPS_DEBUG"}}
    return {**kept, "FIELDOPS_HOME": str(home), "HOME": str(home.parent), "COLUMNS": "100"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fieldops", *words]


@contextmanager
def sample_fleet(folder: Path, *, devices: int) -> Iterator[Path]:
    """A running demo's home, for as long as the block lasts."""
    served = subprocess.Popen(
        command("demo", "--serve", "--dir", str(folder / "demo"), "--devices", str(devices)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(folder / "unused"),
    )
    assert served.stdout is not None
    with served.stdout as said:
        try:
            yield Path(msgspec.json.decode(said.readline())["home"])
        finally:
            served.send_signal(signal.SIGTERM)
            assert served.wait(READY_S) == 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    def once(*words: str) -> Done:
        done = subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return once


class Terminal:
    """A process whose three streams are one terminal."""

    def __init__(self, home: Path, *words: str) -> None:
        self._screen, inner = pty.openpty()
        self.process = subprocess.Popen(
            command(*words), stdin=inner, stdout=inner, stderr=inner, env={**environment(home), "TERM": "xterm"}, close_fds=True
        )
        os.close(inner)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until the text was printed. Fails when the process ends, or says nothing for long, before."""
        while text not in self.seen:
            ready, _, _ = select.select([self._screen], [], [], LIMIT_S)
            assert ready, self.seen
            try:
                piece = os.read(self._screen, 4096)
            except OSError:  # Linux: the other side is closed
                piece = b""
            assert piece, f"ended without {text!r}: {self.seen}"
            self.seen += piece.decode("utf-8", "replace")
        return self.seen

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode() + b"\n")

    def ended(self) -> int:
        while True:
            try:
                piece = os.read(self._screen, 4096)
            except OSError:
                break
            if not piece:
                break
            self.seen += piece.decode("utf-8", "replace")
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(LIMIT_S)
        os.close(self._screen)


class AtTerminal(Protocol):
    def __call__(self, *words: str) -> Terminal: ...


@pytest.fixture
def at_terminal(home: Path) -> Iterator[AtTerminal]:
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(home, *words))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture
def fleet(home: Path) -> Path:
    """An inventory of one device at a port where nothing listens. Returns the file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home.mkdir()
    file = home / "fleet.toml"
    file.write_text(f'# kept\n[[device]]\nname = "press-01"\nsite = "north"\nssh = "me@127.0.0.1:{port}"\n')
    return file

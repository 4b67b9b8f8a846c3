"""Start-up of whole processes against bare python."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fieldops
from benchmarks.bars import Bar, minima

TURNS = 15


def environment() -> dict[str, str]:
    """As an installed package runs: with its bytecode."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _run(*words: str, home: str) -> None:
    subprocess.run(
        [sys.executable, *words],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment(), "FIELDOPS_HOME": home},
    )  # no timeout: with one, subprocess looks only after 0.5, 1, 2, 4 ... ms, and every time becomes 16, 64 or 114 ms


def bars() -> Iterator[Bar]:
    compileall.compile_dir(Path(fieldops.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory() as home:
        bare, version, light, usage = minima(
            TURNS,
            lambda: _run("-c", "pass", home=home),
            lambda: _run("-m", "fieldops", "--version", home=home),
            lambda: _run("-m", "fieldops", "audit", "list", home=home),
            lambda: _run("-m", "fieldops", "--help", home=home),
        )
    peer = "python -c pass"
    yield Bar("fieldops --version", peer, version, bare, 2)
    yield Bar("fieldops audit list", peer, light, bare, 8)
    yield Bar("fieldops --help", peer, usage, bare, 16)

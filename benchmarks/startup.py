"""Start-up of whole processes against bare python."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.bars import Bar, minima

TURNS = 15


def _run(*words: str, home: str) -> None:
    subprocess.run(
        [sys.executable, *words],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FIELDOPS_HOME": home},
        timeout=60,
    )


def bars() -> Iterator[Bar]:
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

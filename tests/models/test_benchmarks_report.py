"""`make bench` reports every bar beside its peer, and never gates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_a_section_is_reported_as_one_document() -> None:
    ended = run("cascade", "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["schema"] == "fieldops.benchmarks/v1"
    assert len(document["bars"]) == 3
    for bar in document["bars"]:
        assert bar["met"] is (bar["ratio"] <= bar["limit"])
        assert bar["ratio"] == bar["ours_s"] / bar["peer_s"]


def test_an_unknown_section_is_refused() -> None:
    assert run("weather").returncode == 2

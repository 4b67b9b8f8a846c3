"""docs/release-guide.md is a script: every command of it runs, in order, and ends well."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "release-guide.md").read_text("utf-8")
STEPS = re.findall(r"(?m)^```sh\n(.*?)^```", PAGE, re.DOTALL)


@pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("bash") and shutil.which("ssh-keygen")),
    reason="the page is written for a Linux shell",
)
def test_every_command_of_the_release_guide_runs(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "fieldops"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fieldops "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "".join(STEPS)],
        cwd=work,
        env={
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "FIELDOPS_HOME": str(tmp_path / "home"),
            "SAMPLE": str(ROOT / "sample_fleet" / "digits"),
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("every byte is as signed") == 2
    assert done.stdout.splitlines()[-1] == "nothing to do"
    assert (work / "renewal.zip").stat().st_size < 8 << 10
    assert not list((work / "office").glob("root*.pem"))


def test_the_guide_shows_every_release_verb() -> None:
    from fieldops.cli.release import app

    verbs = {verb.name or getattr(verb.callback, "__name__", "") for verb in app.registered_commands}
    assert {verb for verb in verbs if f"fieldops release {verb}" not in PAGE} == set()

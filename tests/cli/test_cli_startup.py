"""What verbs import, and what only the console needs. Looks at sys.modules of a real process, never at a clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import LIMIT_S, AtTerminal, environment

HEAVY = {"textual", "rich", "paramiko", "onnxruntime", "tuf", "numpy", "httpx", "zeroconf", "starlette", "pydantic", "asyncio"}
LIGHT = [
    (),
    ("--help",),
    ("sideload", "--help"),
    ("device", "--help"),
    ("device", "list"),
    ("device", "list", "--json"),
    ("audit", "list"),
    ("bench", "list"),
    ("config", "show"),
    ("runbook", "status"),
]
PROGRAM = """
import sys
from fieldops.cli.app import main
code = main(sys.argv[1:])
sys.stderr.write("\\nLOADED " + " ".join(sys.modules))
sys.exit(code)
"""
HOLDER = """
import sys
from fieldops.wiring import Laptop
with Laptop.open().exclusive("console"):
    print("held", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("words", LIGHT[1:], ids=" ".join)
def test_help_and_light_verbs_load_nothing_heavy_and_no_cryptography(fleet: Path, home: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        env=environment(home),
        check=True,
        timeout=LIMIT_S,
    )
    loaded = set(done.stderr.rsplit("LOADED ", 1)[1].split())
    assert "fieldops.cli.app" in loaded
    assert not loaded & {*HEAVY, "cryptography"}


def test_completion_of_device_names_reads_the_inventory_and_nothing_else(fleet: Path, home: Path) -> None:
    asked = {"_FIELDOPS_COMPLETE": "complete_bash", "COMP_WORDS": "fieldops models pre", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "from fieldops.cli.app import run; run()"],
        capture_output=True,
        text=True,
        env={**environment(home), **asked},
        check=False,
        timeout=LIMIT_S,
    )
    assert done.stdout.split() == ["press-01"]
    assert {path.name for path in home.iterdir()} == {"fleet.toml"}


def test_a_second_console_of_one_home_is_eight_and_names_the_first(home: Path, at_terminal: AtTerminal) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == "held\n"
        second = at_terminal()
        assert second.ended() == 8
        assert f"process {holder.pid}" in second.seen
        assert "Traceback" not in second.seen
    assert holder.wait(LIMIT_S) == 0


def test_somebody_at_a_terminal_is_asked_and_no_is_no(fleet: Path, at_terminal: AtTerminal) -> None:
    before = fleet.read_text()
    asked = at_terminal("device", "remove", "press-01")
    asked.until("[yes/no]")
    asked.type("no")
    assert asked.ended() == 130
    assert fleet.read_text() == before
    again = at_terminal("device", "remove", "press-01")
    again.until("[yes/no]")
    again.type("yes")
    assert again.ended() == 0
    assert "press-01" not in fleet.read_text()


def test_the_wheel_carries_what_the_program_reads(tmp_path: Path) -> None:
    """Built without the network from a copy, so that the checkout stays as it is."""
    source = tmp_path / "source"
    kept = ("fieldops", "themes", "sample_fleet", "pyproject.toml", "README.md", "LICENSE")
    for name in kept:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(path, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", source],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    program = (
        "from fieldops.wiring import data_dir\n"
        "print(data_dir('themes')); print(data_dir('sample_fleet'))\n"
        "print(*sorted(path.name for path in data_dir('themes').iterdir()))"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, cwd=tmp_path, check=True, timeout=LIMIT_S
    )
    themes, fleet, names = done.stdout.splitlines()
    data = tmp_path / "installed" / "fieldops" / "_data"
    assert (Path(themes), Path(fleet)) == (data / "themes", data / "sample_fleet")
    assert "sunlight.toml" in names.split()

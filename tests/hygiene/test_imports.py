"""The static contracts do not see deferred imports; these look at sys.modules of a real process. Never at a clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fieldops

LONGEST = 450  # lines of a module
LAPTOP_HEAVY = (
    "textual",
    "rich",
    "paramiko",
    "onnxruntime",
    "numpy",
    "httpx",
    "tuf",
    "zeroconf",
    "cryptography",
    "starlette",
    "yaml",
)


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


def test_version_loads_neither_typer_nor_anything_heavy() -> None:
    modules = loaded_by("import sys; sys.argv = ['fieldops', '--version']\nfrom fieldops.__main__ import main\nmain()")
    assert not modules & {*LAPTOP_HEAVY, "typer", "msgspec"}


@pytest.mark.parametrize(
    "module", ["fieldops.policy", "fieldops.ports", "fieldops.operations.gate", "fieldops.wire", "fieldops.slots"]
)
def test_the_domain_and_the_gate_load_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(LAPTOP_HEAVY)


def test_a_light_verb_loads_neither_what_crosses_the_wire_nor_what_changes_a_device(tmp_path: Path) -> None:
    modules = loaded_by(f"from fieldops.cli.app import main\nmain(['--home', {str(tmp_path)!r}, 'audit', 'list'])")
    assert "fieldops.edges.journal" in modules
    assert not modules & {*LAPTOP_HEAVY, "fieldops.wire", "fieldops.steps", "fieldops.ports", "fieldops.operations.gate"}


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    package = Path(fieldops.__file__).parent
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in package.rglob("*.py") if "_data" not in path.parts}
    assert [f"{path.relative_to(package)}: {count}" for path, count in lines.items() if count > LONGEST] == []


def test_the_agents_long_lived_process_stays_small() -> None:
    forbidden = {"textual", "rich", "typer", "paramiko", "tuf", "numpy", "onnxruntime", "zeroconf"}
    assert not loaded_by("import fieldops.agent.serve, fieldops.agent.server") & forbidden


@pytest.mark.parametrize("module", ["fieldops.wiring", "fieldops.cli.app"])
def test_the_laptop_side_imports_no_posix_only_module(module: str) -> None:
    code = f"import sys\nfor name in ('fcntl', 'pwd', 'grp', 'termios', 'resource'): sys.modules[name] = None\nimport {module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_running_a_model_reports_to_nobody_and_leaves_no_device_id(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from fieldops.deadline import Deadline\n"
        "from fieldops.edges.clock import SystemClock\n"
        "from fieldops.edges.onnx import OnnxRunner\n"
        "from fieldops.wiring import data_dir\n"
        "model = data_dir('sample_fleet') / 'digits' / '1.0.0' / 'core.onnx'\n"
        "OnnxRunner().measure(model, samples=64, warmup=4, deadline=Deadline.after(60, SystemClock().monotonic))"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
    assert list(home.rglob("*")) == []

"""`fieldops-agent selftest`: can this machine run the agent: folders, sockets, a durable registry, a worker's runtime.

`fieldops-agent selftest crash --dir PATH`: does a change survive every crash on the file system of that folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from fieldops.agent.config import read
from fieldops.agent.home import AgentHome, Runtime
from fieldops.edges.registry import Registry
from fieldops.errors import FieldopsError

IMPORT_S = 60.0


def _children() -> str:
    """The libraries of workers and verifier, in a child as they will be. Empty: they are there."""
    done = subprocess.run(
        [sys.executable, "-c", "import fieldops.agent.loaded, fieldops.agent.verify"],
        capture_output=True,
        timeout=IMPORT_S,
        check=False,
    )
    return done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] if done.returncode else ""


def run(words: list[str]) -> int:
    """0 when everything is well; 6 else. One JSON document on stdout; of `selftest crash` only with --json."""
    if words[:1] == ["crash"]:
        from fieldops.agent.selftest_crash import run as crash

        return crash(words[1:])
    parser = argparse.ArgumentParser(prog="fieldops-agent selftest")
    parser.add_argument("--home", type=Path, default=None, help="the agent's folder")
    given = parser.parse_args(words)
    faults: list[str] = []
    home = AgentHome((given.home or AgentHome.default()).resolve())
    try:
        Runtime.of(read(home.config)).make()
        with tempfile.TemporaryDirectory(prefix="fo-") as folder:
            Registry.open(Path(folder) / "registry.db").close()
    except FieldopsError as error:
        faults.append(error.message)
    except OSError as error:
        faults.append(str(error))
    if missing := _children():
        faults.append(missing)
    document = {"schema": "fieldops.agent_selftest/v1", "ok": not faults, "faults": faults}
    sys.stdout.write(msgspec.json.encode(document).decode("utf-8") + "\n")
    return 6 if faults else 0

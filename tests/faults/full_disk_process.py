"""In a mount namespace of its own: an agent on a small disk without one free block. `full_disk_process.py DISK HOME RUNTIME`

DISK: where the small file system is mounted. HOME: of a flashed device. Prints one JSON line.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from tests.agent.conftest import Agent, within


def _fill(file: Path) -> None:
    """To the last byte."""
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * size)
    finally:
        os.close(descriptor)


def main() -> None:
    disk, source, runtime = (Path(word) for word in sys.argv[1:4])
    agent, fill = Agent(disk / "h", runtime), disk / "fill"
    shutil.copytree(source, agent.home)
    agent.start()
    agent.stop()  # in peace, so that SQLite takes its own files away
    reserve = agent.home / "reserve"
    told: dict[str, object] = {"reserve": reserve.exists()}
    _fill(fill)
    agent.start()
    row = [0.0] * 64
    request = {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": row}]}
    with agent.client("infer.sock") as client:
        said = client.post("/v2/models/digits/infer", json=request).json()["parameters"]
    told |= {"version": said["version"], "by_a_model": said["route"] in {"core", "large"}, "given_up": not reserve.exists()}
    agent.kill()
    fill.unlink()
    agent.start()
    waiting = within()
    while not reserve.exists():
        waiting.check("the reserve")
        waiting.cancel.wait(0.05)
    agent.kill()
    sys.stdout.write(json.dumps(told) + "\n")


main()

"""Types that several threads meet for the first time at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, threading
import msgspec
from fieldops import wire
sys.setswitchinterval(1e-6)
data = msgspec.json.encode(wire.ModelsReport(read_at=1.0, slots=[]))
together = threading.Barrier(8)
read = []
def first_use():
    together.wait()
    read.append(wire.decode(data, wire.ModelsReport, sender="a device"))
threads = [threading.Thread(target=first_use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(read) == 8
"""


def test_the_first_use_of_a_type_by_many_threads_does_not_end_the_process() -> None:
    """Each in a process of its own: without the lock about one in five of them crashed."""
    for _ in range(8):
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60, capture_output=True)


def test_typed_decoding_goes_through_the_one_place_that_makes_decoders() -> None:
    package = Path(__file__).parents[2] / "fieldops"
    direct = [path.name for path in package.rglob("*.py") if "msgspec.json.decode(" in path.read_text("utf-8")]
    assert direct == []

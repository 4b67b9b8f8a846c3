"""Programs that ask one worker at once: what waits together goes together, against each alone; and one program alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.bars import Bar
from fieldops.agent.serving import TOGETHER, Served
from fieldops.agent.workers import Load, Worker
from fieldops.bundles.manifest import MANIFEST_FILE, Manifest, Rule

DIGITS = Path(__file__).parents[1] / "sample_fleet" / "digits"
PROGRAMS, EACH, TURNS = 8, 60, 9


def load(folder: Path) -> Load:
    """digits 1.0.0 as it lies on a device: a folder named by its manifest's digest."""
    data = msgspec.json.encode(msgspec.json.decode((DIGITS / "1.0.0" / "spec.json").read_bytes(), type=Manifest))
    home = folder / hashlib.sha256(data).hexdigest()
    home.mkdir()
    (home / MANIFEST_FILE).write_bytes(data)
    for file in (DIGITS / "1.0.0").iterdir():
        (home / file.name).symlink_to(file)
    return Load(folder=home, model="digits", version="1.0.0", golden=None, memory_bytes=None)


@contextlib.asynccontextmanager
async def served(load: Load, together: int) -> AsyncIterator[Served]:
    made = Served("digits", lambda *_: None, together)
    await made.switch(await Worker.start(load), Rule(label=0, text=""), "1.0.0")
    try:
        yield made
    finally:
        await made.close()


async def ask(served: Served, bodies: list[bytes], programs: int) -> float:
    """Seconds until each of the programs has asked for all of them, one after the other."""

    async def program() -> None:
        for body in bodies:
            await served.infer(body, 60.0)

    start = time.perf_counter()
    await asyncio.gather(*(program() for _ in range(programs)))
    return time.perf_counter() - start


async def measured(folder: Path, bodies: list[bytes]) -> Iterator[Bar]:
    made: list[Bar] = []
    one = load(folder)
    async with served(one, TOGETHER) as ours, served(one, 1) as peer:
        for what, programs, limit in ((f"{PROGRAMS} programs, joined", PROGRAMS, 1.3), ("one program", 1, 0.9)):
            turns = [(await ask(ours, bodies, programs), await ask(peer, bodies, programs)) for _ in range(TURNS)]
            together, alone = (min(each) for each in zip(*turns, strict=True))
            note = f"{programs * len(bodies) / together:.0f} requests a second"
            made.append(Bar(what, "each request alone", together, alone, limit, at_least=True, note=note))
    return iter(made)


def bars() -> Iterator[Bar]:
    with np.load(DIGITS / "data.npz") as archive:
        images = archive["images"].astype(np.float32)[:EACH].reshape(EACH, 64)
    bodies = [
        msgspec.json.encode({"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}]})
        for row in images
    ]
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(measured(Path(folder), bodies))

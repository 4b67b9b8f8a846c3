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


async def crowd(served: Served, bodies: list[bytes]) -> float:
    """Seconds until each of the programs has asked for all of them, one after the other."""

    async def program() -> None:
        for body in bodies:
            await served.infer(body, 60.0)

    start = time.perf_counter()
    await asyncio.gather(*(program() for _ in range(PROGRAMS)))
    return time.perf_counter() - start


async def alone(first: Served, second: Served, bodies: list[bytes]) -> tuple[float, float]:
    """One program: the sum of the least times of each request, taken in turns, so that a neighbour's burst spoils single ones."""
    least = [[float("inf")] * len(bodies) for _ in range(2)]
    both = ((0, first), (1, second))
    for turn in range(2 * TURNS):
        for place, body in enumerate(bodies):
            for index, served in both if turn % 2 else reversed(both):
                start = time.perf_counter()
                await served.infer(body, 60.0)
                least[index][place] = min(least[index][place], time.perf_counter() - start)
    return sum(least[0]), sum(least[1])


async def measured(folder: Path, bodies: list[bytes]) -> list[Bar]:
    one, peer = load(folder), "each request alone"
    async with served(one, TOGETHER) as ours, served(one, 1) as theirs:
        turns = [(await crowd(ours, bodies), await crowd(theirs, bodies)) for _ in range(TURNS)]
        together, apart = (min(each) for each in zip(*turns, strict=True))
        note = f"{PROGRAMS * len(bodies) / together:.0f} requests a second"
        mine, its = await alone(ours, theirs, bodies)
    return [
        Bar(f"{PROGRAMS} programs, joined", peer, together, apart, 1.3, at_least=True, note=note),
        Bar("one program, joining allowed", peer, mine, its, 1.1),
    ]


def bars() -> Iterator[Bar]:
    with np.load(DIGITS / "data.npz") as archive:
        images = archive["images"].astype(np.float32)[:EACH].reshape(EACH, 64)
    bodies = [
        msgspec.json.encode({"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}]})
        for row in images
    ]
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(measured(Path(folder), bodies))

"""The agent's long-lived process, idle, beside bare starlette and uvicorn; how soon it is ready; the whole stack with a model."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.bars import Bar
from benchmarks.startup import environment

MODEL = Path(__file__).parents[1] / "sample_fleet" / "digits" / "1.0.0" / "core.onnx"
STARTS = 7
IDLE_S = 3.0  # after a few requests, before memory is read
ALLOWED_S = 1.0  # from its start to its ready line
BARE = """
import asyncio, socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def hello(_): return JSONResponse({"hello": True})
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("ready", flush=True)
asyncio.run(Server(uvicorn.Config(Starlette(routes=[Route("/v1/hello", hello)]), uds=sys.argv[1], log_config=None)).serve())
"""


@dataclass(frozen=True)
class Started:
    """ready_s: from the start of the process to its line on standard output."""

    process: subprocess.Popen[bytes]
    ready_s: float

    def idle_bytes(self, socket: Path) -> tuple[int, int]:
        """Resident, after a few requests and a pause: of the process, and of it and its workers (shared pages once)."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://device") as client:
            for _ in range(20):
                client.get("/v1/hello").raise_for_status()
        time.sleep(IDLE_S)
        mine = psutil.Process(self.process.pid)
        return mine.memory_info().rss, sum(each.memory_full_info().pss for each in (mine, *mine.children(recursive=True)))


@contextlib.contextmanager
def started(words: Sequence[str], more: dict[str, str]) -> Iterator[Started]:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**environment(), **more}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "it ended before it was ready"
        yield Started(process, time.perf_counter() - start)
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def agent(folder: Path, toml: str) -> Iterator[Started]:
    """Started once before, so that it has its key: only that first start loads cryptography."""
    (folder / "home" / "foreign").mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, folder / "home" / "foreign")
    (folder / "home" / "agent.toml").write_text('class = "bench"\n' + toml, "utf-8")
    words = ("-m", "fieldops.agent", "serve", "--home", str(folder / "home"))
    with started(words, {"FIELDOPS_AGENT_RUNTIME": str(folder / "run")}) as found:
        yield found


def bars() -> Iterator[Bar]:
    with tempfile.TemporaryDirectory(prefix="fo-") as name:
        folder = Path(name)
        with agent(folder / "a", ""):
            ours, peer = [], []
        for _ in range(STARTS):
            with started(("-c", BARE, str(folder / "bare.sock")), {}) as bare:
                peer.append(bare.ready_s)
            with agent(folder / "a", "") as empty:
                ours.append(empty.ready_s)
        note = f"bare starlette+uvicorn {1000 * min(peer):.0f} ms"
        yield Bar("agent ready", "one second", min(ours), ALLOWED_S, 1.0, note=note)
        with started(("-c", BARE, str(folder / "bare.sock")), {}) as bare:
            bare_rss, bare_pss = bare.idle_bytes(folder / "bare.sock")
        with agent(folder / "a", "") as empty:
            rss, _ = empty.idle_bytes(folder / "a" / "run" / "agent.sock")
        yield Bar("agent's idle process", "bare starlette+uvicorn", rss, bare_rss, 1.7, unit="B")
        with agent(folder / "a", f'[foreign]\nmodel = "digits"\nfile = "{MODEL.name}"\n') as full:
            _, whole = full.idle_bytes(folder / "a" / "run" / "agent.sock")
        note = "proportional: shared pages once"
        yield Bar("agent and a worker with a model", "bare starlette+uvicorn", whole, bare_pss, None, note=note, unit="B")

"""The agent's end of a worker: one process a bundle, started by its own program, spoken to one message at a time.

A call goes on to its answer even when its caller has given up, since one cut off would leave the pipe out of step.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fieldops.agent.frames import Header, PipeBroken, pack, receive
from fieldops.bench import CPU
from fieldops.bundles.manifest import Manifest

START_S = 60.0  # importing the runtime and loading a model on a slow card
STOP_S = 2.0
HANG_S = 30.0  # silence after which a worker is taken for dead


class WorkerGone(Exception):
    """The process ended, was ended, or never came up; nothing is known of the call that met this."""


class WorkerSaid(Exception):
    """The worker is well and refuses: kind is bad_request, load, digest or check."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker loads. golden None: no set is known for the task. memory_bytes None: no limit is promised.

    manifest: of a foreign model, which has no file for it; None: the folder's manifest.json.
    """

    folder: Path
    model: str
    version: str
    golden: Path | None
    memory_bytes: int | None
    manifest: Manifest | None = None
    temperatures: dict[str, float] = field(default_factory=dict)  # of this device, by tier
    threshold: float | None = None  # None: the signed one
    threads: int = 1
    provider: str = CPU

    def header(self) -> Header:
        return {
            "op": "load",
            "folder": str(self.folder),
            "golden": str(self.golden) if self.golden else None,
            "memory_bytes": self.memory_bytes,
            "manifest": msgspec.to_builtins(self.manifest) if self.manifest else None,
            "temperatures": self.temperatures,
            "threshold": self.threshold,
            "threads": self.threads,
            "provider": self.provider,
        }


class Worker:
    """A started worker whose model is loaded. Use `Worker.start`."""

    def __init__(self, load: Load, process: Process) -> None:
        self.load = load
        self._process = process
        self._turn = asyncio.Lock()
        self._broken = False
        self.joins = False  # may requests be run together in it
        self.took_s = 0.0  # from asking to answer, of the last exchange
        self.provider_fault = ""  # why the CPU's provider is used instead of the load's; "": the load's is

    @classmethod
    async def start(cls, load: Load) -> Worker:
        """Raises WorkerSaid (load, digest) or WorkerGone. Where the load's provider fails, the CPU's is used and the log says so."""
        try:
            worker = await cls._started(load)
        except WorkerGone as error:
            if load.provider == CPU:
                raise
            # A driver that takes the process down with it must not keep the model away.
            worker = await cls._started(dataclasses.replace(load, provider=CPU))
            worker.provider_fault = f"{load.provider}: {error}"
        if worker.provider_fault:
            logging.getLogger("fieldops.agent").warning("%s %s: %s", load.model, load.version, worker.provider_fault)
        return worker

    @classmethod
    async def _started(cls, load: Load) -> Worker:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fieldops.agent", "worker"),
                stdin=PIPE,
                stdout=PIPE,
                limit=1 << 20,
                start_new_session=True,  # Ctrl+C at the agent's terminal is the agent's business
            )
        except OSError as error:
            raise WorkerGone(str(error)) from error
        worker = cls(load, process)
        try:
            said, _ = await worker.call(load.header(), within_s=START_S)
            worker.provider_fault, worker.joins = str(said.get("provider_fault", "")), bool(said.get("joins"))
        except TimeoutError as error:
            worker.kill()
            raise WorkerGone("it did not load in time") from error
        except BaseException:
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        return not self._broken and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, header: Header, body: bytes = b"", *, within_s: float) -> tuple[Header, bytes]:
        """One exchange; calls wait for their turn in order. within_s: seconds, waiting included.

        Raises WorkerSaid, WorkerGone, or TimeoutError when the caller's time is over. The worker goes on then: one caller
        in a hurry must not cost all others their worker. Only one that is silent for much longer is ended.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.timeout(within_s):
            await self._turn.acquire()
            message = pack({**header, "waited_s": loop.time() - begun}, body)
            exchange = asyncio.ensure_future(self._exchange(message, max(within_s, HANG_S)))
            exchange.add_done_callback(self._next_turn)
            answer, data = await asyncio.shield(exchange)
        if not answer.get("ok", False):
            raise WorkerSaid(str(answer.get("kind", "check")), str(answer.get("message", "")))
        return answer, data

    def _next_turn(self, exchange: asyncio.Future[tuple[Header, bytes]]) -> None:
        self._turn.release()
        if not exchange.cancelled():
            exchange.exception()  # nobody may be there any more to take it

    async def _exchange(self, message: bytes, hang_s: float) -> tuple[Header, bytes]:
        if not self.alive or self._process.stdin is None or self._process.stdout is None:
            raise WorkerGone("it ended before")
        finished, started = False, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(hang_s):
                self._process.stdin.write(message)
                await self._process.stdin.drain()
                answer = await receive(self._process.stdout)
            finished, self.took_s = True, asyncio.get_running_loop().time() - started
        except TimeoutError as error:
            raise WorkerGone("it did not answer in time") from error
        except (PipeBroken, ConnectionError, RuntimeError) as error:  # RuntimeError: write after the transport closed
            raise WorkerGone(str(error)) from error
        finally:
            if not finished:
                self.kill()
        return answer

    def kill(self) -> None:
        """At once; whoever waits for an answer gets WorkerGone."""
        self._broken = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """End it: closing its pipe lets it finish, then it is killed."""
        self._broken = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

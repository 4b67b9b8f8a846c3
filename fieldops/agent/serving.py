"""One model as local programs see it: it always answers. Switching, crashes and restarts happen behind this.

A request that met a dying worker is asked once more of the next one (requests hold no state). When no worker can be had,
the signed rule of the manifest answers, and says so in its route.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fieldops.agent.figures import Figures
from fieldops.agent.workers import Load, Worker, WorkerGone, WorkerSaid
from fieldops.bundles.manifest import Rule

DRAIN_S = 10.0  # longest that a switched-out worker may finish what it began
BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
CALM_S = 60.0  # without a crash for so long, the back-off starts anew


@dataclass(frozen=True, slots=True)
class Answered:
    """body: the response of the Open Inference Protocol, already encoded."""

    body: bytes
    route: str
    version: str


@dataclass(slots=True)
class _Seat:
    """A worker in service and how many requests are inside it."""

    worker: Worker
    inside: int = 0


class Served:
    """Lives on the event loop. on_crash: told each time the worker ended by itself."""

    def __init__(self, model: str, on_crash: Callable[[str, str], None]) -> None:
        self.model = model
        self.figures = Figures()
        self.rule: Rule | None = None
        self.version = ""
        self.crashes = 0
        self.cool = False  # the hardware is hot: do not ask the large tier
        self._seat: _Seat | None = None
        self._load: Load | None = None
        self._crashed_at: float | None = None
        self._restart = asyncio.Lock()
        self._on_crash = on_crash

    @property
    def worker(self) -> Worker | None:
        return self._seat.worker if self._seat else None

    @property
    def ready(self) -> bool:
        return self._seat is not None and self._seat.worker.alive

    async def switch(self, worker: Worker | None, rule: Rule | None, version: str) -> None:
        """Let `worker` answer from now on; the one before finishes what it has. None: the rule answers."""
        before, self._seat = self._seat, _Seat(worker) if worker else None
        self._load = worker.load if worker else None
        self.rule, self.version, self.crashes, self._crashed_at = rule, version, 0, None
        self.figures.restart()
        if before is None or (worker is not None and before.worker is worker):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while before.inside:
                    await asyncio.sleep(0.005)
        await before.worker.stop()

    async def close(self) -> None:
        seat, self._seat, self._load = self._seat, None, None
        if seat is not None:
            await seat.worker.stop()

    async def infer(self, body: bytes, timeout: float) -> Answered:
        """Raises WorkerSaid (bad_request) or, when nobody and no rule answers in time, TimeoutError or WorkerGone."""
        loop = asyncio.get_running_loop()
        started, until = loop.time(), loop.time() + timeout
        try:
            answered, ms = await self._answer(body, until)
        except (WorkerSaid, WorkerGone, TimeoutError) as error:
            if not (isinstance(error, WorkerSaid) and error.kind == "bad_request"):
                self.figures.failure(loop.time())
            raise
        self.figures.answer(loop.time(), ms if ms is not None else (loop.time() - started) * 1000, answered.route)
        return answered

    async def _answer(self, body: bytes, until: float) -> tuple[Answered, float | None]:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            seat = self._seat
            if seat is None:
                break
            seat.inside += 1
            try:
                header = {"op": "infer", "deadline_s": max(0.001, until - loop.time()), "large": not self.cool}
                answer, data = await seat.worker.call(header, body, timeout=max(0.001, until - loop.time()))
                return Answered(data, str(answer["route"]), seat.worker.load.version), float(answer["ms"])
            except WorkerGone:
                await self._replace(seat, until)
            finally:
                seat.inside -= 1
        if self.rule is None:
            raise WorkerGone(f"{self.model} has no running worker and no rule")
        return Answered(_by_rule(self.model, self.version, self.rule), "rule", self.version), None

    async def _replace(self, dead: _Seat, until: float) -> None:
        """A new worker in the dead one's place, with growing pauses; returns early when the request's time is over."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError, WorkerGone, WorkerSaid):
            async with asyncio.timeout_at(until), self._restart:
                if self._seat is not dead or self._load is None:
                    return  # somebody else did, or it was switched meanwhile
                self._count_crash(loop.time())
                pause = BACK_OFF_S[min(self.crashes - 1, len(BACK_OFF_S) - 1)]
                if pause >= 1.0:
                    self._seat = None  # the rule answers while it rests; `revive` tries again
                    return
                await asyncio.sleep(pause)
                worker = await Worker.start(self._load)
                if self._seat is dead:
                    self._seat = _Seat(worker)
                else:
                    await worker.stop()

    def _count_crash(self, now: float) -> None:
        if self._crashed_at is not None and now - self._crashed_at > CALM_S:
            self.crashes = 0
        self.crashes += 1
        self._crashed_at = now
        self._on_crash(self.model, self.version)

    async def revive(self) -> None:
        """Called by health: start the worker again where it is gone and has rested long enough."""
        loop = asyncio.get_running_loop()
        seat = self._seat
        if seat is not None and not seat.worker.alive:
            await self._replace(seat, loop.time() + 30)
            return
        rested = BACK_OFF_S[min(self.crashes, len(BACK_OFF_S) - 1)]
        if seat is not None or self._load is None or loop.time() - (self._crashed_at or 0) < rested:
            return
        async with self._restart:
            load = self._load
            try:
                worker = await Worker.start(load)
            except (WorkerGone, WorkerSaid):
                self._count_crash(loop.time())
                return
            if self._seat is None and self._load is load:
                self._seat = _Seat(worker)
            else:
                await worker.stop()


def _by_rule(model: str, version: str, rule: Rule) -> bytes:
    return msgspec.json.encode(
        {
            "model_name": model,
            "model_version": version,
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [rule.label]}],
            "parameters": {"route": "rule", "version": version, "confidence": None, "text": rule.text},
        }
    )

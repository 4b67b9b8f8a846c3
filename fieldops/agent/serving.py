"""One model as local programs see it: it always answers. Switching, crashes and restarts happen behind this.

A request that met a dying worker is asked once more of the next one (requests hold no state). When no worker can be had,
the signed rule of the manifest answers, and says so in its route.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from fieldops.agent.figures import Figures
from fieldops.agent.frames import Header
from fieldops.agent.line import LEAST_S, Line, NeverAsked, Waiting
from fieldops.agent.shadowing import Copy, Shadow
from fieldops.agent.workers import Load, Worker, WorkerGone, WorkerSaid
from fieldops.bench import CPU
from fieldops.bundles.manifest import Rule
from fieldops.tiers import Allowance

TOGETHER = 32
DRAIN_S = 10.0  # longest that a switched-out worker may finish what it began
BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LONG_S = 1.0  # a pause that no request waits through
GIVE_UP = 2  # crashes on end after which another provider than the CPU's is no longer used
WATCH_S = 1.0  # how soon a death without requests is noticed
CALM_S = 60.0  # without a crash for so long, the back-off starts anew


@dataclass(frozen=True, slots=True)
class Answered:
    """body: the response of the Open Inference Protocol, already encoded."""

    body: bytes
    route: str
    version: str
    why: str = ""
    json_bytes: int | None = None  # of the body, where binary tensors follow
    confidence: float | None = None


@dataclass(slots=True)
class _Seat:
    """A worker in service and how many requests are inside it."""

    worker: Worker
    line: Line
    inside: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)  # somebody went out

    def leave(self) -> None:
        self.inside -= 1
        self.left.set()


# The request, how much of it is JSON where binary tensors follow, and the worker's header; must not block.
OnAnswer = Callable[["Served", bytes, int | None, Header], None]


class Served:
    """Lives on the event loop, beside its own `run`. on_crash: told each time the worker ended by itself."""

    def __init__(self, model: str, on_crash: Callable[[str, str], None], together: int = TOGETHER) -> None:
        self.model = model
        self._together = together  # requests that may be run as one; 1: each alone
        self.figures = Figures()
        self.rule: Rule | None = None
        self.version = ""
        self.crashes = 0
        self.on_answer: OnAnswer = _unwatched
        self.keeps = False  # are unusual inputs kept; else no worker looks for them
        self.shadow: Shadow | None = None
        self.allowance = Allowance()  # what the device could afford when it was last looked at
        self._seat: _Seat | None = None
        self._load: Load | None = None
        self._crashed_at: float | None = None
        self._hurt = asyncio.Event()
        self._changed = asyncio.Event()
        self._on_crash = on_crash

    @property
    def worker(self) -> Worker | None:
        return self._seat.worker if self._seat else None

    @property
    def ready(self) -> bool:
        return self._seat is not None and self._seat.worker.alive

    async def switch(self, worker: Worker | None, rule: Rule | None, version: str) -> None:
        """Let `worker` answer from now on; the one before finishes what it has. None: the rule answers."""
        before = self._seat
        self._load = worker.load if worker else None
        self.rule, self.version, self.crashes, self._crashed_at = rule, version, 0, None
        self.figures.restart()
        self._sit(self._at(worker) if worker else None)
        if before is None or before.worker is worker:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while before.inside and before.worker.alive:
                    before.left.clear()
                    await before.left.wait()
        await before.worker.stop()

    async def retune(self, load: Load) -> None:
        """Let the worker in service, and every one after it, go by these local settings. Raises WorkerGone, WorkerSaid."""
        self._load = load
        if self._seat is not None:
            self._seat.worker.load = load
            header = {"op": "tune", "temperatures": load.temperatures, "threshold": load.threshold}
            await self._seat.worker.call(header, within_s=DRAIN_S)

    async def close(self) -> None:
        seat, self._load = self._seat, None
        self._sit(None)
        if seat is not None:
            await seat.worker.stop()

    async def infer(self, body: bytes, within_s: float, json_bytes: int | None = None) -> Answered:
        """within_s: seconds. json_bytes: of the body, where binary tensors follow. Raises WorkerSaid (bad_request), or WorkerGone when there is neither worker nor rule."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answered, ms = await self._answer(body, started + within_s, json_bytes)
        except WorkerSaid as error:
            if error.kind != "bad_request":
                self.figures.failure(loop.time())
            raise
        except WorkerGone:
            self.figures.failure(loop.time())
            raise
        taken = ms if ms is not None else (loop.time() - started) * 1000
        self.figures.answer(loop.time(), taken, answered.route, answered.why, answered.confidence)
        return answered

    async def _answer(self, body: bytes, until: float, json_bytes: int | None) -> tuple[Answered, float | None]:
        """The worker's answer with its milliseconds, from one of two tries, else the rule's."""
        loop = asyncio.get_running_loop()
        until = max(until, loop.time() + LEAST_S)
        tries = 0
        while (seat := self._seat) is not None and tries < 2 and loop.time() < until:
            seat.inside += 1
            try:
                refusal = msgspec.structs.replace(self.allowance, queued=seat.inside - 1).refusal
                asked = Waiting(body, json_bytes, until, refusal, self.keeps, alone=tries > 0)
                answer, data = await seat.line.ask(asked)
                return self._answered(seat.worker, body, json_bytes, answer, data)
            except TimeoutError:
                break  # the worker is well but busy for longer than this request may wait
            except NeverAsked:
                await self._other(seat, until)
            except WorkerGone:
                tries += 1
                await self._other(seat, until)
            finally:
                seat.leave()
        if self.rule is None:
            raise WorkerGone(f"{self.model} has no running worker and no rule")
        return Answered(_by_rule(self.model, self.version, self.rule), "rule", self.version), None

    def _answered(self, worker: Worker, body: bytes, json_bytes: int | None, said: Header, data: bytes) -> tuple[Answered, float]:
        found = Answered(
            data,
            str(said["route"]),
            worker.load.version,
            str(said.get("why", "")),
            said.get("json_bytes"),
            said.get("confidence"),
        )
        ms = float(said["ms"])
        self.on_answer(self, body, json_bytes, said)
        if self.shadow is not None:
            self.shadow.offer(Copy(body, json_bytes, data, found.json_bytes, ms, self.allowance.refusal))
        return found, ms

    async def _other(self, dead: _Seat, until: float) -> None:
        """Wait until something else than `dead` is in place, at most until then."""
        self._hurt.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self._seat is dead:
                    await self._changed.wait()

    def _at(self, worker: Worker) -> _Seat:
        return _Seat(worker, Line(worker, self._together))

    def _sit(self, seat: _Seat | None) -> None:
        self._seat = seat
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def run(self) -> None:
        """Start the worker again whenever it ended by itself; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._hurt.wait()
            self._hurt.clear()
            seat = self._seat
            if seat is not None and not seat.worker.alive and self._load is not None:
                await self._restart(seat, self._load)

    async def _restart(self, dead: _Seat | None, load: Load) -> None:
        while self._seat is dead and self._load is load:
            pause = self._crashed(asyncio.get_running_loop().time())
            if pause >= LONG_S and dead is not None:
                dead = None
                self._sit(None)  # the rule answers meanwhile, so that nobody waits through the pause
            await asyncio.sleep(pause)
            try:
                worker = await Worker.start(load if self.crashes < GIVE_UP else dataclasses.replace(load, provider=CPU))
            except (WorkerGone, WorkerSaid):
                continue
            if self._seat is dead and self._load is load:
                self._sit(self._at(worker))
            else:
                await worker.stop()
            return

    def _crashed(self, now: float) -> float:
        """Count one crash; the seconds to rest before the next start."""
        if self._crashed_at is not None and now - self._crashed_at > CALM_S:
            self.crashes = 0
        self.crashes += 1
        self._crashed_at = now
        self._on_crash(self.model, self.version)
        return BACK_OFF_S[min(self.crashes, len(BACK_OFF_S)) - 1]


def _unwatched(*_: object) -> None:
    """Until somebody listens."""


def _by_rule(model: str, version: str, rule: Rule) -> bytes:
    return msgspec.json.encode(
        {
            "model_name": model,
            "model_version": version,
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [rule.label]}],
            "parameters": {"route": "rule", "version": version, "confidence": None, "text": rule.text},
        }
    )

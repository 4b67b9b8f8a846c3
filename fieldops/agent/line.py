"""Requests that wait for one worker. Those that came while it was busy go to it together, up to what is worth it.

Nobody waits for company: a request that finds the worker free goes at once, alone. Each keeps its own deadline; one whose
caller gave up while it waited is never sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fieldops.agent.frames import Header
from fieldops.agent.workers import Worker, WorkerGone, WorkerSaid

MOST_BYTES = 1 << 20  # of the requests in one message; a larger request goes alone
LEAST_S = 0.001


class NeverAsked(WorkerGone):
    """The worker ended while this request still waited for it: it may be asked of the next one as if for the first time."""


@dataclass(slots=True)
class Waiting:
    """until: of the loop's clock. alone: it was in a worker that died, which may have been its doing."""

    body: bytes
    json_bytes: int | None
    until: float
    refusal: str
    keep: bool
    alone: bool = False
    done: asyncio.Future[tuple[Header, bytes]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def left_s(self, now: float) -> float:
        return max(LEAST_S, self.until - now)

    def header(self, now: float) -> Header:
        return {"deadline_s": self.left_s(now), "refusal": self.refusal, "json_bytes": self.json_bytes, "keep": self.keep}

    def end(self, found: tuple[Header, bytes] | Exception) -> None:
        if self.done.done():
            return
        if isinstance(found, Exception):
            self.done.set_exception(found)
        else:
            self.done.set_result(found)


class Limit:
    """How many requests go together: as many as still save time for each of them, by what was measured.

    Where a run of n takes n times as long as one, together is no gain: the first would only wait for the last.
    """

    GAIN = 0.9  # of the time alone: less is not worth waiting for others
    AGAIN = 200  # requests alone, after which it is tried again whether two are worth it

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 1.0
        self._alone_s: float | None = None
        self._singles = self.AGAIN

    @property
    def requests(self) -> int:
        return int(self._now)

    def took(self, n: int, seconds: float) -> None:
        if n == 1:
            self._alone_s = seconds if self._alone_s is None else 0.8 * self._alone_s + 0.2 * seconds
            self._singles += 1
            if self._singles >= self.AGAIN:
                self._now, self._singles = min(self._most, max(2.0, self._now)), 0
        elif self._alone_s is not None and seconds / n <= self.GAIN * self._alone_s:
            self._now = min(self._most, self._now * 1.5)
        elif self._alone_s is not None and seconds / n > self._alone_s:
            self._now, self._singles = max(1.0, self._now / 2), 0


class Line:
    """Lives on the event loop. most: requests that may go together; 1: each goes alone."""

    def __init__(self, worker: Worker, most: int) -> None:
        self._worker = worker
        self.limit = Limit(most if worker.joins else 1)
        self._waiting: deque[Waiting] = deque()
        self._sender: asyncio.Future[None] | None = None

    async def ask(self, request: Waiting) -> tuple[Header, bytes]:
        """Raises WorkerSaid, WorkerGone, NeverAsked, or TimeoutError when its own time is over."""
        self._waiting.append(request)
        if self._sender is None:
            self._sender = asyncio.ensure_future(self._send())
            self._sender.add_done_callback(self._broke)
        async with asyncio.timeout_at(request.until):
            return await request.done

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            try:
                found = await self._exchange(batch, loop.time())
            except WorkerGone as error:
                self._end(batch, WorkerGone(str(error)))
                if not self._worker.alive:
                    self._end(self._waiting, NeverAsked(str(error)))
            except TimeoutError as error:
                self._end(batch, error)  # their own time was over before
            except WorkerSaid as error:
                if len(batch) == 1:
                    self._end(batch, error)
                else:  # what all of them together did not fit into, each may
                    for each in reversed(batch):
                        each.alone = True
                        self._waiting.appendleft(each)
            else:
                for each, answer in zip(batch, found, strict=True):
                    each.end(answer)
        self._sender = None

    def _broke(self, sender: asyncio.Future[None]) -> None:
        """A bug in here must reach those who wait."""
        error = None if sender.cancelled() else sender.exception()
        if isinstance(error, Exception):
            self._sender = None
            self._end(self._waiting, error)

    @staticmethod
    def _end(requests: list[Waiting] | deque[Waiting], error: Exception) -> None:
        for each in requests:
            each.end(error)

    def _next(self) -> list[Waiting]:
        """Empty when nobody waits any more."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            if first.done.done():
                self._waiting.popleft()
                continue
            size += len(first.body)
            full = len(batch) >= self.limit.requests or size > MOST_BYTES
            if batch and (full or first.alone or batch[0].alone):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _exchange(self, batch: list[Waiting], now: float) -> list[tuple[Header, bytes] | Exception]:
        within = max(each.left_s(now) for each in batch)
        found: list[tuple[Header, bytes] | Exception] = []
        if len(batch) == 1:
            found.append(await self._worker.call({"op": "infer", **batch[0].header(now)}, batch[0].body, within_s=within))
        else:
            each = [{**request.header(now), "bytes": len(request.body)} for request in batch]
            body = b"".join(request.body for request in batch)
            answer, rest = await self._worker.call({"op": "infer_many", "each": each}, body, within_s=within)
            for said in answer["each"]:
                found.append((said, rest[: said["bytes"]]) if said["ok"] else _refused(said))
                rest = rest[said["bytes"] :]
        self.limit.took(len(batch), self._worker.took_s)
        return found


def _refused(said: dict[str, Any]) -> WorkerSaid:
    return WorkerSaid(str(said.get("kind", "check")), str(said.get("message", "")))

"""A validated candidate sees a copy of what the version in service is asked, and nobody waits for it.

Copies wait in a short queue; what does not fit is dropped and counted. The candidate works at most half of the time, so that
it takes no more than half a core from the one that answers. It is compared in its own worker: the agent parses no tensors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass

from fieldops.agent.figures import percentile
from fieldops.agent.frames import Header
from fieldops.agent.workers import Worker, WorkerGone, WorkerSaid
from fieldops.tiers import Refusal
from fieldops.wire import Check, ShadowReport

MOST_COPIES = 32
MOST_TIMES = 6000  # of the newest, from which the medians are told
MOST_BYTES = 4 << 20  # of all copies that wait
CALL_S = 10.0
LOOK_S = 0.25  # how soon the end, or a death without requests, is noticed


@dataclass(frozen=True, slots=True)
class Copy:
    """A request and what the version in service made of it. ms: what that took in its worker."""

    body: bytes
    json_bytes: int | None
    answer: bytes
    answer_json_bytes: int | None
    ms: float
    refusal: Refusal

    @property
    def size(self) -> int:
        return len(self.body) + len(self.answer)


class Shadow:
    """Lives on the event loop. worker: the candidate's, which is the caller's to end."""

    def __init__(self, worker: Worker, seconds: float) -> None:
        self.worker = worker
        self._seconds = seconds
        self._copies: deque[Copy] = deque()
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._requests = 0
        self._rows = self._agreed = self._dropped = self._failed = self._not_alike = 0
        self._worst: float | None = None
        self._mine: deque[float] = deque(maxlen=MOST_TIMES)
        self._theirs: deque[float] = deque(maxlen=MOST_TIMES)
        self._crash = ""
        self._took_s = 0.0

    def offer(self, copy: Copy) -> None:
        """Never blocks."""
        if self._stop.is_set():
            return
        if len(self._copies) >= MOST_COPIES or sum(each.size for each in self._copies) + copy.size > MOST_BYTES:
            self._dropped += 1
            return
        self._copies.append(copy)
        self._news.set()

    def stop(self) -> None:
        self._stop.set()
        self._news.set()

    async def run(self) -> None:
        """Until its time is over, somebody stops it, or the candidate died."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self.worker.alive and not self._stop.is_set() and (left := begun + self._seconds - loop.time()) > 0:
            if self._copies:
                started = loop.time()
                await self._compare(self._copies.popleft())
                await _within(self._stop, min(left, loop.time() - started))
            else:
                self._news.clear()
                await _within(self._news, min(left, LOOK_S))
        if not self.worker.alive:
            self._crash = self._crash or "it ended while nobody asked it"
        self._stop.set()
        self._took_s = loop.time() - begun

    async def _compare(self, copy: Copy) -> None:
        asked: Header = {
            "op": "compare",
            "bytes": len(copy.body),
            "json_bytes": copy.json_bytes,
            "answer_json_bytes": copy.answer_json_bytes,
            "refusal": copy.refusal,
        }
        self._requests += 1
        try:
            found, _ = await self.worker.call(asked, copy.body + copy.answer, within_s=CALL_S)
        except WorkerGone as error:
            self._crash = str(error)
            return
        except (WorkerSaid, TimeoutError):
            self._failed += 1  # what the one in service answered, this one could not
            return
        self._mine.append(float(found["ms"]))
        self._theirs.append(copy.ms)
        self._rows += int(found["rows"])
        self._agreed += int(found["agreed"])
        self._not_alike += not found["rows"]
        if found["worst"] is not None:
            self._worst = max(self._worst or 0.0, float(found["worst"]))

    def report(self) -> ShadowReport:
        return ShadowReport(
            seconds=self._took_s,
            requests=self._requests,
            rows=self._rows,
            agreed=self._agreed,
            not_comparable=self._not_alike,
            failed=self._failed,
            dropped=self._dropped,
            worst=self._worst,
            p50_ms=percentile(sorted(self._mine), 0.5) if self._mine else None,
            active_p50_ms=percentile(sorted(self._theirs), 0.5) if self._theirs else None,
            crash=self._crash,
        )


async def _within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def judged(report: ShadowReport, error_rate: float) -> Check:
    """Agreement and latency are told and decide nothing: a better model disagrees. What decides is whether it answers."""
    share = report.failed / report.requests if report.requests else 0.0
    told = f"agrees on {report.agreed} of {report.rows} rows in {report.seconds:.0f} s"
    if not report.requests:
        told = f"nothing was asked in {report.seconds:.0f} s"
    notes = [f"p50 {report.p50_ms:.2f} ms beside {report.active_p50_ms:.2f} ms"] if report.p50_ms is not None else []
    notes += [f"largest difference {report.worst:.3g}"] if report.worst is not None else []
    notes += [f"{report.failed} of {report.requests} failed"] if report.failed else []
    notes += [f"{report.dropped} copies dropped"] if report.dropped else []
    notes += [f"{report.not_comparable} answers could not be compared"] if report.not_comparable else []
    return Check(
        name="shadow",
        ok=not report.crash and share <= error_rate,
        measured=f"its worker ended: {report.crash}; {told}" if report.crash else told,
        limit=f"no crash, at most {error_rate:.2%} failed",
        note="; ".join(notes),
    )


def skipped(why: str) -> Check:
    return Check(name="shadow", ok=True, measured=f"skipped: {why}", limit="decides only where there is a version to copy from")

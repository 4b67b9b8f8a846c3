"""Watching what runs: trials and probations that are over, workers that keep dying, heat, drift counts, the golden set.

What is wrong is put to the transaction's queue; nothing is changed here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import msgspec

from fieldops.agent.admission import Admission
from fieldops.agent.affording import affordable
from fieldops.agent.device import Device
from fieldops.agent.frames import Header
from fieldops.agent.serving import Served
from fieldops.agent.transaction import Transaction
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.decoding import decoder
from fieldops.drift.report import DriftReport, Stats
from fieldops.drift.sketch import Reference, Window
from fieldops.edges.registry import Installed
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import DeviceCannot

TICK_S = 0.25  # between two looks at the deadlines
LOOK_S = 1.0  # between two looks at the models
WINDOW_REQUESTS = 200
WINDOW_S = 30.0
LEAST_IN_WINDOW = 32  # fewer requests wait for the next window: a window of 3 says nothing and pushes out one that does
CRASHES = 3  # of one version on trial or probation, within the watcher's calm time
LOOKS = 3  # on end, in which a version is worse than the one before it
LEAST_REQUESTS = 50  # before a share of failed requests says anything
CALL_S = 30.0
FRESH_S = 1.0  # evidence younger than this is not gathered again, nor
SHARE = 20  # before twenty times what gathering it took: whoever reads often must not keep the device busy


@dataclass(slots=True)
class _Seen:
    """Of one version in service."""

    version: str = ""
    requests: int = 0  # when the last window was taken
    taken: float = 0.0
    checked: float = float("-inf")
    check_s: float = 0.0  # what the last self-check took
    worse: int = 0  # looks on end
    stats: Stats = field(default_factory=Stats)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Health:
    """Lives on the event loop."""

    def __init__(self, device: Device, transaction: Transaction, admission: Admission, telemetry: Telemetry) -> None:
        self._device = device
        self._transaction = transaction
        self._admission = admission
        self._telemetry = telemetry
        self._seen: dict[str, _Seen] = defaultdict(_Seen)
        self._told: dict[str, str] = {}
        self._crashes: deque[tuple[float, str, str]] = deque(maxlen=100)

    def crashed(self, model: str, version: str) -> None:
        """A worker ended by itself."""
        now = self._device.loop.time()
        self._crashes.append((now, model, version))
        recent = sum(1 for at, m, v in self._crashes if (m, v) == (model, version) and now - at < 60.0)
        note = self._device.entry(self._device.actor, "worker_crash", model, version, f"crash {recent}")
        with contextlib.suppress(DeviceCannot):  # a full disk costs the entry, never the agent
            self._device.save(note=note)
        if recent >= CRASHES:
            self._alone(model, "worker_crashes")

    async def run(self) -> None:
        """Until cancelled. Deadlines are watched apart: a worker that hangs must not hold them up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_deadlines())
            group.create_task(self._watch_models())

    async def _watch_deadlines(self) -> None:
        while True:
            await asyncio.to_thread(self._look_at_slots)
            self._admission.forget_silent()
            await asyncio.sleep(TICK_S)

    async def _watch_models(self) -> None:
        while True:
            for served in self._device.models.all():
                served.allowance = await asyncio.to_thread(affordable, self._device, served.model)
                await self._look_at(served)
            await asyncio.sleep(LOOK_S)

    def _look_at_slots(self) -> None:
        if (self._device.registry.owes or self._device.behind) and "" not in self._told:
            self._told[""] = "keep_house"
            self._transaction.keep_house().add_done_callback(partial(self._forget, ""))
        for model, what in self._transaction.overdue():
            if what != "probation":
                self._alone(model, "trial_deadline")
            elif self._told.get(model) != "settle":
                self._told[model] = "settle"
                self._transaction.settle(model).add_done_callback(partial(self._forget, model))

    def _forget(self, model: str, _: Future[None]) -> None:
        self._told.pop(model, None)

    def _alone(self, model: str, reason: str, detail: str = "") -> None:
        """Told once; told again only when the transaction is through with it."""
        if self._told.get(model) != "revert":
            self._told[model] = "revert"
            self._transaction.trial_over(model, reason, detail).add_done_callback(partial(self._forget, model))

    async def _look_at(self, served: Served) -> None:
        seen, loop = self._seen[served.model], self._device.loop
        if seen.version != served.version:
            seen = self._seen[served.model] = _Seen(version=served.version, requests=served.figures.requests, taken=loop.time())
        if not served.ready:
            return
        installed = self._device.registry.version(served.model, served.version)
        limit = installed.manifest.objectives.error_rate if installed and installed.manifest else 1.0
        if served.figures.version_requests >= LEAST_REQUESTS and served.figures.failed_share > limit:
            share = f"{served.figures.version_failed} of {served.figures.version_requests} requests failed; {limit:.2%} may"
            self._alone(served.model, "error_rate", share)
        self._compare(served, seen, installed)
        new = served.figures.requests - seen.requests
        if new >= WINDOW_REQUESTS or (new >= LEAST_IN_WINDOW and loop.time() - seen.taken >= WINDOW_S):
            await self._take_window(served, seen)
        await self._self_check(served, seen, self._device.config.self_check_s)

    def _compare(self, served: Served, seen: _Seen, installed: Installed | None) -> None:
        """Worse than the version before it in several looks on end; a hot device is slow whatever version answers."""
        ceiling = installed.manifest.objectives.p95_ms if installed and installed.manifest else float("inf")
        baseline = self._device.registry.baseline(served.model, served.version)
        sign = served.figures.worse(ceiling, baseline.served_p50_ms if baseline else None)
        if sign == "latency" and self._device.sensors.heat().throttled:
            sign = ""
        seen.worse = seen.worse + 1 if sign else 0
        if seen.worse >= LOOKS:
            self._alone(served.model, sign, served.figures.compared(sign, ceiling))

    async def _take_window(self, served: Served, seen: _Seen) -> None:
        seen.requests, seen.taken = served.figures.requests, self._device.loop.time()
        found = await self._ask(served, {"op": "window"})
        if found is not None and found[1]:
            window = decoder(Window).decode(found[1])
            if window.n:
                await asyncio.to_thread(self._telemetry.add, served.model, served.version, window)

    async def _self_check(self, served: Served, seen: _Seen, age_s: float) -> None:
        """Fresh evidence, unless there is some younger than `age_s`. Who comes during a check waits for it."""
        async with seen.turn:
            started = self._device.loop.time()
            if started - seen.checked >= age_s:
                await self._gather(served, seen)
                seen.checked = self._device.loop.time()
                seen.check_s = seen.checked - started

    async def _gather(self, served: Served, seen: _Seen) -> None:
        """The golden set on the device as it is now; the worker re-reads nothing, so the files are hashed here."""
        installed = self._device.registry.version(served.model, served.version)
        task = installed.manifest.task if installed and installed.manifest and installed.channel else None
        golden_set = str(self._device.home.golden(task)) if task else None
        found = await self._ask(served, {"op": "golden", "golden": golden_set})
        if found is None:
            return
        header = found[0]
        intact = await asyncio.to_thread(_intact, self._device, installed) if installed else None
        golden = bool(header["passed"]) if header["known"] else None
        equal = header.get("bit_equal") if header.get("same_runtime") else None
        seen.stats = Stats(golden_ok=golden, replay_bit_equal=equal, digest_ok=intact)
        if golden is False and served.version == seen.version:
            self._alone(served.model, "golden_failed")

    async def _ask(self, served: Served, header: Header) -> tuple[Header, bytes] | None:
        worker = served.worker
        if worker is None:
            return None
        try:
            return await worker.call(header, within_s=CALL_S)
        except (WorkerGone, WorkerSaid, TimeoutError):
            return None  # its watcher starts it again; the next look asks again

    async def drift(self, served: Served) -> DriftReport:
        """The kept windows and fresh evidence."""
        device = self._device
        seen = self._seen[served.model]
        if seen.version == served.version and served.ready:
            if served.figures.requests - seen.requests >= LEAST_IN_WINDOW:
                await self._take_window(served, seen)
            await self._self_check(served, seen, max(FRESH_S, SHARE * seen.check_s))
        installed = device.registry.version(served.model, served.version)
        reference = await asyncio.to_thread(_reference, device, installed) if installed else None
        baseline = device.registry.baseline(served.model, served.version)
        serving = served.figures.serving(served.model, served.version, device.loop.time(), None)
        heat = await asyncio.to_thread(device.sensors.heat)
        stats = msgspec.structs.replace(
            seen.stats if seen.version == served.version else Stats(),
            p50_ms=serving.p50_ms,
            baseline_p50_ms=baseline.served_p50_ms if baseline else None,
            throttled=heat.throttled,
        )
        windows = await asyncio.to_thread(self._telemetry.windows, served.model, served.version)
        return DriftReport(model=served.model, version=served.version, reference=reference, windows=windows, stats=stats)


def _reference(device: Device, installed: Installed) -> Reference | None:
    if installed.manifest is None or installed.manifest.sketch is None:
        return None
    try:
        data = (device.home.bundles / installed.manifest_sha256 / installed.manifest.sketch).read_bytes()
        return decoder(Reference).decode(data)
    except (OSError, msgspec.DecodeError):
        return None  # told by digest_ok; a report without reference says that no drift can be told


def _intact(device: Device, installed: Installed) -> bool | None:
    """Are the files on disk still what was signed; None for a foreign model, whose files nobody signed."""
    import hashlib

    if installed.manifest is None or not installed.channel:
        return None
    folder = device.home.bundles / installed.manifest_sha256
    try:
        for file in installed.manifest.files:
            with (folder / file.name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                    return False
    except OSError:
        return False
    return True

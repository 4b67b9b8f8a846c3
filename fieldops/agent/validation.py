"""Is this version fit to answer here? Its own worker, the task's signed golden set, replay, latency in turns, memory.

The old model goes on answering meanwhile. What a bundle brings along never judges it: bar and inputs come from the policy
role. For a way back the time decides nothing: a hot device must not be left without a model because it is slow.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from typing import Literal

from msgspec.structs import replace as with_note

from fieldops.agent.device import Device
from fieldops.agent.figures import percentile
from fieldops.agent.frames import Header
from fieldops.agent.measuring import served_p50
from fieldops.agent.suitability import check_heat
from fieldops.agent.workers import Worker, WorkerGone, WorkerSaid
from fieldops.bundles.manifest import Manifest
from fieldops.bundles.promises import beside_class, power_check
from fieldops.edges.registry import Installed
from fieldops.errors import DeviceCannot
from fieldops.wire import Check

TURN = 8  # requests of one model before the other's turn
CALL_S = 60.0
# A worker may end for what its version has no part in: the kernel wanted its memory, or a person killed it. One that ends
# again is not fit; and before a last-good is given up for it, the device tries once more than that.
TRIES = 2
WAY_BACK_TRIES = 3
POWER_S = 1.0  # under load, of which the second half counts
UNLIMITED_MS = 1e9  # what a foreign model, which nobody signed, is held to: nothing
UNLIMITED_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """worker: the candidate's, running; None when a check failed (it was ended). p50_ms None: not measured."""

    worker: Worker | None
    checks: list[Check]
    p50_ms: float | None
    served_ms: float | None = None  # median of requests as programs send them; None: not measured
    died: str = ""  # how its worker ended by itself

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def failed(self) -> str:
        """The checks that said no, in words."""
        return "; ".join(f"{check.name} {check.measured} (limit {check.limit})" for check in self.checks if not check.ok)


async def validate(
    device: Device, installed: Installed, stop: threading.Event, *, way_back: bool = False, idle_w: float | None = None
) -> Verdict:
    """On the event loop. idle_w: power of the device before; None: not measurable, or a way back.

    Raises DeviceCannot: superseded when `stop` is set meanwhile, thermal when the margin is not kept.
    """
    died: list[str] = []
    while True:
        verdict = await _judged(device, installed, stop, way_back=way_back, idle_w=idle_w)
        if not verdict.died or len(died) + 1 >= (WAY_BACK_TRIES if way_back else TRIES):
            break
        died.append(verdict.died)
        _go_on(stop)
    if not died:
        return verdict
    told = f"a worker before this one ended: {died[-1]}"
    checks = [with_note(check, note=told) if check.name == "load" else check for check in verdict.checks]
    return replace(verdict, checks=checks)


async def _judged(
    device: Device, installed: Installed, stop: threading.Event, *, way_back: bool, idle_w: float | None
) -> Verdict:
    load = device.models.load(installed)
    try:
        worker = await Worker.start(load)
    except WorkerSaid as error:
        name: Literal["digest", "load"] = "digest" if error.kind == "digest" else "load"
        return Verdict(None, [Check(name=name, ok=False, measured=error.message, limit="loads as signed")], None)
    except WorkerGone as error:
        check = Check(name="load", ok=False, measured=str(error), limit="a worker that stays up")
        return Verdict(None, [check], None, died=str(error))
    checks = [
        Check(name="digest", ok=True, measured="as signed", limit="SHA-256 of the manifest"),
        Check(name="load", ok=True, measured="loaded", limit="loads as signed"),
    ]
    p50: float | None = None
    served: float | None = None
    died = ""
    try:
        checks += await _golden(worker, way_back=way_back)
        _go_on(stop)
        if all(check.ok for check in checks):
            check, p50 = await _latency(device, worker, installed, stop, way_back=way_back)
            checks += [check, await _memory(worker, installed)]
            if installed.manifest is not None and not way_back:
                checks += await _power(device, worker, installed.manifest, idle_w)
                check_heat(device, installed.manifest)
            served = None if way_back else await served_p50(worker)  # everybody waits for a way back
    except WorkerSaid as error:
        checks.append(Check(name="load", ok=False, measured=error.message, limit="answers"))
    except (WorkerGone, TimeoutError) as error:
        died = str(error) if isinstance(error, WorkerGone) else ""
        checks.append(Check(name="load", ok=False, measured=f"the worker ended: {error}", limit="a worker that stays up"))
    except BaseException:
        await worker.stop()
        raise
    if all(check.ok for check in checks):
        return Verdict(worker, checks, p50, served)
    await worker.stop()
    return Verdict(None, checks, p50, died=died)


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise DeviceCannot(
            "given up for a revert that came meanwhile", reason="superseded", next_step="look at `fieldops models`, then decide"
        )


async def _golden(worker: Worker, *, way_back: bool) -> list[Check]:
    found, _ = await worker.call({"op": "golden"}, within_s=CALL_S)
    if not found["known"]:
        # Only a way back comes here: an activation without a golden set is refused before a worker starts.
        return [
            Check(
                name="golden",
                ok=way_back,
                measured="not measured: no golden set of this task",
                limit="does not decide for a way back",
            )
        ]
    golden = Check(
        name="golden",
        ok=bool(found["passed"]) or (_right(found) and _within(found) is False),
        measured=f"accuracy {found['accuracy']:.4f} on {found['rows']}" + ("" if found["finite"] else ", not finite"),
        limit=f"accuracy {found['floor']:.4f}",
    )
    if found.get("worst") is None:
        return [golden]
    equal = bool(found.get("bit_equal"))
    replay = Check(
        name="replay",
        ok=bool(found["passed"]) or not _right(found),
        measured="bit-equal" if equal else f"largest difference {found['worst']:.3g}",
        limit="bit-equal" if found["same_runtime"] else "the task's tolerance",
        note="" if equal or not found["same_runtime"] else "same runtime as at release, other bits: see drift's numerics note",
    )
    return [golden, replay]


def _right(found: Header) -> bool:
    return bool(found["finite"]) and float(found["accuracy"]) >= float(found["floor"])


def _within(found: Header) -> bool | None:
    """Did the replay keep the tolerance; None when accuracy failed first and nothing can be told apart."""
    if found.get("worst") is None or not _right(found):
        return None
    return bool(found["passed"])


async def _latency(
    device: Device, worker: Worker, installed: Installed, stop: threading.Event, *, way_back: bool
) -> tuple[Check, float]:
    """Candidate and active in turns, so that a change of the machine's speed meets both alike."""
    served = device.models.get(installed.model)
    active = served.worker if served and served.ready else None
    mine: list[float] = []
    other: list[float] = []
    # On the way back it is only told, and everybody waits.
    samples = 2 * TURN if way_back else device.config.latency_samples
    while len(mine) < samples:
        found, _ = await worker.call({"op": "latency", "n": TURN}, within_s=CALL_S)
        mine += found["ms"]
        if active is not None and active.alive:
            try:
                found, _ = await active.call({"op": "latency", "n": TURN}, within_s=CALL_S)
                other += found["ms"]
            except (WorkerGone, WorkerSaid, TimeoutError):
                active = None  # its own watcher mends it; the candidate is judged by its ceiling alone
        _go_on(stop)
    mine.sort()
    p50, p95 = percentile(mine, 0.5), percentile(mine, 0.95)
    of_class = beside_class(installed.manifest, device.config.device_class, p50) if installed.manifest else ""
    ceiling = installed.manifest.objectives.p95_ms if installed.manifest else float("inf")
    beside = f"; active p95 {percentile(sorted(other), 0.95):.2f} ms" if other else ""
    note = f"p50 {p50:.2f} ms of {len(mine)}{beside}" + ("; does not decide for a way back" if way_back else "")
    note += f"; {of_class}" if of_class else ""
    check = Check(
        name="latency",
        ok=way_back or p95 <= ceiling,
        measured=f"p95 {p95:.2f} ms",
        limit=f"p95 {ceiling:.2f} ms" if ceiling < UNLIMITED_MS else "none was signed",
        note=note,
    )
    return check, p50


async def _power(device: Device, worker: Worker, manifest: Manifest, idle_w: float | None) -> list[Check]:
    """While the candidate answers without a pause; a sensor may need a moment until it shows that."""
    busy: list[float] = []
    if manifest.objectives.power_w is not None and idle_w is not None:
        until = device.loop.time() + POWER_S
        while device.loop.time() < until:
            await worker.call({"op": "latency", "n": TURN}, within_s=CALL_S)
            watts = await asyncio.to_thread(device.sensors.power)
            busy += [watts] if watts is not None else []
        busy = busy[len(busy) // 2 :]
    check = power_check(manifest, idle_w, busy)
    return [check] if check is not None else []


async def _memory(worker: Worker, installed: Installed) -> Check:
    found, _ = await worker.call({"op": "memory"}, within_s=CALL_S)
    limit = installed.manifest.objectives.memory_bytes if installed.manifest else 1 << 62
    used = int(found["bytes"])
    return Check(
        name="memory",
        ok=used <= limit,
        measured=f"{used / 1e6:.1f} MB",
        limit=f"{limit / 1e6:.1f} MB above the bare worker" if limit < UNLIMITED_BYTES else "none was signed",
    )

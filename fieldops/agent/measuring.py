"""Bench: a version measured in a worker of its own, with the device's heat before and after."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.figures import percentile
from fieldops.agent.frames import Header
from fieldops.agent.hardware import look
from fieldops.agent.records import done
from fieldops.agent.workers import Load, Worker, WorkerGone, WorkerSaid
from fieldops.bench import CPU, Measured, Tried, baseline_of, best_of, providers_to_try, summarise, thread_counts
from fieldops.bundles.promises import class_baseline
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot
from fieldops.steps import Bench
from fieldops.wire import BenchResult, StepRecord

BENCH_S = 570.0  # below what the transaction waits for its event loop
SAMPLES = (64, 100_000)
MOST_WARMUP = 10_000_000
SERVED = 48  # requests for the served baseline,
UNSTEADY = 8  # the first of which do not count,
TUNING = 128  # requests for each way to run it
PAUSE_S = 0.004  # each after a pause in which the caches see other work
CALL_S = 60.0


def bench(device: Device, record: StepRecord, step: Bench, installed: Installed, actor: str, hurry: threading.Event) -> None:
    """On the transaction's thread. Raises DeviceCannot; superseded when `hurry` is set meanwhile: a revert waits."""
    _save(device, record, step, run_bench(device, record, step, installed, actor, hurry))


def run_bench(
    device: Device, record: StepRecord, step: Bench, installed: Installed, actor: str, hurry: threading.Event
) -> BenchResult:
    """The measurement alone; nothing but its beginning is written down."""
    if not SAMPLES[0] <= step.samples <= SAMPLES[1]:
        raise DeviceCannot(f"{step.samples} samples", reason="samples", next_step="ask for 64 to 100000 samples")
    if not 0 <= step.warmup <= MOST_WARMUP:
        raise DeviceCannot(f"a warm-up of {step.warmup}", reason="samples", next_step=f"ask for at most {MOST_WARMUP}")
    note = device.entry(actor, "bench", step.model, installed.version, f"{step.samples} samples")
    device.save(record=replace(record, phase="measuring"), note=note)
    before = device.sensors.heat()
    try:
        load, tried = device.models.load(installed), list[Tried]()
        if step.tune:
            tried = device.wait_for(_tune(load, _ways(device, installed), hurry))
            chosen = _chosen(tried, installed)
            load = dataclasses.replace(load, threads=chosen.threads, provider=chosen.provider)
        measured, accuracy, served = device.wait_for(_measure(load, step, hurry))
    except (WorkerGone, WorkerSaid, TimeoutError) as error:
        if hurry.is_set():
            raise DeviceCannot(
                "given up for a revert that came meanwhile", reason="superseded", next_step="measure again after it"
            ) from error
        raise DeviceCannot(
            f"{step.model} {installed.version} could not be measured: {error}",
            reason="bench_failed",
            next_step="ask for fewer samples, or look at `fieldops logs`",
        ) from error
    after = device.sensors.heat()
    result = summarise(
        measured,
        model=step.model,
        version=installed.version,
        throttled=after.throttled if not before.throttled else True,
        temp_before_c=before.soc_temp_c,
        temp_after_c=after.soc_temp_c,
        accuracy=accuracy,
        baseline=device.registry.baseline(step.model, installed.version)
        or class_baseline(installed.manifest, device.config.device_class),
    )
    return replace(
        result,
        served_p50_ms=served,
        threads=load.threads,
        provider=load.provider,
        tuned={each.name: each.median_ms for each in tried if not each.distrusted},
        distrusted={each.name: each.distrusted for each in tried if each.distrusted},
    )


def _save(device: Device, record: StepRecord, step: Bench, result: BenchResult) -> None:
    def keep(change: Change) -> None:
        if step.save_baseline:
            change.baseline(step.model, baseline_of(result, device.now()))

    device.save(record=done(record, device.now(), message=_told(result), bench=result, version=result.version), also=[keep])


def _told(result: BenchResult) -> str:
    if not result.tuned:
        return f"p50 {result.p50_ms:.3f} ms"
    tried = [f"{name} {ms:.3f} ms" for name, ms in result.tuned.items()]
    tried += [f"{name} not taken: {why}" for name, why in result.distrusted.items()]
    return f"{result.provider} x{result.threads} from the next start of a worker on (medians: {', '.join(tried)})"


async def served_p50(worker: Worker, n: int = SERVED) -> float:
    """Milliseconds in the worker of requests that come as a program's do: through the pipe, one at a time, with pauses.

    A tight loop finds everything in the processor's caches and is several times faster than any served request. What the
    worker counted meanwhile is thrown away. Raises WorkerGone, WorkerSaid, TimeoutError.
    """
    found, bodies = await worker.call({"op": "requests", "n": n}, within_s=CALL_S)
    taken: list[float] = []
    for size in found["sizes"]:
        body, bodies = bodies[:size], bodies[size:]
        answer, _ = await worker.call({"op": "infer", "deadline_s": CALL_S}, body, within_s=CALL_S)
        taken.append(float(answer["ms"]))
        await asyncio.sleep(PAUSE_S)
    await worker.call({"op": "window"}, within_s=CALL_S)
    return percentile(sorted(taken[UNSTEADY:]), 0.5)


async def _give_way(worker: Worker, hurry: threading.Event) -> None:
    while not await asyncio.to_thread(hurry.wait, 0.1):
        pass
    worker.kill()


def _ways(device: Device, installed: Installed) -> list[tuple[str, int]]:
    """Each provider that is here and allowed, with each number of threads worth trying."""
    hardware = look(device)
    if hardware is None:
        return [(CPU, 1)]
    # Outputs recorded at release are what another provider is believed by; without them there is only the CPU's.
    known = installed.manifest is not None and installed.channel and installed.manifest.replay
    allowed = installed.manifest.needs.providers if installed.manifest else []
    names = providers_to_try(hardware.providers, allowed) if known else (CPU,)
    return [(name, count) for name in names for count in thread_counts(hardware.cores)]


def _chosen(tried: list[Tried], installed: Installed) -> Tried:
    try:
        return best_of(tried)
    except ValueError as error:
        raise DeviceCannot(
            f"{installed.model} {installed.version}: {error} here: "
            + "; ".join(f"{each.name}: {each.distrusted}" for each in tried),
            reason="bench_failed",
            next_step="look at `fieldops drift`; a version whose numbers are wrong here should be rolled back",
        ) from error


async def _tune(load: Load, ways: list[tuple[str, int]], hurry: threading.Event) -> list[Tried]:
    """Each way in a worker of its own, one after the other; a provider that fails is not tried with other threads."""
    tried: list[Tried] = []
    usual: float | None = None  # how far the CPU's outputs are from the recorded ones
    for provider, threads in ways:
        if any(each.provider == provider and each.distrusted for each in tried):
            continue
        if hurry.is_set():
            raise WorkerGone("given up for a revert")
        worker = await Worker.start(dataclasses.replace(load, threads=threads, provider=provider))
        try:
            if worker.provider_fault:
                tried.append(Tried(provider, threads, distrusted=worker.provider_fault))
                continue
            golden, _ = await worker.call({"op": "golden"}, within_s=CALL_S)
            doubt = distrust(golden, provider, usual)
            if provider == CPU and usual is None:
                usual = golden.get("worst_of_all")
            await worker.call({"op": "latency", "n": UNSTEADY}, within_s=CALL_S)
            found, _ = await worker.call({"op": "latency", "n": TUNING}, within_s=CALL_S)
        finally:
            await worker.stop()
        tried.append(Tried(provider, threads, percentile(sorted(found["ms"]), 0.5), doubt))
    return tried


def distrust(golden: Header, provider: str, usual: float | None) -> str:
    """Why the outputs under this provider are not believed; "" when they are.

    golden: the worker's word on the golden set and the replay. usual: the largest difference of any tier from the recorded
    outputs under the CPU's: an integer graph may round otherwise here than at release, but then under each provider alike.
    """
    if not golden["known"]:
        return "" if provider == CPU else "no golden set is here to judge it by"
    if not golden["passed"]:
        return f"accuracy {golden['accuracy']:.4f}, floor {golden['floor']:.4f}, largest difference {golden['worst']}"
    if provider == CPU:
        return ""
    worst = golden.get("worst_of_all")
    if worst is None:
        return "no recorded outputs are here to judge it by"
    limit = max(float(golden["tolerance"]), usual or 0.0)
    return "" if worst <= limit else f"outputs differ by {worst:.3g} from the recorded ones; {limit:.3g} is allowed"


async def _measure(load: Load, step: Bench, hurry: threading.Event) -> tuple[Measured, float | None, float]:
    worker = await Worker.start(load)
    watch = asyncio.ensure_future(_give_way(worker, hurry))
    try:
        found, _ = await worker.call({"op": "measure", "samples": step.samples, "warmup": step.warmup}, within_s=BENCH_S)
        golden, _ = await worker.call({"op": "golden"}, within_s=CALL_S)
        served = await served_p50(worker)
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await worker.stop()
    measured = Measured(
        cold_ms=found["cold_ms"],
        samples_ms=tuple(found["samples_ms"]),
        kernel_ms=found["kernel_ms"],
        runtime=found["runtime"],
    )
    return measured, float(golden["accuracy"]) if golden["known"] else None, served

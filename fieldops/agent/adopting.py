"""Adopt: the model that somebody put here by hand becomes version 0.0.0 for good, with a copy of its own and a baseline.

Nothing is promised about such a model, so nothing here refuses it for being poor: its accuracy on the task's golden set is
told, when the policy has brought one. What it must do is load from the copy, answer, and give the same answers twice.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace as with_

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.measuring import run_bench
from fieldops.agent.models import FOREIGN_VERSION
from fieldops.agent.records import done
from fieldops.agent.shelf import Shelf
from fieldops.agent.workers import Load, Worker, WorkerGone, WorkerSaid
from fieldops.bench import baseline_of
from fieldops.edges.disk import write_whole
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot
from fieldops.slots import RESTING, Slot
from fieldops.steps import Adopt, Bench
from fieldops.wire import Check, StepRecord

CALL_S = 60.0


def adopt(device: Device, record: StepRecord, step: Adopt, slot: Slot, actor: str, hurry: threading.Event) -> None:
    """On the transaction's thread. Raises DeviceCannot: nothing_to_adopt, adopt_failed. Safe to repeat."""
    found = device.registry.version(step.model, FOREIGN_VERSION)
    if found is None or found.manifest is None or found.channel or slot.active != FOREIGN_VERSION or slot.state not in RESTING:
        raise DeviceCannot(
            f"{step.model} is {slot.state} with {slot.active or 'nothing'}: there is no foreign model to adopt",
            reason="nothing_to_adopt",
            next_step="only what runs as version 0.0.0, named under [foreign] in agent.toml, can be adopted",
        )
    device.save(record=replace(record, phase="keeping"), note=device.entry(actor, "adopt", step.model, FOREIGN_VERSION, "begun"))
    _keep(device, found)
    golden = device.home.golden(found.manifest.task)
    load = with_(device.models.load(found), golden=golden if golden.exists() else None)
    checks = device.wait_for(_replayed(load))
    bench = Bench(model=step.model, samples=step.samples)
    result = run_bench(device, replace(record, phase="measuring"), bench, found, actor, hurry)

    def keep(change: Change) -> None:
        change.baseline(step.model, baseline_of(result, device.now()))

    slot = replace(slot, last_good=slot.last_good or FOREIGN_VERSION)
    note = device.entry(actor, "adopted", step.model, FOREIGN_VERSION, "replayed", found.manifest_sha256)
    message = f"{step.model} {FOREIGN_VERSION} is kept as last-good"
    record = done(record, device.now(), message=message, version=FOREIGN_VERSION, checks=checks, bench=result)
    device.save(slot=slot, checks=checks, record=record, note=note, also=[keep])


def _keep(device: Device, found: Installed) -> None:
    """A copy under its digest: what its own program does to the file afterwards is no matter. Raises DeviceCannot."""
    assert found.manifest is not None
    shelf, file = Shelf(device.home), found.manifest.files[0]
    if not shelf.whole(file.sha256):
        source = device.home.foreign(file.name)
        try:
            data = source.read_bytes()
        except OSError as error:
            raise _failed(f"{source.name}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise _failed(f"{source.name} is not the file that answers here; restart the agent to take the new one")
        write_whole(shelf.path(file.sha256), data, 0o400)
    shelf.gather(found.manifest_sha256, [(file.name, file.sha256)])


async def _replayed(load: Load) -> list[Check]:
    """Loads from the copy, answers, and answers the same again."""
    try:
        worker = await Worker.start(load)
        try:
            first, _ = await worker.call({"op": "golden"}, within_s=CALL_S)
            again, _ = await worker.call({"op": "golden"}, within_s=CALL_S)
            await worker.call({"op": "latency", "n": 1}, within_s=CALL_S)
        finally:
            await worker.stop()
    except (WorkerGone, WorkerSaid, TimeoutError) as error:
        raise _failed(str(error)) from error
    loads = Check(name="load", ok=True, measured="loaded and answered", limit="loads from the device's own copy")
    if not first["known"]:
        return [loads, Check(name="golden", ok=True, measured="no golden set here", limit="told, not judged")]
    same = first["accuracy"] == again["accuracy"] and first["finite"] == again["finite"]
    return [
        loads,
        Check(
            name="golden",
            ok=True,
            measured=f"accuracy {first['accuracy']:.4f} on {first['rows']}" + ("" if first["finite"] else ", not finite"),
            limit=f"accuracy {first['floor']:.4f}",
            note="" if first["passed"] else "below the task's floor: told, not judged, since it runs here already",
        ),
        Check(name="replay", ok=same, measured="the same twice" if same else "differs", limit="the same twice"),
    ]


def _failed(why: str) -> DeviceCannot:
    return DeviceCannot(
        f"the foreign model could not be adopted: {why}",
        reason="adopt_failed",
        next_step="check the file named under [foreign] in agent.toml; it goes on answering meanwhile",
    )

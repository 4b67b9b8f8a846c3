"""Recalibrate: one temperature a tier, fitted on labels of this device's own inputs, kept only where unseen labels agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.records import done
from fieldops.agent.settings import NO_TUNING, Tuning, keep, tuning_of
from fieldops.agent.tuning import retune
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.drift.cause import FEWEST_LABELS
from fieldops.errors import DeviceCannot
from fieldops.slots import Slot
from fieldops.steps import Recalibrate
from fieldops.wire import StepRecord

FIT_S = 120.0

Labelled = Callable[[str, dict[str, int]], list[tuple[bytes, int]]]  # model, labels by sample id -> (sealed request, label)


def no_samples(_: str, __: dict[str, int]) -> list[tuple[bytes, int]]:
    return []


def recalibrate(device: Device, record: StepRecord, step: Recalibrate, slot: Slot, actor: str, labelled: Labelled) -> None:
    """On the transaction's thread. Raises DeviceCannot (too_few_labels, not_better, nothing_to_undo, not_ready)."""
    version = slot.answering
    if version is None:
        raise DeviceCannot(f"{slot.model} answers by its rule", reason="not_ready", next_step="put a version in service first")
    name, before = f"tuning:{slot.model}:{version}", tuning_of(device.registry, slot.model, version)
    if step.undo:
        if before == NO_TUNING:
            raise DeviceCannot("it is as signed already", reason="nothing_to_undo", next_step="nothing is to be done")
        now, told = before.former or NO_TUNING, "the former calibration is back"
    else:
        now, told = _fitted(device, record, step, slot, labelled)
        now = replace(now, former=replace(before, former=None) if before != NO_TUNING else None)
    note = device.entry(actor, "recalibrate", slot.model, version, "undone" if step.undo else "fitted", told)
    device.save(note=note, also=[lambda change: keep(change, name, now)])
    retune(device, slot)
    device.save(record=done(record, device.now(), message=told, version=version))


def _fitted(device: Device, record: StepRecord, step: Recalibrate, slot: Slot, labelled: Labelled) -> tuple[Tuning, str]:
    rows = labelled(slot.model, step.labels)
    if len(rows) < FEWEST_LABELS:
        raise DeviceCannot(
            f"{len(rows)} labelled inputs are here; a calibration needs {FEWEST_LABELS}",
            reason="too_few_labels",
            next_step="pull and label more: `fieldops samples pull`, `fieldops samples label`",
        )
    device.save(record=replace(record, phase="fitting"))
    served = device.models.get(slot.model)
    worker = served.worker if served else None
    header = {
        "op": "fit",
        "key": str(device.home.samples_key),
        "sizes": [len(sealed) for sealed, _ in rows],
        "labels": [label for _, label in rows],
    }
    if worker is None:
        raise _not_ready("the rule answers")
    try:
        found, _ = device.wait_for(worker.call(header, b"".join(sealed for sealed, _ in rows), within_s=FIT_S))
    except (WorkerGone, WorkerSaid, TimeoutError) as error:
        raise _not_ready(str(error)) from error
    fits: dict[str, Any] = found["fits"]
    told = "; ".join(
        f"{tier}: temperature {fit['temperature']:.2f}, log loss on unseen labels {fit['loss_before']:.3f}"
        f" -> {fit['loss_after']:.3f}{'' if fit['kept'] else ', not kept'}"
        for tier, fit in fits.items()
    )
    kept = {tier: float(fit["temperature"]) for tier, fit in fits.items() if fit["kept"]}
    if not kept:
        raise DeviceCannot(
            f"it would not be better on labels it has not seen ({told})",
            reason="not_better",
            next_step="nothing was changed; label more inputs, or keep what was signed",
        )
    return Tuning(temperatures=kept, labels=len(rows)), f"{len(rows)} labels; {told}"


def _not_ready(why: str) -> DeviceCannot:
    return DeviceCannot(f"no fit: {why}", reason="not_ready", next_step="try again in a minute")

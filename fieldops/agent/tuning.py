"""SetTiers, and giving the settings that are on disk to the worker in service."""

from __future__ import annotations

from fieldops.agent.affording import affordable
from fieldops.agent.device import Device
from fieldops.agent.records import done
from fieldops.agent.settings import keep, settings_of
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.errors import DeviceCannot
from fieldops.slots import Slot
from fieldops.steps import SetTiers
from fieldops.tiers import tiers_in_words
from fieldops.wire import StepRecord


def set_tiers(device: Device, record: StepRecord, step: SetTiers, slot: Slot, actor: str) -> None:
    """On the transaction's thread. Raises DeviceCannot (bad_setting)."""
    if step.settings.fault:
        raise DeviceCannot(step.settings.fault, reason="bad_setting", next_step="see `fieldops models tiers --help`")
    before, now = settings_of(device.registry, slot.model), step.settings
    told = f"{tiers_in_words(now)}; before: {tiers_in_words(before)}"
    note = device.entry(
        actor, "set_tiers", slot.model, slot.active or "", tiers_in_words(now), f"before: {tiers_in_words(before)}"
    )
    device.save(note=note, also=[lambda change: keep(change, f"tiers:{slot.model}", now)])
    retune(device, slot)
    device.save(record=done(record, device.now(), message=told, version=slot.active))


def retune(device: Device, slot: Slot) -> None:
    """Give the settings that are on disk to the worker in service; one that is not there gets them when it starts."""
    served = device.models.get(slot.model)
    if served is None:
        return
    served.allowance = affordable(device, slot.model)
    installed = device.registry.version(slot.model, served.version)
    if installed is None or served.worker is None:
        return
    try:
        device.wait_for(served.retune(device.models.load(installed)))
    except (WorkerGone, WorkerSaid, TimeoutError):
        return  # its watcher starts another one, which loads them

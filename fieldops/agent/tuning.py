"""Local settings over a signed version: when its large model may run, and the temperatures fitted on this device.

They stand in the registry, are given to every worker that starts, and never touch a signed file: taking them back is
enough to have what was signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from fieldops.agent.records import done
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.decoding import decoder
from fieldops.edges.registry import Change, Registry
from fieldops.errors import DeviceCannot
from fieldops.slots import Slot
from fieldops.steps import SetTiers
from fieldops.tiers import AS_SIGNED, TierSettings, tiers_in_words
from fieldops.wire import StepRecord

if TYPE_CHECKING:
    from fieldops.agent.device import Device


class Tuning(Struct, frozen=True, kw_only=True):
    """temperatures: by tier, over the graph's own. former: what it replaced, one step back; None: as signed."""

    temperatures: dict[str, float] = {}
    labels: int = 0
    former: Tuning | None = None


NO_TUNING = Tuning()


def settings_of(registry: Registry, model: str) -> TierSettings:
    text = registry.fact(f"tiers:{model}")
    return decoder(TierSettings).decode(text.encode("utf-8")) if text else AS_SIGNED


def tuning_of(registry: Registry, model: str, version: str) -> Tuning:
    text = registry.fact(f"tuning:{model}:{version}")
    return decoder(Tuning).decode(text.encode("utf-8")) if text else NO_TUNING


def keep(change: Change, name: str, value: Struct) -> None:
    change.fact(name, msgspec.json.encode(value).decode("utf-8"))


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
    from fieldops.agent.affording import affordable

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

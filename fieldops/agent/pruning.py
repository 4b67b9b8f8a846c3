"""Prune: room on the device's disk. The registry forgets a version first; files that no row names are only waste."""

from __future__ import annotations

from fieldops.agent.device import Device
from fieldops.agent.records import done
from fieldops.agent.shelf import Shelf
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot
from fieldops.slots import Slot, advance
from fieldops.steps import Prune
from fieldops.wire import StepRecord


def prune(device: Device, record: StepRecord, step: Prune, slot: Slot, actor: str) -> None:
    """On the transaction's thread. Raises DeviceCannot (not_staged, in_use); nothing is removed then."""
    gone = _chosen(step, slot, device.registry.versions(slot.model))
    shelf = Shelf(device.home)
    before = shelf.used_bytes()
    names = ", ".join(each.version for each in gone)
    if slot.state == "staged" and slot.candidate in {each.version for each in gone}:
        slot = advance(slot, "discard", now=device.now(), reason="pruned")

    def forget(change: Change) -> None:
        change.slot(slot)
        for each in gone:
            change.drop_version(each.model, each.version)
            change.note(device.entry(actor, "prune", each.model, each.version, "asked", f"{each.size_bytes} bytes"))

    device.save(record=record, also=[forget])
    others = [version for each in device.registry.slots() for version in device.registry.versions(each.model)]
    for each in gone:
        shelf.drop(each, others)
    shelf.sweep(others)
    freed = before - shelf.used_bytes()
    told = f"removed {names}: {freed} bytes are free again" if gone else f"nothing to remove; {freed} bytes of waste are gone"
    device.save(record=done(record, device.now(), message=told, version=slot.active))


def _chosen(step: Prune, slot: Slot, here: list[Installed]) -> list[Installed]:
    """A version that only waits, staged, goes when it is named."""
    kept = slot.kept - ({slot.candidate} if slot.state == "staged" else set())
    if not step.versions:
        return [each for each in here if each.version not in slot.kept and each.channel]
    by_name = {each.version: each for each in here}
    for name in step.versions:
        if name not in by_name:
            there = ", ".join(by_name) or "none"
            raise DeviceCannot(
                f"{step.model} {name} is not on this device", reason="not_staged", next_step=f"name one of: {there}"
            )
        if name in kept or not by_name[name].channel:
            raise DeviceCannot(
                f"{step.model} {name} is {_role(slot, name)}: it is never removed",
                reason="in_use",
                next_step="put another version in service first; last-good always stays",
            )
    return [by_name[name] for name in dict.fromkeys(step.versions)]


def _role(slot: Slot, version: str) -> str:
    if version == slot.active:
        return "active"
    if version == slot.last_good:
        return "last-good"
    return "under way" if version in slot.kept else "a model that nobody could bring back"

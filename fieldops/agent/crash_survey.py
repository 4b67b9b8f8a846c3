"""What must hold of a device after a crash, whichever it was: the same for every plan.

What answers is what its record says, and its files are whole; the slot stands where it stood before the change or where
the change leads, never between; the journal has every entry that was on disk; and the device can go on from there.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct

from fieldops.agent.crash_plans import Plan
from fieldops.agent.crash_scene import BUNDLES, MODEL, Running, damage, started, stub_judge
from fieldops.agent.home import AgentHome
from fieldops.agent.judged import Judge
from fieldops.agent.transaction import WAITING
from fieldops.edges.disk import witnessed
from fieldops.edges.faults import Full
from fieldops.edges.registry import Registry
from fieldops.errors import FieldopsError
from fieldops.slots import Slot
from fieldops.wire import SlotState

BETWEEN: Final[frozenset[SlotState]] = frozenset({"validating", "reverting"})  # no start leaves a slot in these


class Bounds(Struct, frozen=True, kw_only=True):
    """What the plan without a crash goes from and comes to. actives: versions that may be active after a crash.

    damaged: those whose files were spoilt on purpose.
    """

    before: Slot
    after: Slot
    actives: frozenset[str | None]
    damaged: frozenset[str]


def bounds(plan: Plan, root: Path, before: Slot) -> Bounds:
    """root: a home on which the plan was played to its end."""
    registry = Registry.open(root / "registry.db")
    try:
        after = registry.slot(MODEL)
        assert after is not None
        home = AgentHome(root)
        bad = frozenset(each.version for each in registry.versions(MODEL) if damage(home, each))
    finally:
        registry.close()
    back = {before.last_good} if plan.goes_back else set()
    return Bounds(before=before, after=after, actives=frozenset({before.active, after.active, *back}), damaged=bad)


def faults(running: Running, limits: Bounds, *, entries: int, boot_id: str) -> list[str]:
    """Nothing, when this device can prove what it is. entries: of the journal, that were on disk for certain."""
    found = [*_state_faults(running, limits, boot_id), *answer_faults(running, limits), *running.bugs]
    found += _journal_faults(running.device.registry, entries)
    found += link_faults(running.device.home, limits, running.slot())
    for version in running.device.registry.versions(MODEL):
        if version.version not in limits.damaged:
            found.append(damage(running.device.home, version))
    for record in running.device.registry.running():
        if record.phase not in WAITING:
            found.append(f"{record.kind} runs for ever ({record.phase})")
    return [fault for fault in found if fault]


def _state_faults(running: Running, limits: Bounds, boot_id: str) -> list[str]:
    slot, found = running.slot(), list[str]()
    if slot.active not in limits.actives:
        found.append(f"active is {slot.active}, which is neither the old nor the new one")
    if slot.state in BETWEEN:
        found.append(f"{slot.state} with {slot.active} active is neither old nor new")
    if slot.trial is not None and slot.trial.boot_id != boot_id:
        found.append("a trial goes on in another boot")
    if slot.state == "needs_human" and not limits.damaged:
        found.append("a person is asked for, and nothing was damaged")
    return found


def answer_faults(running: Running, limits: Bounds, *, short: bool = False) -> list[str]:
    """A whole model answers, and it is the record's; the rule answers where no model may.

    short: of disk space, so that the record could not follow; then the old one is right as well.
    """
    slot, serving = running.slot(), running.answering.serving
    if serving in limits.damaged:
        return [f"{serving} answers, which is damaged"]
    right = {slot.answering, slot.target} if slot.state == "reverting" else {slot.answering}
    if short and slot.state == "trial":
        right.add(None if slot.rest == "needs_human" else slot.active)
    if slot.answering in limits.damaged:
        right.add(None)
    return [] if serving in right else [f"{serving or 'the rule'} answers, {slot.answering or 'the rule'} should ({slot.state})"]


def link_faults(home: AgentHome, limits: Bounds, slot: Slot | None = None) -> list[str]:
    """What a foreign runtime would find under `current/`: the record's version, whole; without a slot, any that it may find."""
    place = home.current / MODEL
    if not os.path.lexists(place):
        free = slot is None or slot.active is None or slot.state == "needs_human"
        return [] if free else ["nothing is under current/"]
    found = [each for each in BUNDLES.values() if place.is_symlink() and place.readlink().name == each.digest]
    if not found:
        return [f"current/ is at {place.readlink() if place.is_symlink() else 'a file'}"]
    version = found[0].version
    if version not in ({slot.active} if slot is not None else limits.actives):
        return [f"current/ is at {version}"]
    return [] if version in limits.damaged else [fault for fault in [damage(home, found[0].installed())] if fault]


def _journal_faults(registry: Registry, entries: int) -> list[str]:
    """Every page reads, no entry is missing between two others, and none that was on disk is gone."""
    there, newest = registry.journal(0, 1 << 30)
    if [entry.seq for entry in there] != list(range(1, newest + 1)):
        return ["the journal has gaps"]
    if len(there) < entries:
        return [f"the journal lost {entries - len(there)} entries"]
    return registry.broken()


def side(slot: Slot, limits: Bounds) -> str:
    """old, new or trial."""
    if slot.state == "trial":
        return "trial"
    return "new" if (slot.active, slot.state) == (limits.after.active, limits.after.state) else "old"


def survey(
    root: Path, plan: Plan, limits: Bounds, *, entries: int, boot_id: str, judge: Judge = stub_judge, full: bool = False
) -> tuple[str, list[str]]:
    """Start on what a crash left: (old, new or trial; faults). full: there is no space until the start is over."""
    found = [f"before the start: {fault}" for fault in link_faults(AgentHome(root), limits)]  # others may start sooner
    try:
        with ExitStack() as end, ExitStack() as filled:
            if full:
                filled.enter_context(witnessed(Full(1)))
            running = end.enter_context(started(root, boot_id, judge))
            if full:
                lacking = answer_faults(running, limits, short=True) + running.bugs
                if lacking:
                    return "none", [f"started on a full disk: {fault}" for fault in lacking]
                filled.close()
                running.look()
            found += faults(running, limits, entries=entries, boot_id=boot_id)
            return side(running.slot(), limits), found or again(running, plan, limits)
    except FieldopsError as error:
        return "none", [f"it does not start: {error.message}"]


def again(running: Running, plan: Plan, limits: Bounds) -> list[str]:
    """The same commands once more lead where the plan leads, or are refused because the device is there, or back, already."""
    slot = running.slot()
    if plan.factory is not None or not plan.acts or side(slot, limits) == "new":
        return []
    acts = plan.acts[-1:] if slot.state == "trial" and limits.after.state == "committed" else plan.acts
    running.give_up()
    ended = running.play(acts)
    if ended is not None and ended.state == "failed" and ended.reason not in _REFUSED:
        return [f"the same again: {ended.kind} ended {ended.state}: {ended.message}"]
    if ended is None and running.slot().active not in limits.actives - ({limits.before.active} - {limits.after.active}):
        return [f"the same again left {running.slot().active}"]
    running.look()
    found = answer_faults(running, limits) + link_faults(running.device.home, limits, running.slot()) + running.bugs
    if running.slot().state in BETWEEN:
        found.append(f"the same again left it {running.slot().state}")
    return found


# The device went back, or was never moved: what the command asked for is no longer so.
_REFUSED: Final = frozenset({"not_on_trial", "wrong_state", "not_staged", "validation_failed", "quarantined", "superseded"})

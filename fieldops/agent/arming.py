"""Armed versions: staged now, and later activated, validated, committed or reverted by the device alone, with nobody there.

What to do next is read from the slot each time, so a restart at any moment goes on where it was. The steps are the same as
a laptop's, taken in the name of the device.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec
from msgspec import Struct

from fieldops.agent.device import Device
from fieldops.agent.records import done
from fieldops.agent.suitability import trial_obstacles
from fieldops.decoding import decoder
from fieldops.edges.registry import Registry
from fieldops.errors import DeviceCannot
from fieldops.policy import Actor, may
from fieldops.slots import Slot
from fieldops.steps import Activate, Arm, Commit, Disarm
from fieldops.wire import StepRecord

LOOK_S = 0.5
AGAIN_S = 5.0  # before a commit that was refused is tried again
LONGEST_S = 30 * 86400.0
PASSING = frozenset({"superseded", "interrupted", "stopping"})  # ends of a try that say nothing about the version


class Armed(Struct, frozen=True, kw_only=True):
    """step: as it was accepted at that time. laptop, actor: whose it was; who is revoked meanwhile arms nothing any more."""

    step: Arm
    laptop: str
    actor: str
    at: float = 0.0


def armed_of(registry: Registry, model: str) -> Armed | None:
    text = registry.fact(f"armed:{model}")
    return decoder(Armed).decode(text.encode("utf-8")) if text else None


def arm(device: Device, record: StepRecord, step: Arm, slot: Slot, actor: str) -> None:
    """On the transaction's thread. Raises DeviceCannot (not_staged, bad_window)."""
    now = device.trusted_now()
    if slot.state != "staged" or slot.candidate != step.version:
        raise DeviceCannot(
            f"{step.model} {step.version} is not staged; {step.model} is {slot.state}",
            reason="not_staged",
            next_step="stage it first",
        )
    if not (step.start < step.end <= now + LONGEST_S and now < step.end):
        raise DeviceCannot(
            "the window is over, empty, or ends more than 30 days ahead by this device's clock",
            reason="bad_window",
            next_step="choose another window, and compare the clocks: `fieldops device show`",
        )
    held = device.registry.held(record.step_id)
    made = Armed(step=step, laptop=held.laptop if held else "", actor=actor, at=now)
    note = device.entry(actor, "arm", step.model, step.version, "asked", f"{step.start:.0f} to {step.end:.0f}")
    text = msgspec.json.encode(made).decode("utf-8")
    device.save(note=note, also=[lambda change: change.fact(f"armed:{step.model}", text)])
    told = f"{step.version} is armed: the device tries it by itself in its window, and commits or reverts it"
    device.save(record=done(record, device.now(), message=told, previous=slot.active, version=slot.active))


def disarm(device: Device, record: StepRecord, step: Disarm, slot: Slot, actor: str) -> None:
    """On the transaction's thread. A trial that has begun goes on to its deadline, and reverts there."""
    if armed_of(device.registry, step.model) is None:
        device.save(record=done(record, device.now(), message="nothing was armed", version=slot.active))
        return
    _clear(device, step.model, slot.candidate or "", actor, "asked")
    left = "; its trial goes on and ends in a revert" if slot.state == "trial" else f"; {slot.candidate} stays staged"
    device.save(record=done(record, device.now(), message=f"disarmed{left}", version=slot.active))


def _clear(device: Device, model: str, version: str, actor: str, reason: str) -> None:
    note = device.entry(actor, "disarm", model, version, reason)
    device.save(note=note, also=[lambda change: change.fact(f"armed:{model}", "")])


class Armer:
    """Lives on the event loop. take: see Admission.take_alone."""

    def __init__(self, device: Device, take: Callable[[Activate | Commit, str], None]) -> None:
        self._device = device
        self._admit = take
        self._count = itertools.count()
        self._begun: dict[str, str] = {}  # model -> step by which it was last activated
        self._tried = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        for slot in self._device.registry.slots():
            found = armed_of(self._device.registry, slot.model)
            if found is not None:
                self._next(slot, found)

    def _next(self, slot: Slot, found: Armed) -> None:
        """One move of the device at most, or the end of its being armed."""
        step, device = found.step, self._device
        if slot.candidate != step.version:
            reason = "committed" if slot.active == step.version else slot.reason or "superseded"
            _clear(device, slot.model, step.version, device.actor, reason)
        elif slot.state == "staged":
            self._begin(slot, found)
        elif slot.state == "trial" and slot.trial is not None:
            seen_s = step.trial_s - (slot.trial.deadline - device.monotonic())
            if seen_s >= step.trial_s / 2 and device.monotonic() - self._tried >= AGAIN_S:
                self._tried = device.monotonic()  # a commit refused for its health is asked again, until the deadline reverts
                self._take(Commit(model=step.model, version=step.version))

    def _begin(self, slot: Slot, found: Armed) -> None:
        device, step, now = self._device, found.step, self._device.trusted_now()
        over = self._revoked(found) or self._refused(slot.model) or ("window_over" if now >= step.end else "")
        if over:
            _clear(device, slot.model, step.version, device.actor, over)
        elif now >= step.start and not self._waits(slot, step):
            step_id = self._take(Activate(model=step.model, version=step.version, trial_s=step.trial_s, attempts=1))
            if device.registry.record(step_id) is not None:  # else something was under way, and it is asked again
                self._begun[slot.model] = step_id

    def _revoked(self, found: Armed) -> str:
        """By the policy of today, whoever armed it might no longer: why; "" while it holds. What ran out since counts not."""
        kind, _, name = found.actor.partition(":")
        actor = Actor("person" if kind == "person" else "local", name)
        decision = may(self._device.policy(), actor, found.step, found.at, laptop=found.laptop or None)
        if decision.allowed:
            return ""
        return "laptop_revoked" if decision.rule == "laptops_revoked" else f"policy: {decision.text}"

    def _refused(self, model: str) -> str:
        """Why the last try ended before its checks began; "" when there was none, or when trying again makes sense."""
        record = self._device.registry.record(self._begun.get(model, ""))
        return record.reason if record is not None and record.ended and record.reason not in PASSING else ""

    def _waits(self, slot: Slot, step: Arm) -> bool:
        """Is it too hot, too busy or too low on power, for whoever armed it or for the version; what is not measurable is not."""
        sensors = self._device.sensors
        heat, supply, load = sensors.heat(), sensors.supply(), sensors.load_per_core()
        hot = step.hottest_c is not None and heat.soc_temp_c is not None and heat.soc_temp_c > step.hottest_c
        busy = step.load is not None and load is not None and load > step.load
        low = step.battery_pct is not None and bool(supply.on_battery) and supply.pct is not None
        if hot or busy or (low and (supply.pct or 0.0) < (step.battery_pct or 0.0)):
            return True
        installed = self._device.registry.version(slot.model, step.version)
        manifest = installed.manifest if installed else None
        return manifest is not None and bool(trial_obstacles(self._device, manifest, slot))

    def _take(self, step: Activate | Commit) -> str:
        step_id = f"armed.{self._device.boot_id[:8]}.{self._device.monotonic():.6f}.{next(self._count)}"
        self._admit(step, step_id)
        return step_id


def shown(registry: Registry, slot: Slot) -> tuple[float | None, float | None]:
    """(from, until) of an armed version, Unix seconds; None when nothing is armed."""
    found = armed_of(registry, slot.model)
    return (found.step.start, found.step.end) if found else (None, None)

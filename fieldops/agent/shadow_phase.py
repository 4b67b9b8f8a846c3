"""The phase between a version's checks and its trial, in which it only sees copies of what the one in service is asked.

The transaction's thread does not wait for it: trials of other models end and reverts come meanwhile, and one of this model
goes before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.shadowing import Shadow
from fieldops.agent.suitability import needs_way
from fieldops.agent.validation import Verdict
from fieldops.edges.registry import Installed
from fieldops.errors import DeviceCannot
from fieldops.steps import Activate
from fieldops.wire import StepRecord

SHADOW_S = (1, 3600)


@dataclass(frozen=True, slots=True)
class Standing:
    """A validated version in the shadow; its activation goes on when that is over. idle_w: as validation took it."""

    step_id: str
    installed: Installed
    verdict: Verdict
    idle_w: float | None
    shadow: Shadow


class ShadowPhase:
    """Runs on the transaction's thread. over: told with the step's id, on the event loop, when its time is over."""

    def __init__(self, device: Device, over: Callable[[str], object]) -> None:
        self._device = device
        self._over = over
        self._standing: dict[str, Standing] = {}

    def need_room(self, step: Activate, installed: Installed) -> None:
        """Raises DeviceCannot (shadow_length, memory) before anything is begun."""
        if not step.shadow_s:
            return
        if not SHADOW_S[0] <= step.shadow_s <= SHADOW_S[1]:
            raise DeviceCannot(
                f"a shadow of {step.shadow_s} s", reason="shadow_length", next_step="choose 1 to 3600 seconds, or none"
            )
        if needs_way(self._device, installed.manifest):
            raise DeviceCannot(
                "memory does not hold two workers, so nothing can stand in the shadow of the one in service",
                reason="memory",
                next_step="activate it without a shadow phase: its trial still reverts by itself",
            )

    def begin(self, record: StepRecord, step: Activate, installed: Installed, verdict: Verdict, idle_w: float | None) -> bool:
        """False where nothing answers that it could be compared with."""
        device, served = self._device, self._device.models.get(step.model)
        if verdict.worker is None or served is None or not served.ready:
            return False
        note = device.entry(device.actor, "shadow", step.model, step.version, "validated", f"{step.shadow_s} s")
        device.save(record=replace(record, phase="shadow", checks=verdict.checks), note=note)
        begun = device.models.begin_shadow(step.model, verdict.worker, step.shadow_s, partial(self._over, record.step_id))
        shadow = device.wait_for(begun)
        self._standing[step.model] = Standing(record.step_id, installed, verdict, idle_w, shadow)
        return True

    def end(self, step_id: str, model: str) -> Standing:
        """What stood there until now. Raises DeviceCannot (superseded) when a revert came meanwhile."""
        found = self._standing.get(model)
        if found is None or found.step_id != step_id:
            raise DeviceCannot(
                "given up for a revert that came meanwhile",
                reason="superseded",
                next_step="look at `fieldops models`, then decide",
            )
        return self._standing.pop(model)

    def leave(self, model: str) -> None:
        """A revert of this model goes before; its activation is told when its turn comes."""
        found = self._standing.pop(model, None)
        if found is not None:
            self._device.wait_for(self._device.models.end_shadow(found.shadow))

"""What answers: the versions that are here, a slot's own choice put in service, a version judged before it is.

For the transaction's thread; the work itself happens on the event loop.
"""

from __future__ import annotations

import contextlib
import threading

from fieldops.agent.device import Device
from fieldops.agent.suitability import needs_way
from fieldops.agent.validation import Verdict, validate
from fieldops.agent.workers import Worker, WorkerGone, WorkerSaid
from fieldops.bundles.manifest import Rule
from fieldops.edges.registry import Installed
from fieldops.errors import DeviceCannot
from fieldops.slots import Slot

NO_RULE = Rule(label=-1, text="no model answers")


class Answering:
    """hurry: set when a revert waits, so that a validation gives way."""

    def __init__(self, device: Device, hurry: threading.Event) -> None:
        self._device = device
        self._hurry = hurry

    def slot(self, model: str) -> Slot:
        found = self._device.registry.slot(model)
        if found is None:
            names = ", ".join(slot.model for slot in self._device.registry.slots()) or "none"
            raise DeviceCannot(f"no model {model!r} here", reason="unknown_model", next_step=f"use one of: {names}")
        return found

    def installed(self, model: str, version: str) -> Installed:
        found = self._device.registry.version(model, version)
        if found is None:
            there = ", ".join(v.version for v in self._device.registry.versions(model)) or "none"
            raise DeviceCannot(
                f"{model} {version} is not on this device", reason="not_staged", next_step=f"stage it first; here are: {there}"
            )
        bad = self._device.registry.quarantined().get(found.manifest_sha256)
        if bad is not None:
            raise DeviceCannot(
                f"{model} {version} failed here before ({bad}) and is kept out", reason="quarantined", next_step="stage another"
            )
        return found

    def answer(self, slot: Slot) -> bool:
        """Let the slot's own choice answer, without checks beyond the digests; False when only the rule is left."""
        if slot.active is None and slot.state not in {"trial", "reverted", "needs_human"}:
            return False  # nothing of this model was ever in service
        wanted = slot.answering
        installed = self._device.registry.version(slot.model, wanted) if wanted else None
        worker = self._start(installed) if installed else None
        known = installed or self._any(slot)
        rule = known.manifest.fallback if known and known.manifest else NO_RULE
        version = installed.version if installed else ""
        self._device.wait_for(self._device.models.switch(slot.model, worker, rule, version))
        return worker is not None

    def _any(self, slot: Slot) -> Installed | None:
        names = [slot.active, slot.last_good, slot.candidate]
        found = (self._device.registry.version(slot.model, name) for name in names if name)
        here = self._device.registry.versions(slot.model)
        return next((version for version in found if version is not None), here[-1] if here else None)

    def _start(self, installed: Installed) -> Worker | None:
        try:
            return self._device.wait_for(Worker.start(self._device.models.load(installed)))
        except (WorkerGone, WorkerSaid) as error:
            note = self._device.entry(self._device.actor, "load_failed", installed.model, installed.version, str(error))
            with contextlib.suppress(DeviceCannot):  # a full disk costs the entry; the rule must answer all the same
                self._device.save(note=note)
            return None

    def put_in_service(self, installed: Installed, worker: Worker | None) -> None:
        rule = installed.manifest.fallback if installed.manifest else NO_RULE
        self._device.wait_for(self._device.models.switch(installed.model, worker, rule, installed.version))

    def faults(self, slot: Slot) -> list[str]:
        """What speaks against keeping the version on trial."""
        served = self._device.models.get(slot.model)
        if served is None or not served.ready:
            return ["its worker is not running"]
        if served.version != slot.candidate:
            return [f"{served.version} answers, not it"]
        found = self._device.registry.version(slot.model, slot.candidate or "")
        limit = found.manifest.objectives.error_rate if found and found.manifest else 0.0
        faults: list[str] = []
        if served.figures.failed_share > limit:
            faults.append(
                f"{served.figures.version_failed} of {served.figures.version_requests} requests failed; {limit:.2%} may"
            )
        if served.crashes:
            faults.append(f"its worker ended {served.crashes} times")
        return faults

    def validate(self, installed: Installed, *, way_back: bool = False, idle_w: float | None = None) -> Verdict:
        """Where memory does not hold two, what answers makes way first: the signed rule answers until this is over."""
        # A way back gives way to nobody: it is what others wait for.
        stop = threading.Event() if way_back else self._hurry
        unloaded = self._make_way(installed)
        try:
            verdict = self._device.wait_for(validate(self._device, installed, stop, way_back=way_back, idle_w=idle_w))
        except BaseException:
            if unloaded and not self._device.stopping:
                self.answer(self.slot(installed.model))
            raise
        if unloaded and not verdict.ok:
            self.answer(self.slot(installed.model))
        return verdict

    def _make_way(self, installed: Installed) -> bool:
        served = self._device.models.get(installed.model)
        if served is None or served.worker is None or not needs_way(self._device, installed.manifest):
            return False
        before = self._device.registry.version(installed.model, served.version)
        rule = before.manifest.fallback if before and before.manifest else NO_RULE
        why = "memory does not hold two workers: the signed rule answers until the checks are over"
        self._device.save(note=self._device.entry(self._device.actor, "unload", installed.model, served.version, "memory", why))
        self._device.wait_for(self._device.models.switch(installed.model, None, rule, served.version))
        return True

"""Activate, Commit, Revert: what moves a model between versions. Every move is on disk before it takes effect."""

from __future__ import annotations

import threading
from time import monotonic

from msgspec.structs import replace

from fieldops.agent.device import Device
from fieldops.agent.records import done
from fieldops.agent.validation import Verdict, validate
from fieldops.agent.workers import Worker, WorkerGone, WorkerSaid
from fieldops.bundles.manifest import Rule
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot, NeedsPerson
from fieldops.slots import Slot, Trial, advance, way_back
from fieldops.steps import Activate, Commit
from fieldops.wire import BenchBaseline, StepRecord

TRIAL_S = (5, 86400)
NO_RULE = Rule(label=-1, text="no model answers")


def needs_person(model: str, version: str, why: str) -> NeedsPerson:
    return NeedsPerson(
        f"{model}: last-good {version} failed its checks ({why}); the signed rule answers",
        reason="last_good_failed",
        next_step="stage a version that works here, or look at the hardware: `fieldops resources`",
    )


class Activation:
    """Runs on the transaction's thread. hurry: set when a revert waits, so that a validation gives way."""

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

    # --- activate ------------------------------------------------------------------------------------------------------

    def activate(self, record: StepRecord, step: Activate, actor: str) -> None:
        device, slot = self._device, self.slot(step.model)
        installed = self.installed(step.model, step.version)
        if slot.active == step.version and slot.state != "needs_human":
            device.save(record=done(record, device.now(), message="active already", previous=slot.active, version=slot.active))
            return
        if not TRIAL_S[0] <= step.trial_s <= TRIAL_S[1]:
            raise DeviceCannot(
                f"a trial of {step.trial_s} s", reason="trial_length", next_step="choose a trial from 5 to 86400 seconds"
            )
        self._need_golden(installed)
        slot = advance(slot, "activate", now=device.now(), reason="activate", version=step.version)
        record = replace(record, phase="validating", previous=slot.active)
        note = device.entry(actor, "validate", step.model, step.version, "begun")
        device.save(slot=slot, record=record, note=note, checks=[])
        verdict = self._validate(installed)
        if not verdict.ok:
            self._refuse(slot, installed, verdict, record)
            return
        trial = Trial(boot_id=device.boot_id, deadline=monotonic() + step.trial_s, attempts=max(1, step.attempts))
        slot = advance(slot, "passed", now=device.now(), reason="validated", trial=trial)
        record = replace(record, phase="trial", checks=verdict.checks)
        also = [lambda change: self._first_baseline(change, installed, verdict.p50_ms)]
        note = device.entry(actor, "trial", step.model, step.version, "validated", f"{step.trial_s} s")
        device.save(slot=slot, checks=verdict.checks, record=record, note=note, also=also)
        self._answer_with(installed, verdict.worker)
        device.save(record=done(record, device.now(), message=f"on trial for {step.trial_s} s", version=step.version))

    def _need_golden(self, installed: Installed) -> None:
        task = installed.manifest.task if installed.manifest else installed.model
        if not self._device.home.golden(task).exists():
            raise DeviceCannot(
                f"no signed golden set of task {task!r} is here, so nothing could judge {installed.version}",
                reason="no_golden_set",
                next_step="bring the signed policy first: `fieldops device enrol`, or sideload from a current stick",
            )

    def _refuse(self, slot: Slot, installed: Installed, verdict: Verdict, record: StepRecord) -> None:
        """Failed validation: quarantined; the old model was never touched."""
        device = self._device
        reason = f"validation_failed: {verdict.failed}"
        slot = advance(slot, "failed", now=device.now(), reason=reason)
        device.save(
            slot=slot,
            checks=verdict.checks,
            note=device.entry(device.actor, "refuse", installed.model, installed.version, "validation_failed", verdict.failed),
            record=replace(
                record,
                state="failed",
                exit=DeviceCannot.exit_code,
                reason="validation_failed",
                message=f"{installed.model} {installed.version} failed its checks: {verdict.failed}",
                next=f"{slot.active or 'nothing'} goes on answering; stage another version",
                checks=verdict.checks,
                version=slot.active,
                finished=device.now(),
            ),
            also=[lambda change: change.quarantine(installed.manifest_sha256, "validation_failed")],
        )

    def _first_baseline(self, change: Change, installed: Installed, p50_ms: float | None) -> None:
        """What the version took here when it was checked stands for it until somebody measures better."""
        if p50_ms is None or self._device.registry.baseline(installed.model, installed.version) is not None:
            return
        made = BenchBaseline(version=installed.version, p50_ms=p50_ms, p90_ms=None, kernel_ms=0.0, measured=self._device.now())
        change.baseline(installed.model, made)

    # --- commit --------------------------------------------------------------------------------------------------------

    def commit(self, record: StepRecord, step: Commit, actor: str) -> None:
        device, slot = self._device, self.slot(step.model)
        if slot.state in {"committed", "settled"} and slot.active == step.version:
            device.save(record=done(record, device.now(), message="committed already", version=slot.active))
            return
        if slot.candidate != step.version:
            raise DeviceCannot(
                f"{step.version} is not on trial; {slot.model} is {slot.state} with {slot.active}",
                reason="not_on_trial",
                next_step="activate it first",
            )
        self._healthy(slot)
        former = device.registry.version(slot.model, slot.active) if slot.active else None
        probation = Trial(boot_id=device.boot_id, deadline=monotonic() + device.config.probation_s, attempts=1)
        before = slot.active
        floor = former.counter if former else 0
        slot = advance(slot, "commit", now=device.now(), reason="commit", trial=probation, floor=floor)
        device.save(
            slot=slot,
            record=done(record, device.now(), message="committed", previous=before, version=slot.active),
            note=device.entry(actor, "commit", step.model, step.version, "healthy", f"last-good {slot.last_good}"),
        )

    def _healthy(self, slot: Slot) -> None:
        """Raises DeviceCannot (unhealthy): the trial goes on, and ends in a revert when nothing changes."""
        served = self._device.models.get(slot.model)
        faults: list[str] = []
        if served is None or not served.ready:
            faults.append("its worker is not running")
        elif served.figures.failed_share > self._error_rate(slot):
            faults.append(f"{served.figures.version_failed} of {served.figures.version_requests} requests failed")
        if served is not None and served.crashes:
            faults.append(f"its worker ended {served.crashes} times")
        if faults:
            raise DeviceCannot(
                f"{slot.model} {slot.candidate} is not healthy: {'; '.join(faults)}",
                reason="unhealthy",
                next_step=f"revert it, or wait until the trial ends: the device reverts to {slot.active or 'the rule'} then",
            )

    def _error_rate(self, slot: Slot) -> float:
        found = self._device.registry.version(slot.model, slot.candidate or "")
        return found.manifest.objectives.error_rate if found and found.manifest else 0.0

    # --- revert --------------------------------------------------------------------------------------------------------

    def revert(self, record: StepRecord | None, model: str, to: str | None, actor: str, reason: str) -> StepRecord | None:
        """Back to `to`, or to where this slot goes back. record None: nobody asked, the device does it alone."""
        device, slot = self._device, self.slot(model)
        target = to or way_back(slot)
        if target is None:
            raise DeviceCannot(
                f"{model} has no last-good version to go back to",
                reason="no_last_good",
                next_step="stage and activate a version; until then what answers stays",
            )
        installed = self.installed(model, target) if to else device.registry.version(model, target)
        before = slot.answering
        slot = advance(slot, "revert", now=device.now(), reason=reason, version=target)
        if record is not None:
            record = replace(record, phase="reverting", previous=before)
        device.save(slot=slot, record=record, note=device.entry(actor, "revert", model, target, reason))
        verdict = self._validate(installed, way_back=to is None or to == slot.last_good) if installed else Verdict(None, [], None)
        if verdict.ok and installed is not None:
            self._answer_with(installed, verdict.worker)
            slot = advance(slot, "restored", now=device.now(), reason=reason)
            message = f"{model} is back at {target}"
            if record is not None:
                record = done(record, device.now(), message=message, version=target, checks=verdict.checks)
            note = device.entry(actor, "reverted", model, target, reason)
            device.save(slot=slot, checks=verdict.checks, record=record, note=note)
            return record
        if to is not None and slot.last_good != to:
            return self._keep(slot, record, target, verdict)
        return self._lost(slot, record, target, verdict)

    def _keep(self, slot: Slot, record: StepRecord | None, target: str, verdict: Verdict) -> StepRecord | None:
        """The listed version failed its checks: what was active stays, or comes back."""
        device = self._device
        slot = advance(slot, "kept", now=device.now(), reason=f"{target} failed: {verdict.failed}")
        self.answer(slot)
        if record is not None:
            record = replace(
                record,
                state="failed",
                exit=DeviceCannot.exit_code,
                reason="validation_failed",
                message=f"{slot.model} {target} failed its checks: {verdict.failed}",
                next=f"{slot.active} goes on answering",
                checks=verdict.checks,
                version=slot.active,
                finished=device.now(),
            )
        note = device.entry(device.actor, "refuse", slot.model, target, "validation_failed", verdict.failed)
        device.save(slot=slot, checks=verdict.checks, record=record, note=note)
        return record

    def _lost(self, slot: Slot, record: StepRecord | None, target: str, verdict: Verdict) -> StepRecord | None:
        device = self._device
        slot = advance(slot, "lost", now=device.now(), reason=f"last_good_failed: {verdict.failed or 'its files are gone'}")
        error = needs_person(slot.model, target, verdict.failed or "its files are gone")
        if record is not None:
            record = replace(
                record,
                state="needs_human",
                exit=error.exit_code,
                reason=error.reason,
                message=error.message,
                next=error.next_step,
                checks=verdict.checks,
                finished=device.now(),
            )
        note = device.entry(device.actor, "needs_human", slot.model, target, "last_good_failed", verdict.failed)
        device.save(slot=slot, checks=verdict.checks, record=record, note=note)
        self.answer(slot)
        return record

    # --- what answers --------------------------------------------------------------------------------------------------

    def answer(self, slot: Slot) -> bool:
        """Let the slot's own choice answer, without checks beyond the digests; False when only the rule is left."""
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
        return next((version for version in found if version is not None), None)

    def _start(self, installed: Installed) -> Worker | None:
        try:
            return self._device.wait_for(Worker.start(self._device.models.load(installed)))
        except (WorkerGone, WorkerSaid) as error:
            self._device.save(
                note=self._device.entry(self._device.actor, "load_failed", installed.model, installed.version, str(error))
            )
            return None

    def _answer_with(self, installed: Installed, worker: Worker | None) -> None:
        rule = installed.manifest.fallback if installed.manifest else NO_RULE
        self._device.wait_for(self._device.models.switch(installed.model, worker, rule, installed.version))

    def _validate(self, installed: Installed, *, way_back: bool = False) -> Verdict:
        # A way back gives way to nobody: it is what others wait for.
        stop = threading.Event() if way_back else self._hurry
        return self._device.wait_for(validate(self._device, installed, stop, way_back=way_back))

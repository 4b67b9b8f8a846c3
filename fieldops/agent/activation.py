"""Activate and Commit: a staged version judged, on trial, kept. Every move is on disk before it takes effect."""

from __future__ import annotations

import dataclasses
from time import monotonic

from msgspec.structs import replace

from fieldops.agent.answering import Answering
from fieldops.agent.belowfloor import check_floor
from fieldops.agent.device import Device
from fieldops.agent.judged import Judge
from fieldops.agent.records import done
from fieldops.agent.shadow_phase import ShadowPhase
from fieldops.agent.shadowing import judged, skipped
from fieldops.agent.standing import check_standing, judged_fact, metadata_version
from fieldops.agent.suitability import IDLE_FACT, check_trial, idle_power
from fieldops.agent.validation import Verdict
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot, TrustRefused
from fieldops.slots import Slot, Trial, advance
from fieldops.steps import Activate, Commit
from fieldops.wire import BenchBaseline, StepRecord

TRIAL_S = (5, 86400)


class Activation:
    """Runs on the transaction's thread."""

    def __init__(self, device: Device, answering: Answering, judge: Judge, shadows: ShadowPhase) -> None:
        self._device = device
        self._answering = answering
        self._judge = judge
        self._shadows = shadows

    # --- activate ------------------------------------------------------------------------------------------------------

    def activate(self, record: StepRecord, step: Activate, actor: str) -> None:
        device, slot = self._device, self._answering.slot(step.model)
        installed = self._answering.installed(step.model, step.version)
        if slot.active == step.version and slot.state != "needs_human":
            device.save(record=done(record, device.now(), message="active already", previous=slot.active, version=slot.active))
            return
        if not TRIAL_S[0] <= step.trial_s <= TRIAL_S[1]:
            raise DeviceCannot(
                f"a trial of {step.trial_s} s", reason="trial_length", next_step="choose a trial from 5 to 86400 seconds"
            )
        self._shadows.need_room(step, installed)
        check_floor(device, slot, installed, actor)
        self._need_standing(slot, installed)
        self._need_proof()
        self._need_golden(installed)
        if installed.manifest is not None:
            check_trial(device, installed.manifest, slot)
        idle_w = idle_power(device, installed.manifest)
        slot = advance(slot, "activate", now=device.now(), reason="activate", version=step.version)
        record = replace(record, phase="validating", previous=slot.active)
        note = device.entry(actor, "validate", step.model, step.version, "begun")
        device.save(slot=slot, record=record, note=note, checks=[])
        verdict = self._answering.validate(installed, idle_w=idle_w)
        if not verdict.ok:
            self._refuse(slot, installed, verdict, record)
            return
        if step.shadow_s and self._shadows.begin(record, step, installed, verdict, idle_w):
            return
        if step.shadow_s:
            verdict = dataclasses.replace(verdict, checks=[*verdict.checks, skipped("no version answers yet")])
        self._begin_trial(slot, record, step, actor, installed, verdict, idle_w)

    def shadow_over(self, record: StepRecord, step: Activate, actor: str) -> None:
        """The activation goes on where its shadow ended. Raises DeviceCannot (superseded)."""
        device, slot = self._device, self._answering.slot(step.model)
        found = self._shadows.end(record.step_id, step.model)
        report, manifest = found.shadow.report(), found.installed.manifest
        check = judged(report, manifest.objectives.error_rate if manifest else 0.0)
        record = replace(record, shadow=report, previous=slot.active)
        verdict = dataclasses.replace(found.verdict, checks=[*found.verdict.checks, check])
        if verdict.ok:
            self._begin_trial(slot, record, step, actor, found.installed, verdict, found.idle_w)
            return
        device.wait_for(found.shadow.worker.stop())
        self._refuse(slot, found.installed, verdict, record)

    def _begin_trial(
        self,
        slot: Slot,
        record: StepRecord,
        step: Activate,
        actor: str,
        installed: Installed,
        verdict: Verdict,
        idle_w: float | None,
    ) -> None:
        device = self._device
        trial = Trial(boot_id=device.boot_id, deadline=monotonic() + step.trial_s, attempts=max(1, step.attempts))
        slot = advance(slot, "passed", now=device.now(), reason="validated", trial=trial)
        record = replace(record, phase="trial", checks=verdict.checks)
        also = [
            lambda change: self._first_baseline(change, installed, verdict),
            lambda change: change.fact(judged_fact(slot.model), metadata_version(device)),
        ]
        if idle_w is not None:
            also.append(lambda change: change.fact(IDLE_FACT, f"{idle_w:.3f}"))
        note = device.entry(actor, "trial", step.model, step.version, "validated", f"{step.trial_s} s")
        device.save(slot=slot, checks=verdict.checks, record=record, note=note, also=also)
        self._answering.put_in_service(installed, verdict.worker)
        device.save(record=done(record, device.now(), message=f"on trial for {step.trial_s} s", version=step.version))

    def _need_standing(self, slot: Slot, installed: Installed) -> None:
        """Raises TrustRefused. A version that was taken back waits no more; one that is only too old may be renewed."""
        device = self._device
        try:
            check_standing(device, self._judge, installed, way_back=installed.version in {slot.active, slot.last_good})
        except TrustRefused as error:
            if error.reason != "expired" and slot.state == "staged" and slot.candidate == installed.version:
                gone = advance(slot, "discard", now=device.now(), reason=error.reason)
                note = device.entry(device.actor, "refuse", slot.model, installed.version, error.reason, error.message)
                device.save(slot=gone, note=note)
            raise

    def _need_proof(self) -> None:
        """A trial ends in a revert only where the agent lives on: without the laptop, and after a restart."""
        if self._device.config.service and not self._device.home.proof.exists():
            raise DeviceCannot(
                "it was never proved that this agent comes back by itself, so nothing goes on trial here",
                reason="not_proved",
                next_step="enrol it again from its kit: `fieldops device enrol DEVICE --kit DIR`",
            )

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

    def _first_baseline(self, change: Change, installed: Installed, verdict: Verdict) -> None:
        """What the version took here when it was checked stands for it until somebody measures better."""
        if verdict.p50_ms is None or self._device.registry.baseline(installed.model, installed.version) is not None:
            return
        made = BenchBaseline(
            version=installed.version,
            p50_ms=verdict.p50_ms,
            p90_ms=None,
            kernel_ms=0.0,
            measured=self._device.now(),
            served_p50_ms=verdict.served_ms,
        )
        change.baseline(installed.model, made)

    # --- commit --------------------------------------------------------------------------------------------------------

    def commit(self, record: StepRecord, step: Commit, actor: str) -> None:
        device, slot = self._device, self._answering.slot(step.model)
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
        installed = device.registry.version(slot.model, step.version)
        if installed is not None and device.registry.fact(judged_fact(slot.model)) != metadata_version(device):
            check_standing(device, self._judge, installed, way_back=True)  # news came in its trial; its age was judged before
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
        faults = self._answering.faults(slot)
        if faults:
            raise DeviceCannot(
                f"{slot.model} {slot.candidate} is not healthy: {'; '.join(faults)}",
                reason="unhealthy",
                next_step=f"revert it, or wait until the trial ends: the device reverts to {slot.active or 'the rule'} then",
            )

"""Revert: back to last-good or to a listed version, asked for or by the device alone; checked like anything new."""

from __future__ import annotations

from msgspec.structs import replace

from fieldops.agent.answering import Answering
from fieldops.agent.belowfloor import check_floor
from fieldops.agent.device import Device
from fieldops.agent.judged import Judge
from fieldops.agent.records import done
from fieldops.agent.standing import check_standing
from fieldops.agent.validation import Verdict
from fieldops.errors import DeviceCannot, NeedsPerson
from fieldops.slots import Slot, advance, way_back
from fieldops.steps import Revert
from fieldops.wire import StepRecord


class Reverting:
    """Runs on the transaction's thread."""

    def __init__(self, device: Device, answering: Answering, judge: Judge) -> None:
        self._device = device
        self._answering = answering
        self._judge = judge

    def asked(self, record: StepRecord, step: Revert, actor: str) -> StepRecord | None:
        """A listed version must not be withdrawn, and below the floor needs its signed statement; last-good needs nothing."""
        device, slot = self._device, self._answering.slot(step.model)
        if step.to is not None:
            wanted = self._answering.installed(step.model, step.to)
            signed = check_floor(device, slot, wanted, actor, step.approvals)
            if step.to not in {slot.active, slot.last_good}:
                check_standing(device, self._judge, wanted, way_back=True)
            if signed:
                device.save(note=device.entry(actor, "break_glass", step.model, step.to, "below_floor", signed))
        return self.revert(record, step.model, step.to, actor, "asked")

    def revert(
        self, record: StepRecord | None, model: str, to: str | None, actor: str, reason: str, detail: str = ""
    ) -> StepRecord | None:
        """Back to `to`, or to where this slot goes back. record None: nobody asked, the device does it alone."""
        device, slot = self._device, self._answering.slot(model)
        target = to or way_back(slot)
        if target is None and slot.state == "trial":
            return self._to_nothing(slot, record, actor, reason)
        if target is None:
            raise DeviceCannot(
                f"{model} has no last-good version to go back to",
                reason="no_last_good",
                next_step="stage and activate a version; until then what answers stays",
            )
        installed = self._answering.installed(model, target) if to else device.registry.version(model, target)
        before = slot.answering
        slot = advance(slot, "revert", now=device.now(), reason=reason, version=target)
        if record is not None:
            record = replace(record, phase="reverting", previous=before)
        device.save(slot=slot, record=record, note=device.entry(actor, "revert", model, target, reason, detail))
        verdict = (
            self._answering.validate(installed, way_back=to is None or to == slot.last_good)
            if installed
            else Verdict(None, [], None)
        )
        if verdict.ok and installed is not None:
            self._answering.put_in_service(installed, verdict.worker)
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

    def _to_nothing(self, slot: Slot, record: StepRecord | None, actor: str, reason: str) -> StepRecord | None:
        """The first version of all was on trial: without it only its signed rule is left to answer."""
        device, model, before = self._device, slot.model, slot.answering
        slot = advance(slot, "revert", now=device.now(), reason=reason)
        device.save(slot=slot, note=device.entry(actor, "revert", model, "", reason))
        slot = advance(slot, "restored", now=device.now(), reason=reason)
        self._answering.answer(slot)
        if record is not None:
            record = done(record, device.now(), message=f"{model}: the signed rule answers", previous=before)
        device.save(slot=slot, record=record, note=device.entry(actor, "reverted", model, "", reason))
        return record

    def _keep(self, slot: Slot, record: StepRecord | None, target: str, verdict: Verdict) -> StepRecord | None:
        """The listed version failed its checks: what was active stays, or comes back."""
        device = self._device
        slot = advance(slot, "kept", now=device.now(), reason=f"{target} failed: {verdict.failed}")
        self._answering.answer(slot)
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
        error = _needs_person(slot.model, target, verdict.failed or "its files are gone")
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
        self._answering.answer(slot)
        return record


def _needs_person(model: str, version: str, why: str) -> NeedsPerson:
    return NeedsPerson(
        f"{model}: last-good {version} failed its checks ({why}); the signed rule answers",
        reason="last_good_failed",
        next_step="stage a version that works here, or look at the hardware: `fieldops resources`",
    )

"""The one thread that changes this device. A step is journaled when it arrives here; every effect follows its own commit.

A step that a FieldopsError ends gets its record from the error; anything else is a bug, is logged with its trace, and ends
the step with exit 1. The agent itself lives on in both cases.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from msgspec.structs import replace

from fieldops.agent import upgrading
from fieldops.agent.activation import Activation
from fieldops.agent.adopting import adopt
from fieldops.agent.answering import Answering
from fieldops.agent.care import Caring
from fieldops.agent.device import Device, write
from fieldops.agent.enrolment import enrol, unenrol
from fieldops.agent.judged import Judge, judge
from fieldops.agent.records import ended
from fieldops.agent.reserve import keep_reserve
from fieldops.agent.reverting import Reverting
from fieldops.agent.shadow_phase import ShadowPhase
from fieldops.agent.staging import Incoming, Staging
from fieldops.edges.registry import HeldStep
from fieldops.errors import DeviceCannot, FieldopsError
from fieldops.slots import Slot, Trial, advance, expired, on_start
from fieldops.steps import (
    Activate,
    Adopt,
    Arm,
    Bench,
    Commit,
    Disarm,
    Enrol,
    KeepAgent,
    Prune,
    Recalibrate,
    Revert,
    RotateTrust,
    SetTiers,
    Stage,
    Unenrol,
    Upgrade,
)
from fieldops.wire import JournalEntry, StepRecord

WAITING = frozenset({"metadata", "payload"})  # phases in which a step waits for the laptop, not for the device


class Transaction:
    """Methods only put work into the queue, and may be called from any thread; the work runs in order."""

    def __init__(
        self, device: Device, *, answering: Callable[[Device, threading.Event], Answering] = Answering, judge: Judge = judge
    ) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transaction")
        # Sockets listen before `recover` has run: what comes in by then was not cut off by the start.
        self._cut_off = {record.step_id for record in device.registry.running()}
        self._hurry = threading.Event()
        self._staging = Staging(device, judge)
        self._answering = answering(device, self._hurry)
        self._unrecovered: set[str] = set()  # models whose start a full disk kept from being written down
        self._shadows = ShadowPhase(device, self.shadow_over)
        self._activation = Activation(device, self._answering, judge, self._shadows)
        self._reverting = Reverting(device, self._answering, judge)
        self.caring = Caring(device, self._answering, self._hurry)

    def close(self) -> None:
        """What is cut off stays running on disk; the next start finds out how it ended."""
        self._device.stopping = True
        self._hurry.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Blocks until the thread has ended; only after `close`, and when the event loop has ended."""
        self._thread.shutdown(wait=True)

    def begin(self, step_id: str, step: object) -> None:
        """A step whose record is on disk."""
        if isinstance(step, Revert):
            self._hurry.set()
        self._submit(step_id, self._begin)

    def metadata_came(self, step_id: str, files: dict[str, bytes]) -> Future[None]:
        """Done when the device has judged it; the record says how."""
        return self._submit(step_id, partial(self._metadata, files))

    def blob_came(self, step_id: str) -> Future[None]:
        """Done when the record tells what is still wanted, or how the step ended."""
        return self._submit(step_id, self._payload)

    def give_up(self, step_id: str, error: FieldopsError) -> Future[None]:
        """End a step that waits for a laptop which went away or began anew."""
        return self._submit(step_id, partial(self._fail, error))

    def recover(self) -> Future[None]:
        """What the agent must do first after its start; the future is done when every model answers."""
        return self._queue(self._recover)

    def trial_over(self, model: str, reason: str, detail: str = "") -> Future[None]:
        """The device goes back by itself, if the trial or probation that this is about still runs. detail: with figures."""
        return self._queue(partial(self._alone, model, reason, detail))

    def shadow_over(self, step_id: str) -> None:
        """A version stood in the shadow for its time, or fell there; its activation goes on."""
        if not self._device.stopping:
            self._submit(step_id, self._shadow_over)

    def settle(self, model: str) -> Future[None]:
        return self._queue(partial(self._settle, model))

    def keep_house(self) -> Future[None]:
        """Write what a full disk did not take, put the links in current/ right, and drop what is old and was read."""
        return self._queue(self._keep_house)

    # --- the queue -----------------------------------------------------------------------------------------------------

    def _queue(self, work: Callable[[], None]) -> Future[None]:
        future = self._thread.submit(self._unless_stopping, work)
        future.add_done_callback(_report)
        return future

    def _unless_stopping(self, work: Callable[[], None]) -> None:
        try:
            work()
        except FieldopsError as error:
            if not self._device.stopping:
                logging.getLogger("fieldops.agent").warning("%s: %s", error.reason, error)

    def _submit(self, step_id: str, work: Callable[[StepRecord, HeldStep], None]) -> Future[None]:
        future = self._thread.submit(self._guarded, step_id, work)
        future.add_done_callback(partial(self._report_step, step_id))
        return future

    def _guarded(self, step_id: str, work: Callable[[StepRecord, HeldStep], None]) -> None:
        record, held = self._device.registry.record(step_id), self._device.registry.held(step_id)
        if record is None or held is None or record.ended:
            return
        if isinstance(held.step, Revert):
            self._hurry.clear()
        try:
            work(record, held)
        except FieldopsError as error:
            if self._device.stopping:
                return
            self._fail(error, self._device.registry.record(step_id) or record, held)

    def _fail(self, error: FieldopsError, record: StepRecord, held: HeldStep) -> None:
        device, step = self._device, held.step
        slot = None
        if isinstance(step, Incoming):
            slot = self._staging.give_up(step, record.step_id, error.reason)
        elif isinstance(step, Activate | Revert) and not (error.reason == "superseded" and self._hurry.is_set()):
            # One that gives way to a revert leaves the slot to it: the way back is then what was active all along.
            slot = device.registry.slot(step.model)
            slot = advance(slot, "failed", now=device.now(), reason=error.reason) if slot and slot.state == "validating" else None
        model, version = getattr(step, "model", ""), getattr(step, "version", "")
        note = device.entry(held.actor, "failed", model, version, error.reason, error.message)
        self._end(ended(record, error, device.now()), slot, note)

    def _end(self, end: StepRecord, slot: Slot | None = None, note: JournalEntry | None = None) -> None:
        device = self._device
        try:
            device.save(slot=slot, record=end, note=note)
        except DeviceCannot as full:
            if full.reason != "disk_full":
                raise
            # Its laptop must not wait for ever, and the next one not be told that the device is busy.
            device.registry.owe(end, lambda change: write(change, slot, None, end, note))
            device.bell.ring()

    def _report_step(self, step_id: str, future: Future[None]) -> None:
        """A bug must end its step too, or the laptop would wait for ever."""
        _report(future)
        if future.cancelled() or future.exception() is None or self._device.stopping:
            return
        record = self._device.registry.record(step_id)
        if record is not None and not record.ended:
            message = f"a bug in the agent: {type(future.exception()).__name__}; see `fieldops logs`"
            broken = replace(record, state="failed", exit=1, reason="bug", message=message, next="report this", wanted=[])
            self._device.save(record=replace(broken, finished=self._device.now()))

    # --- steps ---------------------------------------------------------------------------------------------------------

    def _begin(self, record: StepRecord, held: HeldStep) -> None:
        device = self._device
        match held.step:
            case Enrol():
                enrol(device, record, held.step, held.laptop, held.actor)
            case Unenrol():
                unenrol(device, record, held.step, held.actor)
            case Stage() | RotateTrust() | Upgrade():
                self._staging.begin(record, held.step, held.actor)
            case Activate():
                self._activation.activate(record, held.step, held.actor)
            case Commit():
                self._activation.commit(record, held.step, held.actor)
            case Revert():
                self._shadows.leave(held.step.model)
                self._reverting.asked(record, held.step, held.actor)
            case Bench() | Prune() | SetTiers() | Recalibrate() | Arm() | Disarm():
                self.caring.take(record, held.step, held.actor)
            case KeepAgent():
                upgrading.keep_agent(device, record, held.step, held.actor)
            case Adopt():
                adopt(device, record, held.step, self._answering.slot(held.step.model), held.actor, self._hurry)

    def _shadow_over(self, record: StepRecord, held: HeldStep) -> None:
        if isinstance(held.step, Activate):
            self._activation.shadow_over(record, held.step, held.actor)

    def _metadata(self, files: dict[str, bytes], record: StepRecord, held: HeldStep) -> None:
        if not isinstance(held.step, Incoming) or record.phase != "metadata":
            return
        self._staging.metadata(record, held.step, files)
        again = self._device.registry.record(record.step_id)
        if again is not None and not again.wanted:
            self._staging.payload(again, held.step, held.actor)

    def _payload(self, record: StepRecord, held: HeldStep) -> None:
        if isinstance(held.step, Incoming) and record.phase == "payload":
            self._staging.payload(record, held.step, held.actor)

    # --- alone ---------------------------------------------------------------------------------------------------------

    def _alone(self, model: str, reason: str, detail: str) -> None:
        if model in self._unrecovered:
            self._recover_slot(model)
            return
        slot = self._device.registry.slot(model)
        on_trial = slot is not None and slot.state == "trial"
        on_probation = slot is not None and slot.state == "committed" and slot.last_good is not None
        if on_trial or (on_probation and reason != "trial_deadline"):
            self._reverting.revert(None, model, None, self._device.actor, reason, detail)
        elif slot is not None and slot.state == "reverting":  # its end could not be written: the disk was full
            self._reverting.revert(None, model, slot.target, self._device.actor, slot.reason)

    def _settle(self, model: str) -> None:
        device, slot = self._device, self._device.registry.slot(model)
        if slot is None or slot.state != "committed":
            return
        note = device.entry(device.actor, "settle", model, slot.active or "", "probation_over")
        device.save(slot=advance(slot, "settle", now=device.now(), reason="probation_over"), note=note)

    def _keep_house(self) -> None:
        device = self._device
        if device.registry.owes:
            device.save()
        keep_reserve(device.home)
        device.behind = False
        device.show(device.registry.slots())
        device.registry.prune(lambda lost: device.entry(device.actor, "prune", "", "", "journal_full", f"{lost} entries unread"))

    def _recover(self) -> None:
        for slot in self._device.registry.slots():  # each alone: one that fails must not keep the others silent
            self._unless_stopping(partial(self._recover_slot, slot.model))
        self._unless_stopping(partial(upgrading.tell_return, self._device))
        for record in self._device.registry.running():
            if record.step_id in self._cut_off:
                self._recover_step(record)
        self._unless_stopping(partial(upgrading.remember_floor, self._device))
        self._staging.sweep()
        self._unless_stopping(self._keep_house)

    def _recover_slot(self, model: str) -> None:
        slot, first = self._answering.slot(model), model not in self._unrecovered
        try:
            self._go_on(slot, first=first)
        except DeviceCannot as full:
            if full.reason != "disk_full":
                raise
            if first:
                # What cannot be written down is not begun: what answered before it answers, until there is space.
                self._answering.answer(replace(slot, state=slot.rest))
                self._unrecovered.add(model)
            return
        self._unrecovered.discard(model)

    def _go_on(self, slot: Slot, *, first: bool) -> None:
        """first: nothing answers yet."""
        device, model = self._device, slot.model
        found = on_start(slot, device.boot_id, device.monotonic())
        if found is None:
            if slot.probation is not None and slot.probation.boot_id != device.boot_id:
                # How long the device was off is not known: the probation begins again.
                until = device.monotonic() + device.config.probation_s
                device.save(slot=replace(slot, probation=Trial(boot_id=device.boot_id, deadline=until, attempts=1)))
            if first:
                self._answering.answer(slot)
            return
        event, reason = found
        if event == "revert":
            if first:  # something answers while the way back is checked
                self._answering.answer(replace(slot, state="reverted"))
            self._reverting.revert(None, model, slot.target, device.actor, reason)
            return
        trial = replace(slot.trial, attempts=slot.trial.attempts - 1) if slot.trial and event == "resume" else None
        version = slot.candidate or ""
        slot = advance(slot, event, now=device.now(), reason=reason, trial=trial)
        device.save(slot=slot, note=device.entry(device.actor, event, model, version, reason))
        if (first or slot.state == "trial") and not self._answering.answer(slot) and slot.state == "trial":
            self._reverting.revert(None, model, None, device.actor, "trial_load_failed")

    def _recover_step(self, record: StepRecord) -> None:
        """A step cut off by the restart: what waits for the laptop waits on, the rest is told as it turned out."""
        device, held = self._device, self._device.registry.held(record.step_id)
        if held is None or (isinstance(held.step, Incoming) and record.phase in WAITING):
            return
        if isinstance(held.step, Upgrade) and upgrading.recover(device, record, held.step):
            return
        if self._happened(record, held):
            self._end(replace(record, state="done", message="finished before a restart", wanted=[], finished=device.now()))
            return
        error = DeviceCannot(
            "the agent started again in the middle of this step", reason="interrupted", next_step="run the same command again"
        )
        self._fail(error, record, held)

    def _happened(self, record: StepRecord, held: HeldStep) -> bool:
        match held.step:
            case Activate(model=model, version=version):
                slot = self._device.registry.slot(model)
                return slot is not None and slot.state == "trial" and slot.candidate == version
            case Commit(model=model, version=version):
                slot = self._device.registry.slot(model)
                return slot is not None and slot.active == version
            case Revert(model=model):
                slot = self._device.registry.slot(model)
                return slot is not None and slot.state == "reverted" and record.phase == "reverting"
            case KeepAgent():
                return upgrading.kept(self._device, held.step)
            case Enrol():
                return self._device.registry.laptop(held.laptop) is not None
            case Unenrol(laptop=laptop):
                return self._device.registry.laptop(laptop) is None
            case _:
                return False

    def overdue(self) -> list[tuple[str, str]]:
        """(model, what) of trials and probations whose time is over, reverts to be ended, and starts that found no space on
        the disk: trial, probation, reverting, start.
        """
        found = [(model, "start") for model in self._unrecovered]
        for slot in self._device.registry.slots():
            now = self._device.monotonic()
            if slot.state == "trial" and slot.trial and expired(slot.trial, self._device.boot_id, now):
                found.append((slot.model, "trial"))
            if slot.state == "committed" and slot.probation and now >= slot.probation.deadline:
                found.append((slot.model, "probation"))
            if slot.state == "reverting":  # one under way is through before another is begun
                found.append((slot.model, "reverting"))
        return found


def _report(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        trace = "".join(traceback.format_exception(error))
        logging.getLogger("fieldops.agent").error("%s", trace)

"""Taking a step in: what is known already, what must give way to it, and the commit before which nothing happens."""

from __future__ import annotations

import threading

import msgspec
from msgspec.structs import replace

from fieldops.agent.access import Accepted, Access
from fieldops.agent.device import Device
from fieldops.agent.lease import Lease
from fieldops.agent.shelf import Shelf
from fieldops.agent.transaction import WAITING, Transaction
from fieldops.edges.registry import Change, HeldStep
from fieldops.errors import DeviceCannot, FieldopsError, PolicyRefused
from fieldops.steps import Revert, Step, kind_of
from fieldops.wire import StepRecord


class Admission:
    """Blocking; the server calls it off its event loop."""

    def __init__(self, device: Device, transaction: Transaction, lease: Lease) -> None:
        self.access = Access(device, lease)
        self._device = device
        self._transaction = transaction
        self._lease = lease
        self._lock = threading.Lock()

    def take(self, data: bytes, *, near: bool) -> StepRecord:
        """The record of the step in this envelope: new, or the one there is. Raises what access says."""
        opened = self.access.open(data, near=near)
        with self._lock:
            known = self._device.registry.record(opened.request.step_id)
            if known is not None:
                return self.shown(known)
            try:
                accepted = self.access.decide(opened)
            except PolicyRefused as error:
                step = opened.request.step
                name = getattr(step, "model", "")
                note = self._device.entry(f"laptop:{opened.laptop}", "refused", name, "", kind_of(step), error.message)
                self._device.save(note=note)
                raise
            self._make_room(accepted)
            return self._journal(accepted)

    def take_local(self, step: Step, user: str, step_id: str) -> StepRecord:
        """A step asked for at the device itself, over local.sock."""
        with self._lock:
            held = HeldStep(step=step, laptop="", actor=f"local:{user}", envelope=b"")
            record = StepRecord(step_id=step_id, kind=kind_of(step), state="running", started=self._device.now())
            self._device.save(also=[lambda change: change.step(record, held)])
        self._transaction.begin(step_id, step)
        return record

    def take_alone(self, step: Step, step_id: str) -> None:
        """A step of the device itself, when nothing else is under way; its owner asks again otherwise."""
        with self._lock:
            if self._device.registry.running():
                return
            held = HeldStep(step=step, laptop="", actor=self._device.actor, envelope=b"")
            record = StepRecord(step_id=step_id, kind=kind_of(step), state="running", started=self._device.now())
            self._device.save(also=[lambda change: change.step(record, held)])
        self._transaction.begin(step_id, step)

    def _make_room(self, accepted: Accepted) -> None:
        """One change at a time: a step that only waits for its laptop gives way, one that works does not."""
        step = accepted.request.step
        preempts = isinstance(step, Revert) and step.to is None
        for record in self._device.registry.running():
            held = self._device.registry.held(record.step_id)
            if record.phase in WAITING and held is not None:
                error = DeviceCannot("given up for a newer step", reason="superseded", next_step="run the command again")
                self._transaction.give_up(record.step_id, error).result(30)
            elif not preempts:
                raise DeviceCannot(
                    f"{record.kind} of laptop {held.laptop[:8] if held else '?'} is under way ({record.phase or 'beginning'})",
                    reason="busy",
                    next_step="wait until it is done, then try again",
                )

    def _journal(self, accepted: Accepted) -> StepRecord:
        device, request, step = self._device, accepted.request, accepted.request.step
        record = StepRecord(
            step_id=request.step_id,
            kind=kind_of(step),
            state="running",
            cosignature=accepted.cosignature,
            cosigned_size=accepted.checkpoint.size,
            started=device.now(),
        )
        held = HeldStep(step=step, laptop=accepted.laptop, actor=str(accepted.actor), envelope=accepted.envelope)

        def keep(change: Change) -> None:
            change.step(record, held)
            known = device.registry.log(accepted.checkpoint.origin)
            if known is None or accepted.checkpoint.size > known[0]:
                change.log(accepted.checkpoint.origin, accepted.checkpoint.size, accepted.checkpoint.root)

        name, version = getattr(step, "model", ""), getattr(step, "version", "")
        note = device.entry(str(accepted.actor), "accept", name, version, kind_of(step), accepted.decision.rule)
        device.save(note=note, also=[keep])
        self._lease.touch(accepted.laptop)
        self._transaction.begin(request.step_id, step)
        return record

    def shown(self, record: StepRecord) -> StepRecord:
        """The record as of now: while payload comes in, with the bytes that are here."""
        if record.ended or record.phase != "payload":
            return record
        shelf = Shelf(self._device.home)
        wanted = [msgspec.structs.replace(blob, have=shelf.have(blob.sha256)) for blob in record.wanted]
        grown = sum(new.have - old.have for new, old in zip(wanted, record.wanted, strict=True))
        return replace(record, wanted=wanted, done_bytes=record.done_bytes + grown)

    def sign_of_life(self, step_id: str) -> None:
        held = self._device.registry.held(step_id)
        if held is not None and held.laptop:
            self._lease.touch(held.laptop)

    def forget_silent(self) -> None:
        """Give up steps whose laptop has been silent until its lease ran out."""
        if self._lease.held() is not None or not self._device.registry.running():
            return
        gone: FieldopsError = DeviceCannot(
            "the laptop has been silent for too long", reason="laptop_gone", next_step="run the command again; parts are kept"
        )
        for record in self._device.registry.running():
            if record.phase in WAITING:
                self._transaction.give_up(record.step_id, gone)

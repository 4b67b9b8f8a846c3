"""The one door for changes: decide by policy -> intent durably in the log -> do -> outcome durably.

No intent on disk, no change. A grant exists only in here, for exactly one step. What happened after a lost link is read
from the device before it is written down; where it cannot be read the outcome is `unknown`, never `failed`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, replace

import msgspec

from fieldops.audit.entry import Draft, Entry, Result, Status, Subject
from fieldops.deadline import Deadline
from fieldops.errors import Cancelled, FieldopsError, LinkFault, NeedsPerson, PolicyRefused, StorageFault
from fieldops.fleet import DeviceId
from fieldops.operations.evidence import try_collect
from fieldops.policy import Decision, PolicyDocument, may
from fieldops.ports import UNVERIFIED, Clock, Device, InventoryFile, Journal, OnProgress, Payload, Signer, Technician
from fieldops.steps import Activate, Change, Stage, Step, TrustHostKey, describe, describe_change, kind_of, subject_of
from fieldops.wire import (
    STEP_PAYLOAD_TYPE,
    VERSION,
    Challenge,
    Session,
    StepRecord,
    StepRequest,
    b64,
    encode,
    enveloped,
    step_error,
    unb64,
)


@dataclass(frozen=True, slots=True)
class Words:
    """What the person gave for the record."""

    reason: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class _Grant:
    """Made below, after the intent is on disk, and nowhere else."""

    step_id: str
    signer: Signer
    journal: Journal
    session: Session | None

    def envelope(self, device: DeviceId, step: Step, challenge: Challenge) -> bytes:
        # Another process may append between these two reads; a proof to another size than the note's would not verify.
        note = self.journal.checkpoint()
        proof = self.journal.consistency(challenge.known_size)
        while (again := self.journal.checkpoint()) != note:
            note, proof = again, self.journal.consistency(challenge.known_size)
        request = StepRequest(
            v=VERSION,
            step_id=self.step_id,
            device=device,
            nonce=challenge.nonce,
            checkpoint=note,
            consistency=[b64(node) for node in proof],
            session=self.session,
            step=step,
        )
        return enveloped(STEP_PAYLOAD_TYPE, encode(request), self.signer.laptop, self.signer.sign)


def _changed(change: Change) -> Subject:
    """from, to: of a host key, whose fingerprints are what a person compared."""
    name = describe_change(change)
    if not isinstance(change, TrustHostKey):
        return Subject(kind="inventory", name=name)
    shown = base64.b64encode(hashlib.sha256(unb64(change.key)).digest()).decode("ascii").rstrip("=")
    return Subject(kind="inventory", name=name, from_=change.replaces, to=f"SHA256:{shown}")


@dataclass(frozen=True, slots=True)
class Gate:
    """journal, signer and technician of this laptop; policy is what its trust state says now."""

    journal: Journal
    signer: Signer
    technician: Technician
    policy: PolicyDocument
    clock: Clock

    def with_policy(self, policy: PolicyDocument) -> Gate:
        """The same gate after a refresh brought another policy."""
        return replace(self, policy=policy)

    def decide(self, step: Step) -> Decision:
        """What the gate would say now; the dry run prints it."""
        return may(self.policy, self.technician.actor(), step, self.clock.now(), laptop=self.signer.laptop)

    def perform(
        self,
        device: Device,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        words: Words = Words(),
        progress: OnProgress | None = None,
    ) -> StepRecord:
        """Make one change. Returns the record of a step that is done.

        Raises PolicyRefused (nothing was sent), StorageFault (nothing was sent), or what the device or the link said;
        in every case but the StorageFault of the intent itself the log holds what happened.
        """
        actor = self.technician.actor()
        device_id = device.entry.id or ""
        base = Draft(
            actor=str(actor),
            phase="intent",
            act=kind_of(step),
            device=device_id,
            subject=_subject(step),
            reason=words.reason,
            ticket=words.ticket,
        )
        if device.link.endswith(UNVERIFIED):
            nobody = Decision(False, "unverified_host", "nothing vouches for the host's key")
            self._refused(base, nobody)
            raise LinkFault(
                f"{describe(step)}: {nobody.text}, so it may be looked at and not changed",
                reason="host_key_unknown",
                next_step=f"compare its fingerprint with the label on the device: fieldops device trust {device.entry.name}",
                device=device.entry.name,
            )
        decision = self.decide(step)
        if not decision.allowed:
            self._refused(base, decision)
            raise PolicyRefused(
                f"{describe(step)}: {decision.text} (rule {decision.rule})",
                reason="policy",
                next_step="ask somebody whose role allows it, or sign in with your SSH key (`[person] key` in config.toml)",
                device=device.entry.name,
            )
        try_collect(self.journal, device, str(actor), deadline)  # what the device did alone comes first
        session = self.technician.proof(self.journal, self.clock.now())
        intent = self.journal.append(_with(base, decision=decision.rule))
        grant = _Grant(step_id(self.journal.log, intent.seq), self.signer, self.journal, session)
        try:
            record = device.apply(grant, step, deadline, payload=payload, progress=progress)
        except FieldopsError as error:
            status: Status = (
                "unknown" if isinstance(error, LinkFault | Cancelled) and error.reason != "not_enrolled" else "failed"
            )
            self._settle(base, intent, Result(status=status, code=error.exit_code, reason=error.reason, detail=error.message))
            raise (_cut_short(error, step) if isinstance(error, Cancelled) else error).about(device.entry.name) from None
        except BaseException as error:  # a bug or Ctrl+C: the log must still say that nobody knows
            self._settle(base, intent, Result(status="unknown", code=1, reason=type(error).__name__))
            raise
        self._settle(base, intent, result_of(record))
        if record.cosignature:
            # a device whose agent this very step installed has another id now than at the intent
            self.journal.note_cosignature(
                f"device:{device.entry.id or device_id}", record.cosigned_size or intent.seq, record.cosignature
            )
        failure = step_error(record, device.entry.name)
        if failure is not None:
            try_collect(self.journal, device, str(actor), deadline)
            raise failure
        return record

    def change(self, inventory: InventoryFile, change: Change, *, words: Words = Words(), device: str = "") -> None:
        """Change the laptop's own inventory or known hosts. Raises StorageFault, UsageFault."""
        actor = self.technician.actor()
        base = Draft(
            actor=str(actor),
            phase="intent",
            act=type(change).__name__,
            device=device,
            subject=_changed(change),
            reason=words.reason,
            ticket=words.ticket,
            decision="laptop.own",
        )
        intent = self.journal.append(base)
        grant = _Grant(step_id(self.journal.log, intent.seq), self.signer, self.journal, None)
        try:
            inventory.apply(grant, change)
        except FieldopsError as error:
            self._settle(base, intent, Result(status="failed", code=error.exit_code, reason=error.reason, detail=error.message))
            raise
        self._settle(base, intent, Result(status="done"))

    def note(
        self, act: str, *, device: str = "", subject: Subject | None = None, result: Result | None = None, words: Words = Words()
    ) -> Entry:
        """Record what changed nothing: a refusal of a stick, a dry run, evidence a device gave."""
        return self.journal.append(
            Draft(
                actor=str(self.technician.actor()),
                phase="note",
                act=act,
                device=device,
                subject=subject,
                reason=words.reason,
                ticket=words.ticket,
                result=result,
            )
        )

    def dry_run(self, device: Device, step: Step, *, words: Words = Words()) -> str:
        """The line a person reads; recorded as a note. Nothing is sent."""
        decision = self.decide(step)
        self.note(
            kind_of(step),
            device=device.entry.id or "",
            subject=_subject(step),
            result=Result(status="dry_run", reason=decision.rule),
            words=words,
        )
        return f"{describe(step)}{'' if decision.allowed else f'  [refused: {decision.text}]'}"

    def settle_open(self) -> list[Entry]:
        """Close intents whose process is gone: `unknown`. Returns what was written."""
        interrupted = Result(status="unknown", reason="interrupted", detail="the process that began this ended")
        return [
            self.journal.append(
                Draft(
                    actor=intent.actor,
                    phase="outcome",
                    act=intent.act,
                    of=intent.seq,
                    device=intent.device,
                    subject=intent.subject,
                    result=interrupted,
                )
            )
            for intent in self.journal.open_intents()
        ]

    def _refused(self, base: Draft, decision: Decision) -> None:
        result = Result(status="refused", code=PolicyRefused.exit_code, reason=decision.rule, detail=decision.text)
        self.journal.append(_with(base, phase="note", decision=decision.rule, result=result))

    def _settle(self, base: Draft, intent: Entry, result: Result) -> None:
        self.journal.append(_with(base, phase="outcome", of=intent.seq, result=result))


def _cut_short(error: Cancelled, step: Step) -> Cancelled:
    """What is left of a change that a person stopped: nobody here knows how far the device came."""
    match step:
        case Stage():
            left = "what was copied stays there, and is gone on with"
        case Activate():
            left = "a trial that has begun ends in a revert by itself"
        case _:
            left = "the device may have done it"
    return Cancelled(
        f"cancelled in the middle of: {describe(step)}; {left}. The record says unknown",
        next_step="see what it came to (`fieldops models DEVICE`), then run the same command again",
        device=error.device,
    )


def step_id(log: str, seq: int) -> str:
    """`<laptop id>.<epoch>.<seq>` from the log's origin `fieldops/<laptop id>/<epoch>`."""
    match = re.fullmatch(r"fieldops/([a-z2-7]{52})/(\d+)", log)
    if not match:
        raise StorageFault(f"{log!r} is no log origin", reason="corrupt", next_step="run `fieldops audit verify`")
    return f"{match[1]}.{match[2]}.{seq}"


def result_of(record: StepRecord) -> Result:
    """The device's record as the log's words."""
    states: dict[str, Status] = {
        "done": "done",
        "failed": "failed",
        "refused": "refused",
        "reverted": "reverted",
        "needs_human": "needs_human",
        "running": "unknown",
    }
    code = NeedsPerson.exit_code if record.state == "needs_human" else record.exit
    return Result(status=states[record.state], code=code, reason=record.reason, detail=record.message)


def _subject(step: Step) -> Subject:
    kind, name = subject_of(step)
    to = getattr(step, "version", None) or getattr(step, "to", None) or ""
    digest = getattr(step, "manifest_sha256", "") or getattr(step, "kit_sha256", "")
    return Subject(kind=kind, name=name, to=to, digest=digest)


def _with(draft: Draft, **changes: object) -> Draft:
    return msgspec.structs.replace(draft, **changes)

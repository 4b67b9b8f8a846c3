"""What a visit leaves behind: everything that a device knows and nobody may hear of for weeks, brought along before one goes.

`leave` asks one device; `close` writes what all of them said into one folder and one entry of the log. Both may be repeated:
telemetry and acts go on from where they stood, and what is exported is all that is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from fieldops.audit.entry import Result, Subject
from fieldops.deadline import Deadline
from fieldops.errors import CheckFailed, DeviceCannot, FieldopsError, StorageFault, StoreFault
from fieldops.operations import evidence, sync, telemetry
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Clock, Device
from fieldops.wire import ErrorDoc, ModelsReport, SealedPage, SlotStatus, encode, error_doc

_IN_WORDS = {
    "staging": "is being staged",
    "staged": "is staged and not activated",
    "validating": "is being validated",
    "committed": "is on probation: the device may still take it back by itself",
    "reverting": "is being taken back",
    "needs_human": "needs a person: last-good itself is damaged",
}


class ExportedSamples(Struct, frozen=True, kw_only=True):
    """Kept inputs of one model, sealed as they lay on the device. left_out: sealed before the policy named who may open them."""

    model: str
    samples: int
    left_out: int
    file: str = ""  # "": there were none to export


class LeftBehind(Struct, frozen=True, kw_only=True):
    """One device. pending: what is not over there, a sentence each. lost: telemetry that was overwritten before this visit.

    bytes_by_feature: of the telemetry pulled now. error: what came to an end in the middle; the rest stands as it was reached.
    """

    device: str
    id: str = ""
    acts_copied: int = 0
    records: int = 0
    lost: int = 0
    set_aside: int = 0
    bytes_by_feature: dict[str, int] = {}
    samples: list[ExportedSamples] = []
    models: list[str] = []
    pending: list[str] = []
    error: ErrorDoc | None = None


class VisitReport(Struct, frozen=True, kw_only=True, tag_field="schema", tag="fieldops.visit/v1"):
    """confirmed, queued: entries the store gave a receipt for, and others; telemetry_queued: records.

    root: hex, of the log with the visit's own entry in it. sync_error: why bringing it to the store was tried in vain.
    """

    folder: str
    closed: float
    laptop: str
    actor: str
    reason: str
    ticket: str
    devices: list[LeftBehind]
    log_size: int
    root: str
    confirmed: int
    queued: int
    oldest_queued: float | None
    telemetry_queued: int
    warnings: list[str]
    sync_error: ErrorDoc | None = None


@runtime_checkable
class GivesSealed(Protocol):
    """A device with an agent that seals for others."""

    def sealed_samples(self, model: str, after: int, deadline: Deadline) -> SealedPage: ...


class Folder(Protocol):
    """The visit's own folder. Raises StorageFault."""

    @property
    def path(self) -> Path: ...

    def write(self, name: str, data: bytes) -> Path:
        """Durable, readable by this person alone."""


def leave(gate: Gate, device: Device, shelf: telemetry.Shelf, folder: Folder, clock: Clock, deadline: Deadline) -> LeftBehind:
    """Take along what this device knows. A fault ends it where it stands and is part of what it returns; StorageFault rises."""
    name = device.entry.name
    found = LeftBehind(device=name)
    try:
        hello = device.hello(deadline)
        report = device.models(deadline)
        found = msgspec.structs.replace(
            found,
            id=hello.device,
            models=[_answering(slot) for slot in report.slots],
            pending=pending(report, gate.signer.laptop),
        )
        copied = evidence.collect(gate.journal, device, str(gate.technician.actor()), deadline)
        found = msgspec.structs.replace(found, acts_copied=copied)
        pulled = telemetry.pull(device, shelf, clock, deadline)
        found = msgspec.structs.replace(
            found,
            records=pulled.records,
            lost=pulled.lost,
            set_aside=pulled.set_aside,
            bytes_by_feature=dict(pulled.sizes),
        )
        for slot in report.slots:
            found = msgspec.structs.replace(found, samples=[*found.samples, _export(device, slot.model, folder, deadline)])
    except StorageFault:
        raise
    except FieldopsError as error:
        if error.reason == "no_agent":  # bare: nothing counts, keeps or acts there
            return msgspec.structs.replace(found, pending=["has no agent, so there is nothing to take along"])
        return msgspec.structs.replace(found, error=error_doc(error.about(name)))
    return found


def pending(report: ModelsReport, laptop: str) -> list[str]:
    """What is not over, a sentence each. laptop: the one that asks, whose own lease ends with it."""
    found: list[str] = []
    for slot in report.slots:
        version = slot.candidate or slot.active or "-"
        if slot.state == "trial":
            left = f", {slot.deadline_s:.0f} s left" if slot.deadline_s is not None else ""
            found.append(f"{slot.model} {version} is on trial{left}: not committed, it goes back by itself")
        elif slot.state in _IN_WORDS and slot.armed_from is None:
            found.append(f"{slot.model} {version} {_IN_WORDS[slot.state]}")
        if slot.armed_from is not None:
            found.append(
                f"{slot.model} {version} is armed: the device tries it alone from {utc(slot.armed_from)} to {utc(slot.armed_until)}"
            )
    if report.lease_holder not in {None, laptop}:
        found.append(f"laptop {str(report.lease_holder)[:8]} holds the device for changes")
    return found


def _answering(slot: SlotStatus) -> str:
    return f"{slot.model} {slot.active or '-'} ({slot.state}; last-good {slot.last_good or '-'})"


def _export(device: Device, model: str, folder: Folder, deadline: Deadline) -> ExportedSamples:
    """All that the device keeps of this model, a line each, still sealed."""
    if not isinstance(device, GivesSealed):
        raise DeviceCannot("there is no agent on it", reason="no_agent", next_step="enrol it: `fieldops device enrol`")
    lines: list[bytes] = []
    after = left_out = 0
    while True:
        page = device.sealed_samples(model, after, deadline)
        lines += [encode(sample) for sample in page.sealed]
        left_out += page.left_out
        if page.newest <= after:
            break
        after = page.newest
    file = folder.write(f"{device.entry.name}-{model}.samples.jsonl", b"\n".join(lines) + b"\n") if lines else ""
    return ExportedSamples(model=model, samples=len(lines), left_out=left_out, file=str(file))


def close(
    gate: Gate,
    lefts: Sequence[LeftBehind],
    shelf: telemetry.Shelf,
    folder: Folder,
    clock: Clock,
    words: Words = Words(),
    push: Callable[[], object] | None = None,
) -> VisitReport:
    """Note in the log that, and what, this visit left; bring it to the store where `push` is given; write report.json and
    report.txt. Raises StorageFault.

    The note names the report's digest over everything but the log's own state, which the note itself changes. Power gone in
    between: a folder without a note; closing again makes both anew.
    """
    devices = list(lefts)
    subject = Subject(kind="visit", name=folder.path.name, digest=hashlib.sha256(encode(devices)).hexdigest())
    failed = [left for left in devices if left.error is not None]
    gate.note(
        "visit.close",
        subject=subject,
        result=Result(
            status="failed" if failed else "done",
            detail=f"{len(devices)} devices, {sum(left.records for left in devices)} records, "
            f"{sum(left.acts_copied for left in devices)} acts of their own; {len(failed)} not reached to the end",
        ),
        words=words,
    )
    refused: FieldopsError | None = None
    if push is not None:
        try:
            push()
        except (StoreFault, CheckFailed) as error:
            refused = error
    state, queue = sync.status(gate.journal), shelf.queue()
    report = VisitReport(
        folder=str(folder.path),
        closed=clock.now(),
        laptop=gate.signer.laptop,
        actor=str(gate.technician.actor()),
        reason=words.reason,
        ticket=words.ticket,
        devices=devices,
        log_size=state.size,
        root=gate.journal.root().hex(),
        confirmed=state.acked,
        queued=state.queued,
        oldest_queued=state.oldest,
        telemetry_queued=queue.records,
        warnings=[*_warnings(devices), *([f"not synced: {refused.message}"] if refused is not None else [])],
        sync_error=error_doc(refused) if refused is not None else None,
    )
    folder.write("report.txt", text_of(report).encode("utf-8"))
    folder.write("report.json", msgspec.json.format(encode(report), indent=1) + b"\n")
    return report


def _warnings(devices: Sequence[LeftBehind]) -> list[str]:
    found: list[str] = []
    for left in devices:
        told = [*left.pending]
        if left.lost:
            told.append(f"{left.lost} records of telemetry were overwritten before this visit")
        if left.set_aside:
            told.append(f"{left.set_aside} damaged telemetry files so far; what they held is gone")
        told += [
            f"{each.left_out} kept inputs of {each.model} stay there: the policy named nobody who may open them"
            for each in left.samples
            if each.left_out
        ]
        if left.error is not None:
            told.append(f"not reached to the end: {left.error.message}")
        found += [f"{left.device}: {sentence}" for sentence in told]
    return found


def text_of(report: VisitReport) -> str:
    """The report for people."""
    lines = [
        f"Visit closed {utc(report.closed)} by {report.actor}",
        *(f"{name}: {value}" for name, value in (("Reason", report.reason), ("Ticket", report.ticket)) if value),
        f"Laptop {report.laptop}",
        "",
        "Warnings" if report.warnings else "Nothing is left to be done on the devices.",
        *(f"  {warning}" for warning in report.warnings),
    ]
    for left in report.devices:
        lines += ["", f"{left.device}  {left.id or 'nothing was reached'}"]
        if not left.id:
            continue
        lines += [
            *(f"  model      {model}" for model in left.models),
            f"  evidence   {left.acts_copied} acts of its own copied into the log",
            f"  telemetry  {left.records} records{_by_feature(left)}",
            *(
                f"  inputs     {each.samples} of {each.model}, sealed{f', in {each.file}' * bool(each.file)}"
                for each in left.samples
            ),
        ]
    oldest = f", the oldest of {utc(report.oldest_queued)}" if report.oldest_queued is not None else ""
    lines += [
        "",
        f"Log        {report.log_size} entries, root {report.root}",
        f"Receipt    of the store for {report.confirmed} entries",
        f"To sync    {report.queued} entries{oldest}; {report.telemetry_queued} records of telemetry",
    ]
    return "\n".join(lines) + "\n"


def _by_feature(left: LeftBehind) -> str:
    if not left.records:
        return ""
    return " (" + ", ".join(f"{name} {size} B" for name, size in sorted(left.bytes_by_feature.items())) + ")"


def utc(seconds: float | None) -> str:
    """To the minute; a device's clock may say anything."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ") if seconds is not None else "-"
    except (ValueError, OverflowError, OSError):
        return "no time"


def unreached(name: str, error: FieldopsError) -> LeftBehind:
    return LeftBehind(device=name, error=error_doc(error))

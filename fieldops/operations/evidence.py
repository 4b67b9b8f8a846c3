"""What a device did alone, copied into the log of the laptop that visits it: reverts, recoveries, what its health decided.

The actor of such an entry is the device. How far its journal has been read stands in the log itself, so that another
process, or the same laptop next month, goes on from there. The gate copies before every change and after one that failed,
`visit close` at the end.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from fieldops.audit.entry import Draft, Result, Subject
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, LinkFault
from fieldops.ports import Device, Journal

READ = "device.journal"
UNNOTED = 500  # entries of a device's journal that may be read again at each visit before the log says how far it was read


def collect(journal: Journal, device: Device, reader: str, deadline: Deadline) -> int:
    """How many autonomous acts were new. reader: the actor who visits. Raises LinkFault, StorageFault; DeviceCannot without an agent.

    A crash in the middle copies some again at the next visit; none is ever left out.
    """
    identity = device.entry.id or device.hello(deadline).device
    start = after = read_so_far(journal, identity)
    copied = 0
    while True:
        page = device.journal(after, deadline)
        for act in page.entries:
            after = max(after, act.seq)
            if not act.actor.startswith("device:"):
                continue
            copied += 1
            journal.append(
                Draft(
                    actor=act.actor,
                    phase="note",
                    act=f"device.{act.action}",
                    device=identity,
                    subject=Subject(kind="model" if act.model else "device", name=act.model, to=act.version),
                    reason=act.reason,
                    result=Result(
                        status="done",
                        reason=act.reason,
                        detail=f"{act.detail} (entry {act.seq} of its journal, {_instant(act.time)})".strip(),
                    ),
                )
            )
        if not page.entries or after >= page.newest:
            break
    if copied or after - start > UNNOTED:
        journal.append(
            Draft(
                actor=reader,
                phase="note",
                act=READ,
                device=identity,
                subject=Subject(kind="journal", from_=str(start), to=str(after)),
                result=Result(status="done", detail=f"{copied} acts of its own"),
            )
        )
    return copied


def try_collect(journal: Journal, device: Device, reader: str, deadline: Deadline) -> None:
    """Where the device cannot be asked now, the next change or visit copies it. Raises StorageFault alone."""
    with suppress(LinkFault, DeviceCannot):
        collect(journal, device, reader, deadline)


def _instant(seconds: float) -> str:
    """By the device's clock, which may say anything."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ by its clock")
    except (ValueError, OverflowError, OSError):
        return "at no time"


def read_so_far(journal: Journal, device: str) -> int:
    """Highest sequence number of that device's journal that the log holds; 0: none."""
    entry = journal.newest(READ, device)
    return int(entry.subject.to) if entry is not None and entry.subject is not None and entry.subject.to.isdigit() else 0

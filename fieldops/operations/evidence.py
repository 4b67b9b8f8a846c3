"""What a device did alone, copied into the log of the laptop that visits it: reverts, recoveries, what its health decided.

The actor of such an entry is the device. How far its journal has been read stands in the log itself, so that another
process, or the same laptop next month, goes on from there.
"""

from __future__ import annotations

from fieldops.audit.entry import Draft, Result, Subject
from fieldops.deadline import Deadline
from fieldops.ports import Device, Journal

READ = "device.journal"
PAGE = 1000


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
                    subject=Subject(kind="model", name=act.model, to=act.version),
                    reason=act.reason,
                    result=Result(
                        status="done", reason=act.reason, detail=f"{act.detail} (entry {act.seq} of its journal)".strip()
                    ),
                )
            )
        if not page.entries or after >= page.newest:
            break
    if copied:
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


def read_so_far(journal: Journal, device: str) -> int:
    """Highest sequence number of that device's journal that the log holds; 0: none."""
    upper = journal.size()
    while upper > 0:
        lower = max(0, upper - PAGE)
        for entry, _ in reversed(journal.read(lower, upper - lower)):
            if entry.act == READ and entry.device == device and entry.subject is not None and entry.subject.to.isdigit():
                return int(entry.subject.to)
        upper = lower
    return 0

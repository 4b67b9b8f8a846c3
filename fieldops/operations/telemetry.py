"""What devices counted, on its way: pulled to the laptop behind a cursor, passed on to the central store, gaps told.

Each step can break off anywhere and be repeated: the cursor moves with what it stands for, and the store takes a number once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import msgspec

from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot
from fieldops.ports import Clock, Cursor, Device, OnProgress, Progress, Queue, Store
from fieldops.wire import TelemetryGap, TelemetryPage, TelemetryPart, TelemetryRecord, encode

PART_BYTES = 64 << 10
PUSH_BYTES = 128 << 10  # base64 and envelope come to less than what a store takes


@dataclass(slots=True)
class Pulled:
    """lost: numbers that the device did not have any more. sizes: bytes by feature. set_aside: damaged files there so far."""

    records: int = 0
    lost: int = 0
    set_aside: int = 0
    new_ring: bool = False
    sizes: Counter[str] = field(default_factory=Counter)
    newest: list[TelemetryRecord] = field(default_factory=list)  # of the last page


@dataclass(frozen=True, slots=True)
class Brought:
    records: int
    duplicate: int


@runtime_checkable
class KeepsTelemetry(Protocol):
    """A device with an agent."""

    def telemetry(self, after: int, deadline: Deadline, ring: str = "") -> TelemetryPage: ...


class Shelf(Protocol):
    """The laptop's own store of parts; bounded. Raises StorageFault."""

    def cursor(self, device: str) -> Cursor:
        """Cursor("", 0) before the first pull."""

    def keep(self, device: str, parts: list[TelemetryPart], cursor: Cursor, set_aside: int, now: float) -> None:
        """Durable, parts and cursor together, when it returns."""

    def unsent(self, most_bytes: int) -> list[tuple[int, TelemetryPart]]:
        """The oldest, with their numbers; at least one where there is any."""

    def sent(self, numbers: list[int]) -> None: ...

    def resend(self) -> None:
        """All that is still here: the store forgot what it had."""

    def queue(self) -> Queue: ...


def pull(device: Device, shelf: Shelf, clock: Clock, deadline: Deadline) -> Pulled:
    """All that is new on the device. Raises DeviceCannot (no_agent), LinkFault, StorageFault."""
    if not isinstance(device, KeepsTelemetry):
        raise DeviceCannot("there is no agent on it", reason="no_agent", next_step="enrol it: `fieldops device enrol`")
    identity = device.entry.id or device.hello(deadline).device
    at, pulled = shelf.cursor(identity), Pulled()
    while True:
        page = device.telemetry(at.seq, deadline, at.ring)
        if at.ring and not page.ring:
            return pulled  # it cannot read its ring at the moment
        after = at.seq if page.ring == at.ring else 0
        pulled.new_ring = pulled.new_ring or (at.ring not in {"", page.ring})
        gaps = list(holes(after, [record.seq for record in page.records], page.newest))
        upto = page.records[-1].seq if page.records else max(page.newest, after)
        at = Cursor(page.ring, upto)
        shelf.keep(identity, list(_parts(identity, page, gaps)), at, page.set_aside, clock.now())
        pulled.records += len(page.records)
        pulled.lost += sum(gap.upto - gap.after - 1 for gap in gaps)
        pulled.set_aside = page.set_aside
        pulled.sizes.update(page.sizes)
        if page.records:
            pulled.newest = page.records
        if upto >= page.newest:
            return pulled


def holes(after: int, seqs: Sequence[int], newest: int) -> Iterator[TelemetryGap]:
    """What is missing of after+1..: between the numbers that came, and behind them where none came at all."""
    for seq in seqs:
        if seq > after + 1:
            yield TelemetryGap(after=after, upto=seq, why="device")
        after = seq
    if not seqs and newest > after:
        yield TelemetryGap(after=after, upto=newest + 1, why="device")


def _parts(device: str, page: TelemetryPage, gaps: list[TelemetryGap]) -> Iterator[TelemetryPart]:
    """The gaps go with the first; each part is small enough for one push."""
    bodies: list[msgspec.Raw] = []
    size = 0
    for record in page.records:
        body = msgspec.Raw(encode(record))
        if bodies and size + len(body) > PART_BYTES:
            yield TelemetryPart(device=device, ring=page.ring, records=bodies, gaps=gaps, set_aside=page.set_aside)
            bodies, size, gaps = [], 0, []
        bodies.append(body)
        size += len(body)
    if bodies or gaps:
        yield TelemetryPart(device=device, ring=page.ring, records=bodies, gaps=gaps, set_aside=page.set_aside)


def bring(shelf: Shelf, store: Store, deadline: Deadline, progress: OnProgress | None = None) -> Brought:
    """Pass on what the store has not. The caller holds the `sync` lock of the home. Raises StoreFault: the rest stays queued."""
    records = duplicate = 0
    total = shelf.queue().records
    while parts := shelf.unsent(PUSH_BYTES):
        deadline.check("the central store")
        reply = store.bring([part for _, part in parts], deadline)
        shelf.sent([number for number, _ in parts])
        records += reply.accepted
        duplicate += reply.duplicate
        if progress:
            progress(Progress("telemetry", records + duplicate, max(total, records + duplicate)))
    return Brought(records, duplicate)

"""What devices counted, as laptops brought it: each record once, whichever laptop came first, and what is missing as a number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.edges import database
from fieldops.edges.keys import open_envelope
from fieldops.errors import FieldopsError, StoreFault
from fieldops.ports import Clock
from fieldops.telemetry import Sums
from fieldops.wire import (
    ENVELOPE_LIMIT,
    TELEMETRY_PAYLOAD_TYPE,
    VERSION,
    DeviceTelemetry,
    TelemetryGap,
    TelemetryPart,
    TelemetryPush,
    TelemetryRecord,
    TelemetryReply,
    decode_signed,
)

SUMMED = 100  # newest records of a ring that its line adds up
PAGE = 500


class _Place(msgspec.Struct, frozen=True):
    """All that the store itself must know of a record; the rest is kept as it came."""

    seq: int
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class _Ring:
    row: int
    device: str
    name: str
    set_aside: int
    laptop: str
    received: float


class Records:
    """Part of LogStore: same connection, same thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, store: str, clock: Clock) -> None:
        self._path = path
        self._connection = connection
        self._store = store
        self._clock = clock

    def take(self, data: bytes, laptop: str, public_key: bytes) -> TelemetryReply:
        """data: the envelope of POST /v1/telemetry, of this laptop. All of it or nothing. Raises StoreFault, StorageFault."""
        push = _opened(data, public_key)
        if push.store != self._store:
            raise _refused("the push is for another store", "other_store")
        accepted = sent = 0
        with database.faults(self._path), database.transaction(self._connection):
            for part in push.parts:
                accepted += self._take(part, laptop)
                sent += len(part.records)
        return TelemetryReply(accepted=accepted, duplicate=sent - accepted)

    def _take(self, part: TelemetryPart, laptop: str) -> int:
        now, execute = self._clock.now(), self._connection.execute
        rows = [(place.seq, place.ended, bytes(body)) for body, place in _placed(part)]
        ring = execute(
            "INSERT INTO ring (device, name, set_aside, laptop, received) VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, name)"
            " DO UPDATE SET set_aside = max(set_aside, excluded.set_aside), laptop = excluded.laptop,"
            " received = excluded.received RETURNING id",
            (part.device, part.ring, part.set_aside, laptop, now),
        ).fetchone()[0]
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?, ?)", [(ring, *row, laptop, now) for row in rows]
        )
        accepted = self._connection.total_changes - before
        self._connection.executemany(
            "INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?, ?)", [(ring, g.after, g.upto, g.why, laptop) for g in part.gaps]
        )
        return accepted

    # --- reading ---------------------------------------------------------------------------------------------------------

    def devices(self, limit: int = 100) -> list[DeviceTelemetry]:
        """The rings heard of last, newest first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT id, device, name, set_aside, laptop, received FROM ring ORDER BY received DESC, id DESC LIMIT ?", (limit,)
            ).fetchall()
            return [line for row in rows if (line := self._line(_Ring(*row))) is not None]

    def _line(self, ring: _Ring) -> DeviceTelemetry | None:
        execute = self._connection.execute
        count, newest, first = execute("SELECT count(*), max(seq), min(ended) FROM record WHERE ring = ?", (ring.row,)).fetchone()
        bodies = execute("SELECT body FROM record WHERE ring = ? ORDER BY seq DESC LIMIT ?", (ring.row, SUMMED))
        records = [record for (body,) in bodies if (record := _readable(body)) is not None]
        if not records:
            return None
        last, sums = records[0], Sums.of(records)
        return DeviceTelemetry(
            device=ring.device,
            ring=ring.name,
            records=count,
            missing=newest - count,
            lost=self._lost(ring.row),
            set_aside=ring.set_aside,
            newest=newest,
            first=first if first is not None else last.ended,
            last=last.ended,
            received=ring.received,
            laptop=ring.laptop,
            requests=sums.requests,
            failed=sums.failed,
            routes=dict(sums.counts["routes"]),
            drift=dict(sums.counts["drift"]),
            p50_ms=sums.latency_ms(0.50),
            p95_ms=sums.latency_ms(0.95),
            model=last.model,
            version=last.version,
            state=last.state,
            soc_temp_c=last.soc_temp_c,
        )

    def _lost(self, ring: int) -> int:
        """Of the numbers told to be gone, those that no other laptop brought before."""
        gone: set[int] = set()
        for after, upto in self._connection.execute("SELECT after, upto FROM gap WHERE ring = ?", (ring,)).fetchall():
            here = self._connection.execute("SELECT seq FROM record WHERE ring = ? AND seq > ? AND seq < ?", (ring, after, upto))
            gone |= set(range(after + 1, upto)) - {seq for (seq,) in here}
        return len(gone)

    def records(self, device: str, ring: str, after: int, limit: int = PAGE) -> tuple[list[bytes], list[TelemetryGap]]:
        """(the exact bytes of records with seq > after, oldest first; all gaps told of that ring)."""
        with database.faults(self._path):
            of = "JOIN ring ON ring.id = ring WHERE device = ? AND name = ?"
            bodies = self._connection.execute(
                f"SELECT body FROM record {of} AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 - `of` stands above
                (device, ring, after, limit),
            ).fetchall()
            gaps = self._connection.execute(f"SELECT after, upto, why FROM gap {of} ORDER BY after", (device, ring))  # noqa: S608
            return [bytes(body) for (body,) in bodies], [TelemetryGap(after=a, upto=u, why=why) for a, u, why in gaps]


def _placed(part: TelemetryPart) -> Iterator[tuple[msgspec.Raw, _Place]]:
    if not part.device.isalnum() or len(part.device) > 64 or len(part.ring) > 64:
        raise _refused("a device or ring of no such name", "malformed")
    for body in part.records:
        try:
            place = decoder(_Place).decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _refused(f"a record without its number: {error}", "malformed") from error
        if not 0 < place.seq < 1 << 53:
            raise _refused(f"a record numbered {place.seq}", "malformed")
        yield body, place


def _readable(body: bytes) -> TelemetryRecord | None:
    """None: of a version this one does not know; it is kept all the same."""
    try:
        return decoder(TelemetryRecord).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _opened(data: bytes, public_key: bytes) -> TelemetryPush:
    try:
        payload = open_envelope(data, public_key, TELEMETRY_PAYLOAD_TYPE)
        push = decode_signed(payload, TelemetryPush, what="telemetry", limit=ENVELOPE_LIMIT)
    except FieldopsError as error:
        raise _refused(error.message, error.reason) from error
    if push.v != VERSION:
        raise _refused(f"telemetry of version {push.v}", "malformed")
    return push


def _refused(message: str, reason: str) -> StoreFault:
    return StoreFault(message, reason=reason, next_step="update fieldops on the laptop, then sync again; its records stay queued")

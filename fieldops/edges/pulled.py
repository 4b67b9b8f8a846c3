"""Telemetry that devices gave this laptop, until the central store has it: `<home>/telemetry.db`.

A part and the cursor that stands behind it become durable together, so what a device overwrites later is here, and nothing
is pulled twice but after this file was lost. Beyond its limit parts go, those the store has first; one that it never got
leaves a gap in its place. A damaged file is set aside: the devices still have what they gave last, and say what they have not.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.edges import database
from fieldops.edges.disk import rename, sync_folder, unlink
from fieldops.errors import StorageFault
from fieldops.ports import Cursor, Queue
from fieldops.wire import TelemetryGap, TelemetryPart

LIMIT_BYTES = 64 << 20
_SCHEMA = (
    (
        "CREATE TABLE device (id TEXT PRIMARY KEY, ring TEXT NOT NULL, seq INTEGER NOT NULL, set_aside INTEGER NOT NULL,"
        " pulled REAL NOT NULL) STRICT"
    ),
    (
        "CREATE TABLE part (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, ring TEXT NOT NULL, first INTEGER NOT NULL,"
        " last INTEGER NOT NULL, records INTEGER NOT NULL, size INTEGER NOT NULL, sent INTEGER NOT NULL, body BLOB NOT NULL) STRICT"
    ),
    "CREATE INDEX part_to_send ON part (sent, id)",
)


class PulledTelemetry:
    """Implements operations.telemetry.Shelf. Safe for threads and processes."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Touches nothing on disk yet."""
        self._path = path
        self._limit_bytes = limit_bytes
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._prepared()
            except StorageFault as fault:
                if fault.reason != "corrupt":
                    raise
                self._put_aside()
                self._connection = self._prepared()
        return self._connection

    def _prepared(self) -> sqlite3.Connection:
        connection = database.connect(self._path)
        try:
            with database.faults(self._path):
                database.prepare(connection, self._path, _SCHEMA, 1)
                _check(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> None:
        """The newest damaged file is kept to be looked at."""
        for end in ("-wal", "-shm"):
            unlink(self._path.with_name(self._path.name + end))
        rename(self._path, self._path.with_name(f"{self._path.name}.damaged"))
        sync_folder(self._path.parent)

    def cursor(self, device: str) -> Cursor:
        with self._lock, database.faults(self._path):
            row = self._open().execute("SELECT ring, seq FROM device WHERE id = ?", (device,)).fetchone()
            return Cursor(*row) if row else Cursor("", 0)

    def keep(self, device: str, parts: list[TelemetryPart], cursor: Cursor, set_aside: int, now: float) -> None:
        with self._lock, database.faults(self._path), database.transaction(self._open()):
            execute = self._open().execute
            for part in parts:
                self._insert(part, sent=False)
            execute(
                "INSERT OR REPLACE INTO device (id, ring, seq, set_aside, pulled) VALUES (?, ?, ?, ?, ?)",
                (device, cursor.ring, cursor.seq, set_aside, now),
            )
            self._make_room()

    def _insert(self, part: TelemetryPart, *, sent: bool) -> None:
        body = msgspec.json.encode(part)
        seqs = [decoder(_Numbered).decode(record).seq for record in part.records]
        ends = [*seqs, *(end for gap in part.gaps for end in (gap.after + 1, gap.upto - 1))]
        self._open().execute(
            "INSERT INTO part (device, ring, first, last, records, size, sent, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (part.device, part.ring, min(ends, default=0), max(ends, default=0), len(seqs), len(body), int(sent), body),
        )

    def _make_room(self) -> None:
        execute = self._open().execute
        over = execute("SELECT coalesce(sum(size), 0) FROM part").fetchone()[0] - self._limit_bytes
        while over > 0:
            row = execute(
                "SELECT id, size, sent, device, ring, first, last FROM part WHERE records > 0 ORDER BY sent DESC, id LIMIT 1"
            ).fetchone()
            if row is None:
                return
            number, size, sent, device, ring, first, last = row
            execute("DELETE FROM part WHERE id = ?", (number,))
            over -= size
            if not sent:
                gap = TelemetryGap(after=first - 1, upto=last + 1, why="laptop")
                self._insert(TelemetryPart(device=device, ring=ring, gaps=[gap]), sent=False)

    def unsent(self, most_bytes: int) -> list[tuple[int, TelemetryPart]]:
        found: list[tuple[int, TelemetryPart]] = []
        size = 0
        if not self._path.exists():
            return found
        with self._lock, database.faults(self._path):
            for number, body in self._open().execute("SELECT id, body FROM part WHERE sent = 0 ORDER BY id LIMIT 100"):
                size += len(body)
                if found and size > most_bytes:
                    break
                found.append((number, decoder(TelemetryPart).decode(body)))
        return found

    def sent(self, numbers: list[int]) -> None:
        with self._lock, database.faults(self._path), database.transaction(self._open()):
            self._open().executemany("UPDATE part SET sent = 1 WHERE id = ?", [(number,) for number in numbers])
            self._open().execute("DELETE FROM part WHERE sent = 1 AND records = 0")  # gaps that were told

    def resend(self) -> None:
        if self._path.exists():
            with self._lock, database.faults(self._path), database.transaction(self._open()):
                self._open().execute("UPDATE part SET sent = 0")

    def queue(self) -> Queue:
        """Nothing is made where there is nothing yet."""
        if not self._path.exists():
            return Queue(0, 0)
        with self._lock, database.faults(self._path):
            query = "SELECT coalesce(sum(records), 0), coalesce(sum(size), 0) FROM part WHERE sent = 0"
            return Queue(*self._open().execute(query).fetchone())


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StorageFault(f"{path}: {found}", reason="corrupt", next_step="pull again")


class _Numbered(msgspec.Struct):
    seq: int

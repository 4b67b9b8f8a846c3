"""What the device counted and kept: drift windows, a ring of records, a few sealed inputs. One SQLite file.

Losing the newest of them to a power cut harms nobody; what is overwritten or could not be written is counted. A file that is
damaged, at the start or later, is set aside under another name and a new one begun: counts never stop an agent. Where there
can be no file at all (a disk that is full or not to be written) they are kept in memory.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from fieldops.decoding import decoder
from fieldops.drift.shift import merge
from fieldops.drift.sketch import Window
from fieldops.edges.disk import rename, sync_folder, unlink
from fieldops.errors import StorageFault
from fieldops.wire import Sample, TelemetryRecord

KEPT = 24
KEPT_RECORDS = 8192  # of one model four weeks, at one in five minutes
PAGE = 500
SCHEMA_VERSION = 1
SAMPLES_A_FILE = 1_000_000  # numbers apart, so that none is given twice: labels on a laptop go by them
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS windows (id INTEGER PRIMARY KEY, model TEXT, version TEXT, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS samples "
        "(id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, body TEXT NOT NULL, sealed BLOB NOT NULL)"
    ),
    # `name` tells this file's numbers from those of one that was set aside
    "CREATE TABLE IF NOT EXISTS ring (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL)",
)
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: other tables than ours

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ring:
    """records: oldest first. newest: the highest number given. lost: of the span that records cover, how many are missing."""

    name: str
    records: list[TelemetryRecord]
    newest: int
    lost: int


class Telemetry:
    """Safe for several threads."""

    def __init__(self, path: Path, *, kept_records: int = KEPT_RECORDS) -> None:
        """Always succeeds; what was wrong is in `troubles`."""
        self._path = path
        self._kept_records = kept_records
        self._skipped = 0  # records that found no room since the last that did
        self._lock = threading.Lock()
        self._troubles: list[str] = []
        self._in_memory = False
        self._counted: dict[tuple[str, str], Window] = {}
        self._connection = self._opened()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @property
    def set_aside(self) -> int:
        """How many damaged files there were; the newest of them is still there, and carries the number."""
        return max((number for number, _ in self._aside()), default=0)

    def troubles(self) -> list[str]:
        """What went wrong since this was asked last, a sentence each."""
        with self._lock:
            told, self._troubles = self._troubles, []
        return told

    def _aside(self) -> list[tuple[int, Path]]:
        ends = ((path.name.rpartition("-")[2], path) for path in self._path.parent.glob(f"{self._path.name}.damaged-*"))
        return [(int(end), path) for end, path in ends if end.isdigit()]

    def _opened(self) -> sqlite3.Connection:
        try:
            return _connected(str(self._path))
        except sqlite3.Error as error:
            return self._anew(error)

    def _anew(self, error: sqlite3.Error) -> sqlite3.Connection:
        said = f"{self._path.name}: {error}"
        try:
            if not _is_damage(error):
                raise error
            number = self._put_aside()
            connection = _connected(str(self._path), number * SAMPLES_A_FILE)
        except (sqlite3.Error, StorageFault, OSError):
            self._troubles.append(f"{said}; counts are kept in memory until the next start, and no inputs")
            self._in_memory = True
            return _connected(":memory:")
        self._troubles.append(f"{said}; set aside as {self._path.name}.damaged-{number}, a new one begun")
        return connection

    def _put_aside(self) -> int:
        """One damaged file is kept to be looked at. Power gone in the middle: the next start goes on from what is there."""
        before = self._aside()
        number = max((number for number, _ in before), default=0) + 1
        for end in ("-wal", "-shm"):  # first: left behind, they would be taken for the new file's
            unlink(self._path.with_name(self._path.name + end))
        rename(self._path, self._path.with_name(f"{self._path.name}.damaged-{number}"))
        for _, older in before:
            unlink(older)
        sync_folder(self._path.parent)
        return number

    def _use(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """otherwise: where there is no room, or what is there cannot be read; then a new file is begun."""
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                if _is_damage(error):
                    self._connection.close()
                    self._connection = self._anew(error)
                return otherwise

    # --- drift windows -----------------------------------------------------------------------------------------------------

    def add(self, model: str, version: str, window: Window) -> None:
        """Keeps the newest of this version. A disk that is full loses the window, never the service."""
        body = msgspec.json.encode(window).decode("utf-8")

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO windows (model, version, body) VALUES (?, ?, ?)", (model, version, body))
            connection.execute(
                "DELETE FROM windows WHERE model = ? AND version = ? AND id NOT IN "
                "(SELECT id FROM windows WHERE model = ? AND version = ? ORDER BY id DESC LIMIT ?)",
                (model, version, model, version, KEPT),
            )

        self._use(work, None)
        with self._lock:
            before = self._counted.get((model, version))
            self._counted[model, version] = _joined(before, window)

    def counted(self, model: str, version: str) -> Window | None:
        """All windows added since this was asked last, as one: also of those that were too many to be kept."""
        with self._lock:
            return self._counted.pop((model, version), None)

    def windows(self, model: str, version: str) -> list[Window]:
        query = "SELECT body FROM windows WHERE model = ? AND version = ? ORDER BY id"
        rows: list[tuple[str]] = self._use(lambda connection: connection.execute(query, (model, version)).fetchall(), [])
        return [window for row in rows if (window := _decoded(row[0], Window)) is not None]

    # --- records -------------------------------------------------------------------------------------------------------

    def record(self, record: TelemetryRecord) -> None:
        """Into the ring. Its seq is given here; where the disk is full the number is used up, so that the gap shows."""

        def work(connection: sqlite3.Connection) -> bool:
            seq = _newest(connection, "records") + 1 + self._skipped
            body = msgspec.json.encode(msgspec.structs.replace(record, seq=seq)).decode("utf-8")
            connection.execute("INSERT INTO records (seq, body) VALUES (?, ?)", (seq, body))
            connection.execute("DELETE FROM records WHERE seq <= ?", (seq - self._kept_records,))
            return True

        self._skipped = 0 if self._use(work, otherwise=False) else self._skipped + 1

    def records(self, after: int, ring: str | None = None) -> Ring:
        """Those with seq > after. ring: which file `after` counts in; another one is read from its beginning."""

        def work(connection: sqlite3.Connection) -> tuple[str, int, list[tuple[str]], int]:
            name = str(connection.execute("SELECT name FROM ring").fetchone()[0])
            start = after if ring is None or ring == name else 0
            query = "SELECT body FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
            return name, start, connection.execute(query, (start, PAGE)).fetchall(), _newest(connection, "records")

        none: list[tuple[str]] = []
        nothing = ("", 0, none, 0)
        name, start, rows, newest = self._use(work, nothing)
        if not name:  # found damaged just now: what there is then is the new ring
            name, start, rows, newest = self._use(work, nothing)
        found = [record for row in rows if (record := _decoded(row[0], TelemetryRecord)) is not None]
        span = (found[-1].seq if found else newest) - start
        return Ring(name, found, newest, max(0, span - len(found)))

    # --- samples -------------------------------------------------------------------------------------------------------

    def keep(self, sample: Sample, sealed: bytes, most: int) -> None:
        """The newest `most` of its model stay. `sample` without its request: that is in `sealed` alone."""
        if self._in_memory:
            return  # their numbers would come again after the next start, and labels go by the number
        body = msgspec.json.encode(sample).decode("utf-8")

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO samples (model, body, sealed) VALUES (?, ?, ?)", (sample.model, body, sealed))
            connection.execute(
                "DELETE FROM samples WHERE model = ? AND id NOT IN "
                "(SELECT id FROM samples WHERE model = ? ORDER BY id DESC LIMIT ?)",
                (sample.model, sample.model, most),
            )

        self._use(work, None)

    def samples(self, model: str, after: int, limit: int) -> list[tuple[Sample, bytes]]:
        """(sample without its request, sealed request), oldest first."""
        query = "SELECT id, body, sealed FROM samples WHERE model = ? AND id > ? ORDER BY id LIMIT ?"
        rows: list[tuple[int, str, bytes]] = self._use(
            lambda connection: connection.execute(query, (model, after, limit)).fetchall(), []
        )
        return [
            (msgspec.structs.replace(sample, id=number), bytes(sealed))
            for number, body, sealed in rows
            if (sample := _decoded(body, Sample)) is not None
        ]

    def forget_samples(self) -> None:
        """The policy keeps none any more."""
        self._use(lambda connection: connection.execute("DELETE FROM samples").rowcount, 0)


def _connected(path: str, sample: int = 0) -> sqlite3.Connection:
    """sample: the number before that of a new file's first sample."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        for statement in _SCHEMA:
            connection.execute(statement)
        if sample and connection.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'samples'").fetchone() is None:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('samples', ?)", (sample,))
        connection.execute("INSERT OR IGNORE INTO ring VALUES (1, ?)", (secrets.token_hex(4),))
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"of a newer agent (schema {version})")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _joined(before: Window | None, window: Window) -> Window:
    if before is None:
        return window
    try:
        return merge([before, window])
    except ValueError:  # of other features: the version was staged anew with another sketch
        return window


def _is_damage(error: sqlite3.Error) -> bool:
    """And not a disk that is full, or somebody else who holds the file."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE


def _newest(connection: sqlite3.Connection, table: str) -> int:
    """The highest number ever given, of rows that are gone too."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


def _decoded(body: object, kind: type[T]) -> T | None:
    """None: the row is damaged though its page is not; it counts as missing."""
    try:
        return decoder(kind).decode(body) if isinstance(body, str | bytes) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

"""What the device knows durably: slots, versions, steps, its journal, the laptops it is pinned to. One SQLite file.

`synchronous=FULL`, so a change is on disk when `change()` returns, and all of it or nothing is: a slot's move, its line in
the journal and the step's record are one commit, made before the effect they announce. One connection under one lock.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from fieldops.bundles.manifest import Manifest
from fieldops.decoding import decoder
from fieldops.edges.database import connect
from fieldops.edges.disk import performing
from fieldops.edges.operation import Operation
from fieldops.errors import DeviceCannot, StorageFault
from fieldops.slots import Slot
from fieldops.steps import Step
from fieldops.wire import BenchBaseline, Check, JournalEntry, StepRecord

SCHEMA_VERSION = 1
MOST_ENTRIES = 5000
MOST_STEPS = 500
_HANDED_OUT = "journal_handed_out"
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE slots (model TEXT PRIMARY KEY, body TEXT NOT NULL, checks TEXT NOT NULL DEFAULT '[]') WITHOUT ROWID;
CREATE TABLE versions (model TEXT, version TEXT, body TEXT NOT NULL, PRIMARY KEY (model, version)) WITHOUT ROWID;
CREATE TABLE quarantine (digest TEXT PRIMARY KEY, reason TEXT NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE steps (step_id TEXT PRIMARY KEY, rank INTEGER NOT NULL, body TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE laptops (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE logs (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE baselines (model TEXT, version TEXT, body TEXT NOT NULL, PRIMARY KEY (model, version)) WITHOUT ROWID;
"""

T = TypeVar("T")


class Installed(Struct, frozen=True, kw_only=True):
    """A version whose every byte was verified and lies under `models/`. channel "": a foreign model."""

    model: str
    version: str
    counter: int
    manifest_sha256: str
    size_bytes: int
    channel: str
    manifest: Manifest | None  # None: foreign, nothing is promised
    staged: float


class Laptop(Struct, frozen=True, kw_only=True):
    id: str
    public_key: bytes
    certificate: str
    fingerprint: str  # sha256 hex of the certificate's DER; what the LAN listener asks for
    label: str
    enrolled: float


class HeldStep(Struct, frozen=True, kw_only=True):
    """A step as it was accepted. envelope: the evidence; empty for what was done at the device itself."""

    step: Step
    laptop: str
    actor: str
    envelope: bytes


_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMMAP"})


def _broken(path: Path, error: sqlite3.Error) -> DeviceCannot:
    full = getattr(error, "sqlite_errorname", "") in _NO_ROOM or "full" in str(error)
    return DeviceCannot(
        f"the device's registry {path.name}: {error}",
        reason="disk_full" if full else "registry",
        next_step="free space on the device" if full else "look at the device's disk; nothing was changed",
    )


class Registry:
    """Safe for several threads; every method is one short transaction."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._told: dict[str, StepRecord] = {}
        self._owed: dict[str, Callable[[Change], None]] = {}

    @classmethod
    def open(cls, path: Path) -> Registry:
        """Makes it when there is none. Raises StorageFault (newer_schema, corrupt)."""
        connection = connect(path)
        try:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};")
                _commit(connection, path)
        except sqlite3.Error as error:
            connection.close()
            raise StorageFault(
                f"{path}: {error}", reason="corrupt", next_step="restore the agent's folder or enrol the device again"
            ) from error
        if version > SCHEMA_VERSION:
            connection.close()
            raise StorageFault(
                f"{path} was written by a newer agent (schema {version}, this one knows {SCHEMA_VERSION})",
                reason="newer_schema",
                next_step="install the newer agent again",
            )
        return cls(path, connection)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One durable transaction: on disk after the block, nothing of it when the block raises."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    made = Change(self._connection)
                    owed = list(self._owed.values())
                    for write in owed:
                        write(made)
                    yield made
                    _commit(self._connection, self._path)
                except BaseException:
                    if self._connection.in_transaction:  # SQLite has ended it by itself after some errors
                        self._connection.execute("ROLLBACK")
                    raise
                self._owed.clear()
                self._told.clear()
            except sqlite3.Error as error:
                raise _broken(self._path, error) from error

    def owe(self, record: StepRecord, write: Callable[[Change], None]) -> None:
        """The end of a step that a full disk did not take: told from here, and written with the next change that succeeds."""
        with self._lock:
            self._told[record.step_id] = record
            self._owed[record.step_id] = write

    @property
    def owes(self) -> bool:
        return bool(self._owed)

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _broken(self._path, error) from error

    def _all(self, kind: type[T], sql: str, *values: object) -> list[T]:
        return [decoder(kind).decode(row[0]) for row in self._rows(sql, *values)]

    def _one(self, kind: type[T], sql: str, *values: object) -> T | None:
        found = self._all(kind, sql, *values)
        return found[0] if found else None

    def slots(self) -> list[Slot]:
        return self._all(Slot, "SELECT body FROM slots ORDER BY model")

    def slot(self, model: str) -> Slot | None:
        return self._one(Slot, "SELECT body FROM slots WHERE model = ?", model)

    def checks(self, model: str) -> list[Check]:
        return self._one(list[Check], "SELECT checks FROM slots WHERE model = ?", model) or []

    def versions(self, model: str) -> list[Installed]:
        return self._all(Installed, "SELECT body FROM versions WHERE model = ? ORDER BY version", model)

    def version(self, model: str, version: str) -> Installed | None:
        return self._one(Installed, "SELECT body FROM versions WHERE model = ? AND version = ?", model, version)

    def quarantined(self) -> dict[str, str]:
        """Digest of a manifest -> why it failed."""
        return dict(self._rows("SELECT digest, reason FROM quarantine"))

    def record(self, step_id: str) -> StepRecord | None:
        with self._lock:
            return self._told.get(step_id) or self._one(StepRecord, "SELECT record FROM steps WHERE step_id = ?", step_id)

    def held(self, step_id: str) -> HeldStep | None:
        return self._one(HeldStep, "SELECT body FROM steps WHERE step_id = ?", step_id)

    def running(self) -> list[StepRecord]:
        records = self._all(StepRecord, "SELECT record FROM steps ORDER BY rank DESC LIMIT 50")
        return [record for record in records if not record.ended and record.step_id not in self._told]

    def journal(self, after: int, limit: int) -> tuple[list[JournalEntry], int]:
        """(entries with seq > after, oldest first; highest seq there was)."""
        rows = self._rows("SELECT seq, body FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
        newest = self._rows("SELECT coalesce(max(seq), 0) FROM journal")[0][0]
        entries = [msgspec.structs.replace(decoder(JournalEntry).decode(body), seq=seq) for seq, body in rows]
        return entries, int(newest)

    def handed_out(self, after: int, last: int) -> None:
        """Somebody was given the entries in (after, last]. Only what follows on from what was given before counts."""
        with self._lock:
            known = int(self.fact(_HANDED_OUT, "0"))
            if after <= known < last:
                with self.change() as change:
                    change.fact(_HANDED_OUT, str(last))

    def prune(
        self, unread: Callable[[int], JournalEntry], *, most_entries: int = MOST_ENTRIES, most_steps: int = MOST_STEPS
    ) -> int:
        """Drop old entries of the journal and old ended steps; how many entries went.

        Twice most_entries is the bound. Below it nothing goes that nobody was given yet; above it the oldest go all the
        same, and the journal itself says so: `unread` makes that entry of how many were never given to anybody.
        """
        newest = int(self._rows("SELECT coalesce(max(seq), 0) FROM journal")[0][0])
        oldest = int(self._rows("SELECT coalesce(min(seq), 0) FROM journal")[0][0])
        read = int(self.fact(_HANDED_OUT, "0"))
        until = max(min(newest - most_entries, read), newest - 2 * most_entries)
        ranks = self._rows("SELECT count(*), coalesce(max(rank), 0) FROM steps")[0]
        if until < oldest and ranks[0] <= most_steps:
            return 0
        running = {record.step_id for record in self.running()}
        with self.change() as change:
            change.drop_before(until + 1, int(ranks[1]) - most_steps, running)
            lost = max(0, until - max(read, oldest - 1))
            if lost:
                change.note(unread(lost))
        return max(0, until - oldest + 1)

    def broken(self) -> list[str]:
        """What SQLite itself finds wrong with the file; nothing when it is sound."""
        return [str(row[0]) for row in self._rows("PRAGMA integrity_check") if row[0] != "ok"]

    def laptops(self) -> list[Laptop]:
        return self._all(Laptop, "SELECT body FROM laptops ORDER BY id")

    def laptop(self, laptop_id: str) -> Laptop | None:
        return self._one(Laptop, "SELECT body FROM laptops WHERE id = ?", laptop_id)

    def log(self, origin: str) -> tuple[int, bytes] | None:
        """(size, root) that this device last cosigned."""
        rows = self._rows("SELECT size, root FROM logs WHERE origin = ?", origin)
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else None

    def baseline(self, model: str, version: str) -> BenchBaseline | None:
        return self._one(BenchBaseline, "SELECT body FROM baselines WHERE model = ? AND version = ?", model, version)

    def fact(self, name: str, default: str = "") -> str:
        rows = self._rows("SELECT value FROM facts WHERE name = ?", name)
        return str(rows[0][0]) if rows else default


class Change:
    """The writes of one transaction. Made by Registry.change only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _put(self, sql: str, *values: object) -> None:
        self._connection.execute(sql, values)

    def slot(self, slot: Slot, checks: list[Check] | None = None) -> None:
        """Where checks is None, those of the last validation stay."""
        self._put(
            "INSERT INTO slots (model, body) VALUES (?, ?) ON CONFLICT (model) DO UPDATE SET body = excluded.body",
            slot.model,
            _text(slot),
        )
        if checks is not None:
            self._put("UPDATE slots SET checks = ? WHERE model = ?", _text(checks), slot.model)

    def version(self, installed: Installed) -> None:
        self._put("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", installed.model, installed.version, _text(installed))

    def drop_version(self, model: str, version: str) -> None:
        self._put("DELETE FROM versions WHERE model = ? AND version = ?", model, version)

    def quarantine(self, digest: str, reason: str) -> None:
        self._put("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", digest, reason, time.time())

    def step(self, record: StepRecord, held: HeldStep) -> None:
        self._put(
            "INSERT INTO steps VALUES (?, (SELECT coalesce(max(rank), 0) + 1 FROM steps), ?, ?)",
            record.step_id,
            _text(held),
            _text(record),
        )

    def record(self, record: StepRecord) -> None:
        self._put("UPDATE steps SET record = ? WHERE step_id = ?", _text(record), record.step_id)

    def note(self, entry: JournalEntry) -> None:
        """Append to the device's journal; `entry.seq` is given by the journal."""
        self._put("INSERT INTO journal (body) VALUES (?)", _text(entry))

    def drop_before(self, seq: int, rank: int, keep: Collection[str]) -> None:
        """Journal entries below seq, and steps up to rank that are none of `keep`."""
        self._put("DELETE FROM journal WHERE seq < ?", seq)
        held = ",".join("?" * len(keep))
        self._put(f"DELETE FROM steps WHERE rank <= ? AND step_id NOT IN ({held})", rank, *keep)  # noqa: S608 - marks only

    def laptop(self, laptop: Laptop) -> None:
        self._put("INSERT OR REPLACE INTO laptops VALUES (?, ?)", laptop.id, _text(laptop))

    def drop_laptop(self, laptop_id: str) -> None:
        self._put("DELETE FROM laptops WHERE id = ?", laptop_id)

    def log(self, origin: str, size: int, root: bytes) -> None:
        self._put("INSERT OR REPLACE INTO logs VALUES (?, ?, ?)", origin, size, root)

    def baseline(self, model: str, baseline: BenchBaseline) -> None:
        self._put("INSERT OR REPLACE INTO baselines VALUES (?, ?, ?)", model, baseline.version, _text(baseline))

    def fact(self, name: str, value: str) -> None:
        self._put("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)


def _commit(connection: sqlite3.Connection, path: Path) -> None:
    """One operation of the storage edge: all of it is on disk, or nothing."""
    try:
        with performing(Operation("commit", path)):
            connection.execute("COMMIT")
    except OSError as error:  # of a witness: as SQLite tells it
        raise sqlite3.OperationalError("database or disk is full") from error


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode("utf-8")

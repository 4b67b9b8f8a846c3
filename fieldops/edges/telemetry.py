"""What the device counted and kept: drift windows, a ring of records, a few sealed inputs. One SQLite file.

Losing the newest of them to a power cut harms nobody; what is overwritten or could not be written is counted.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.drift.sketch import Window
from fieldops.errors import StorageFault
from fieldops.wire import Sample, TelemetryRecord

KEPT = 24
KEPT_RECORDS = 4096
PAGE = 500
SCHEMA_VERSION = 1


class Telemetry:
    """Safe for several threads."""

    def __init__(self, path: Path, *, kept_records: int = KEPT_RECORDS) -> None:
        """Raises StorageFault."""
        self._kept_records = kept_records
        self._skipped = 0  # records that found no room since the last that did
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS windows (id INTEGER PRIMARY KEY, model TEXT, version TEXT, body TEXT NOT NULL)"
            )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)"
            )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS samples "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, body TEXT NOT NULL, sealed BLOB NOT NULL)"
            )
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            self._connection.execute(f"PRAGMA user_version={max(version, SCHEMA_VERSION)}")
        except sqlite3.Error as error:
            raise StorageFault(
                f"{path}: {error}", reason="corrupt", next_step=f"move {path} away; it holds counts only"
            ) from error
        if version > SCHEMA_VERSION:
            self._connection.close()
            raise StorageFault(f"{path} is of a newer agent", reason="newer_schema", next_step="install the newer agent again")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def add(self, model: str, version: str, window: Window) -> None:
        """Keeps the newest of this version. A disk that is full loses the window, never the service."""
        body = msgspec.json.encode(window).decode("utf-8")
        with self._lock:
            try:
                self._connection.execute("INSERT INTO windows (model, version, body) VALUES (?, ?, ?)", (model, version, body))
                self._connection.execute(
                    "DELETE FROM windows WHERE model = ? AND version = ? AND id NOT IN "
                    "(SELECT id FROM windows WHERE model = ? AND version = ? ORDER BY id DESC LIMIT ?)",
                    (model, version, model, version, KEPT),
                )
            except sqlite3.Error:
                return

    def windows(self, model: str, version: str) -> list[Window]:
        with self._lock:
            rows = self._connection.execute(
                "SELECT body FROM windows WHERE model = ? AND version = ? ORDER BY id", (model, version)
            ).fetchall()
        return [decoder(Window).decode(row[0]) for row in rows]

    # --- records -------------------------------------------------------------------------------------------------------

    def record(self, record: TelemetryRecord) -> None:
        """Into the ring. Its seq is given here; where the disk is full the number is used up, so that the gap shows."""
        with self._lock:
            seq = self._newest("records") + 1 + self._skipped
            body = msgspec.json.encode(msgspec.structs.replace(record, seq=seq)).decode("utf-8")
            try:
                self._connection.execute("INSERT INTO records (seq, body) VALUES (?, ?)", (seq, body))
                self._connection.execute("DELETE FROM records WHERE seq <= ?", (seq - self._kept_records,))
                self._skipped = 0
            except sqlite3.Error:
                self._skipped += 1

    def records(self, after: int) -> tuple[list[TelemetryRecord], int, int]:
        """(records with seq > after, oldest first; newest seq; how many between are missing)."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT body FROM records WHERE seq > ? ORDER BY seq LIMIT ?", (after, PAGE)
            ).fetchall()
            newest = self._newest("records")
        found = [decoder(TelemetryRecord).decode(row[0]) for row in rows]
        span = (found[-1].seq if found else newest) - after
        return found, newest, max(0, span - len(found))

    def _newest(self, table: str) -> int:
        """The highest number ever given, of rows that are gone too."""
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    # --- samples -------------------------------------------------------------------------------------------------------

    def keep(self, sample: Sample, sealed: bytes, most: int) -> None:
        """The newest `most` of its model stay. `sample` without its request: that is in `sealed` alone."""
        body = msgspec.json.encode(sample).decode("utf-8")
        with self._lock:
            try:
                self._connection.execute(
                    "INSERT INTO samples (model, body, sealed) VALUES (?, ?, ?)", (sample.model, body, sealed)
                )
                self._connection.execute(
                    "DELETE FROM samples WHERE model = ? AND id NOT IN "
                    "(SELECT id FROM samples WHERE model = ? ORDER BY id DESC LIMIT ?)",
                    (sample.model, sample.model, most),
                )
            except sqlite3.Error:
                return

    def samples(self, model: str, after: int, limit: int) -> list[tuple[Sample, bytes]]:
        """(sample without its request, sealed request), oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT id, body, sealed FROM samples WHERE model = ? AND id > ? ORDER BY id LIMIT ?", (model, after, limit)
            ).fetchall()
        return [
            (msgspec.structs.replace(decoder(Sample).decode(body), id=number), bytes(sealed)) for number, body, sealed in rows
        ]

    def forget_samples(self) -> None:
        """The policy keeps none any more."""
        with self._lock:
            try:
                self._connection.execute("DELETE FROM samples")
            except sqlite3.Error:
                return

"""Drift windows that the device counted, newest last, a few per version. Losing the last one to a power cut harms nobody."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.drift.sketch import Window
from fieldops.errors import StorageFault

KEPT = 24
SCHEMA_VERSION = 1


class Telemetry:
    """Safe for several threads."""

    def __init__(self, path: Path) -> None:
        """Raises StorageFault."""
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS windows (id INTEGER PRIMARY KEY, model TEXT, version TEXT, body TEXT NOT NULL)"
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

"""One entry of the audit log against one durable SQLite insert of as many bytes, each in its own transaction."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bars import Bar, minima
from fieldops.audit.entry import Draft
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer

ENTRIES = 40


def bars() -> Iterator[Bar]:
    with tempfile.TemporaryDirectory() as folder:
        signer = Ed25519Signer.load_or_create(Path(folder) / "laptop.key")
        journal = SqliteJournal.open(Path(folder) / "audit.db", lambda: signer, SystemClock())
        draft = Draft(actor="local:kim", phase="note", act="drift.read", device="d" * 52, reason="a benchmark")
        journal.append(draft)
        body = journal.read(0, 1)[0][1]
        bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, body BLOB)")

        def append() -> None:
            for _ in range(ENTRIES):
                journal.append(draft)

        def insert() -> None:
            for _ in range(ENTRIES):
                bare.execute("BEGIN IMMEDIATE")
                bare.execute("INSERT INTO entry (body) VALUES (?)", (body,))
                bare.execute("COMMIT")

        ours, peer = minima(7, append, insert)
        bare.close()
    yield Bar(f"audit append ({len(body)} B, signed)", "durable SQLite insert", ours / ENTRIES, peer / ENTRIES, 1.6)

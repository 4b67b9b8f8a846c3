"""Bringing entries to the store over HTTP, in batches as `audit sync` sends them (500, 1000, 2000), against bare executemany of as many rows.

The peer writes the same bytes with the same columns and index into SQLite as durably (WAL, synchronous FULL), in this process,
a transaction a batch; ours is the real program, asked as a laptop asks it, and checks every batch against its signed checkpoint.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bars import Bar, minima
from fieldops.audit import merkle, note
from fieldops.audit.entry import Entry, Result, Subject, encode_entry
from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.keys import Ed25519Signer
from fieldops.edges.store_api import HttpStore
from fieldops.operations.sync import BATCH_ENTRIES, MOST_ENTRIES

BATCHES = (BATCH_ENTRIES, 2 * BATCH_ENTRIES, MOST_ENTRIES)


def entries(log: str, count: int) -> list[bytes]:
    return [
        encode_entry(
            Entry(
                v=1,
                log=log,
                seq=seq,
                time=1.7e9 + seq,
                mono=float(seq),
                boot=f"{seq % 7:036d}",
                session=f"{seq % 91}.{seq}",
                actor="person:SHA256:" + "x" * 43,
                phase="outcome",
                act="Stage",
                of=seq - 1,
                device=f"{seq % 50:052d}",
                subject=Subject(kind="model", name="digits", from_="1.0.0", to="1.1.0", digest=f"{seq:064x}"),
                reason=f"round {seq}",
                decision="roles.technician",
                result=Result(status="done", detail="staged and verified"),
            )
        )
        for seq in range(1, count + 1)
    ]


def parts(bodies: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    at = 0
    for size in BATCHES:
        yield at, bodies[at : at + size]
        at += size


class Laptop:
    """A log of its own for each turn, so that every turn brings something new."""

    def __init__(self, store: LogStore) -> None:
        from fieldops.wire import ENROL_PAYLOAD_TYPE, StoreEnrol, b64, encode, enveloped

        self.signer = Ed25519Signer.generate()
        code = store.laptops.invite(60.0).code
        request = StoreEnrol(v=1, store=store.id, code=code, public_key=b64(self.signer.public_key))
        store.laptops.enrol(enveloped(ENROL_PAYLOAD_TYPE, encode(request), self.signer.laptop, self.signer.sign))
        self.log = note.origin(self.signer.laptop, 1)
        self.batches: list[tuple[int, list[bytes], str]] = []
        bodies, frontier = entries(self.log, sum(BATCHES)), merkle.Frontier()
        for at, part in parts(bodies):
            frontier = frontier.extend(merkle.leaf_hash(body) for body in part)
            point = note.Checkpoint(self.log, frontier.size, frontier.root())
            signed = note.sign_checkpoint(point, self.signer.public_key, self.signer.sign)
            self.batches.append((at + 1, part, signed))


def bars() -> Iterator[Bar]:
    clock, turns = SystemClock(), 7
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "store"
        store = LogStore.open(data, clock)
        laptops = [Laptop(store) for _ in range(turns + 1)]
        store.close()
        command = [
            sys.executable,
            "-m",
            "fieldops.central",
            "serve",
            "--data",
            str(data),
            "--listen",
            "127.0.0.1:0",
            "--until-eof",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            url = json.loads(program.stdout.readline())["url"]
            coming = iter(laptops)
            bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
            bare.execute("PRAGMA journal_mode = WAL")
            bare.execute("PRAGMA synchronous = FULL")
            bare.execute(
                "CREATE TABLE entry (log INTEGER, seq INTEGER, body BLOB, leaf BLOB, time REAL, device TEXT, UNIQUE (log, seq))"
            )
            bare.execute("CREATE INDEX of_device ON entry (device, time, log, seq)")
            logs = iter(range(1000))
            rows = entries(laptops[0].log, sum(BATCHES))

            def bring() -> None:
                laptop = next(coming)
                reached = HttpStore(url, laptop.signer)
                deadline = Deadline.after(60.0, clock.monotonic)
                for first, part, signed in laptop.batches:
                    reached.push(laptop.log, first, part, signed, deadline)

            def insert() -> None:
                log = next(logs)
                for at, part in parts(rows):
                    bare.execute("BEGIN IMMEDIATE")
                    bare.executemany(
                        "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)",
                        [(log, seq, body, bytes(32), 1.7e9 + seq, f"{seq % 50:052d}") for seq, body in enumerate(part, at)],
                    )
                    bare.execute("COMMIT")

            ours, peer = minima(turns, bring, insert)
            bare.close()
    note_ = f"{len(rows) / ours:,.0f} entries of {len(rows[0])} B a second, {len(BATCHES)} batches"
    yield Bar("store ingest over HTTP", "sqlite executemany", ours, peer, 0.5, at_least=True, note=note_)

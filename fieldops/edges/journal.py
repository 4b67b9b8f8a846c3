"""The laptop's audit log in one SQLite file. The log is the outbox; there is no other queue.

Each append is one transaction that reads the head again, so several processes may append: entry, head, the note that this
laptop's key signs over it, and the list of open intents change together or not at all. After kill -9 or a power cut the
file holds a whole number of entries and the note that covers them.

Only the newest note is kept. An older one lying about would let whoever can write the file drop the entries after it.
Reading imports no cryptography; the key is asked for when the first entry is written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fieldops.audit import merkle, note
from fieldops.audit.entry import Draft, Entry, decode_entry, encode_entry
from fieldops.edges import database
from fieldops.edges.disk import write_whole
from fieldops.edges.processes import boot_id, has_ended, session
from fieldops.errors import StorageFault, UsageFault
from fieldops.fleet import key_id

if TYPE_CHECKING:
    from fieldops.ports import Clock, Signer, Witnessed  # the ports' own values cost a light verb half its own time

SCHEMA_VERSION = 1
BALLAST_BYTES = 512 << 10  # an entry costs some 20 kB of write-ahead log, so this carries the end of a visit
_SCHEMA = (
    # seq counts from 1. leaf: leaf_hash(body), kept so that proofs need not read the bodies.
    "CREATE TABLE entry (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, leaf BLOB NOT NULL) STRICT",
    "CREATE TABLE identity (id INTEGER PRIMARY KEY CHECK (id = 1), log TEXT NOT NULL, public_key BLOB NOT NULL) STRICT",
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, frontier BLOB NOT NULL, note TEXT) STRICT",
    "CREATE TABLE open_intent (seq INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE witness (name TEXT PRIMARY KEY, public_key BLOB NOT NULL) STRICT",
    "CREATE TABLE cosignature (witness TEXT, size INTEGER, line TEXT NOT NULL, PRIMARY KEY (witness, size)) STRICT",
    # against accidents; what holds against people are the signed notes and those who cosigned them
    "CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END",
    "CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END",
)

WitnessKey = Callable[[str], bytes | None]


class SqliteJournal:
    """Implements ports.Trail (and so ports.Journal). Safe for threads and processes."""

    def __init__(self, path: Path, signer_factory: Callable[[], Signer], clock: Clock, witness_key: WitnessKey) -> None:
        self._path = path
        self._ballast = path.with_name(f".{path.name}.ballast")
        self._signer_factory = signer_factory
        self._clock = clock
        self._witness_key = witness_key
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._walked = merkle.Frontier()  # of a prefix; the log only grows, so it stays true

    @classmethod
    def open(
        cls,
        path: Path,
        signer_factory: Callable[[], Signer],
        clock: Clock,
        witness_key: WitnessKey = lambda _: None,
    ) -> Self:
        """Touches nothing on disk yet. witness_key: the raw key of `device:<id>` where enrolment pinned one, else None."""
        return cls(path, signer_factory, clock, witness_key)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # --- ports.Journal -----------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        with self._begun() as connection:
            return str(self._row(connection, "SELECT log FROM identity")[0])

    def append(self, draft: Draft) -> Entry:
        """On a full disk an intent is refused, so nothing begins; what already happened still gets its entry (ballast)."""
        try:
            entry = self._append(draft)
        except StorageFault as fault:
            if fault.reason != "disk_full" or draft.phase == "intent" or not self._drop_ballast():
                raise
            return self._append(draft)
        self._keep_ballast()
        return entry

    def _append(self, draft: Draft) -> Entry:
        signer = self._signer_factory()
        with self._begun() as connection, database.transaction(connection):
            frontier, log = self._head(connection, signer)
            entry = Entry(
                v=1,
                log=log,
                seq=frontier.size + 1,
                time=self._clock.now(),
                mono=self._clock.monotonic(),
                boot=boot_id(),
                session=session(),
                **msgspec.structs.asdict(draft),
            )
            body = encode_entry(entry)
            leaf = merkle.leaf_hash(body)
            grown = frontier.append(leaf)
            connection.execute("INSERT INTO entry VALUES (?, ?, ?)", (entry.seq, body, leaf))
            _keep_head(connection, log, grown, signer)
            if entry.phase == "intent":
                connection.execute("INSERT INTO open_intent VALUES (?)", (entry.seq,))
            elif entry.phase == "outcome":
                connection.execute("DELETE FROM open_intent WHERE seq = ?", (entry.of,))
            return entry

    def size(self) -> int:
        with self._reading() as connection:
            return int(self._row(connection, "SELECT size FROM head")[0]) if connection else 0

    def root(self) -> bytes:
        with self._reading() as connection:
            if connection is None:
                return merkle.EMPTY_ROOT
            size, nodes = self._row(connection, "SELECT size, frontier FROM head")
            return self._frontier(size, nodes).root()

    def checkpoint(self) -> str:
        with self._begun() as connection:
            return str(self._row(connection, "SELECT note FROM head")[0])

    def consistency(self, old_size: int) -> list[bytes]:
        with self._reading() as connection:
            leaves = _leaves(connection, 0) if connection else []
            if not 0 <= old_size <= len(leaves):
                raise StorageFault(
                    f"this log holds {len(leaves)} entries; a witness has seen {old_size}",
                    reason="truncated",
                    next_step=f"restore the newest copy of {self._path.name}, or ask for the store's copy of this log",
                )
            return merkle.consistency(leaves, old_size)

    def read(self, after: int = 0, limit: int = 1000) -> list[tuple[Entry, bytes]]:
        found: list[tuple[Entry, bytes]] = []
        for seq, body, _ in self.raw(after, limit):
            try:
                found.append((decode_entry(body), body))
            except msgspec.MsgspecError as error:
                raise self._corrupt(f"entry {seq}: {error}") from error
        return found

    def newest(self, act: str, device: str) -> Entry | None:
        """By the text of the bodies, newest first: quotes inside of words are escaped there, so no other field looks like it."""
        query = "SELECT body FROM entry WHERE instr(body, ?) AND instr(body, ?) ORDER BY seq DESC"
        words = [f'"{name}":"{value}"'.encode() for name, value in (("act", act), ("device", device))]
        with self._reading() as connection:
            for (body,) in connection.execute(query, words) if connection is not None else ():
                entry = decode_entry(bytes(body))
                if (entry.act, entry.device) == (act, device):
                    return entry
        return None

    def open_intents(self) -> list[Entry]:
        with self._reading() as connection:
            if connection is None:
                return []
            seqs = [row[0] for row in connection.execute("SELECT seq FROM open_intent ORDER BY seq")]
        intents = [entry for seq in seqs for entry, _ in self.read(seq - 1, 1)]
        return [entry for entry in intents if has_ended(entry.session, entry.boot)]

    def note_cosignature(self, witness: str, size: int, line: str) -> None:
        """size: of the intent. Where the witness's key is known, the size its line really covers is found and kept."""
        with self._begun() as connection:
            covered = self._covered_size(witness, size, line)
            with database.transaction(connection):
                connection.execute("INSERT OR REPLACE INTO cosignature VALUES (?, ?, ?)", (witness, covered, line))

    def cosigned_size(self, witness: str) -> int:
        with self._reading() as connection:
            if connection is None:
                return 0
            where = "substr(witness, 1, length(?)) = ?" if witness.endswith(":") else "witness = ? AND witness = ?"
            query = f"SELECT coalesce(max(size), 0) FROM cosignature WHERE {where}"  # noqa: S608 - two fixed texts
            return int(connection.execute(query, (witness, witness)).fetchone()[0])

    # --- ports.Trail -----------------------------------------------------------------------------------------------------

    @property
    def public_key(self) -> bytes:
        with self._begun() as connection:
            return bytes(self._row(connection, "SELECT public_key FROM identity")[0])

    def checkpoint_at(self, size: int) -> str:
        signer = self._signer_factory()
        with self._begun() as connection:
            if size == self.size():
                return self.checkpoint()
            point = note.Checkpoint(self.log, size, self._frontier_at(connection, size).root())
        return note.sign_checkpoint(point, signer.public_key, signer.sign)

    def raw(self, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes, bytes]]:
        with self._reading() as connection:
            if connection is None:
                return []
            query = "SELECT seq, body, leaf FROM entry WHERE seq > ? ORDER BY seq LIMIT ?"
            return [(int(seq), bytes(body), bytes(leaf)) for seq, body, leaf in connection.execute(query, (after, limit))]

    def witnessed(self) -> list[Witnessed]:
        from fieldops.ports import Witnessed

        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute("SELECT witness, size, line FROM cosignature ORDER BY size, witness").fetchall()
            return [Witnessed(witness, size, line, self._key_of(witness)) for witness, size, line in rows]

    def know_witness(self, witness: str, public_key: bytes) -> None:
        if key_id(public_key) != witness.partition(":")[2]:
            raise UsageFault(
                f"the key offered for {witness} is another one's",
                reason="wrong_key",
                next_step="check the address; another machine answers there",
            )
        with self._begun() as connection:
            known = connection.execute("SELECT 1 FROM witness WHERE name = ?", (witness,)).fetchone()
            if known is None:
                with database.transaction(connection):
                    connection.execute("INSERT OR IGNORE INTO witness VALUES (?, ?)", (witness, public_key))

    def verify_signature(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        from fieldops.edges.keys import verify

        return verify(public_key, signature, message)

    # --- inside ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """None: nothing was ever written, and reading shall not change that."""
        with self._lock:
            if self._connection is None and not self._path.exists():
                yield None
                return
            with self._begun() as connection:
                yield connection

    @contextmanager
    def _begun(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database.faults(self._path):
            if self._connection is None:
                connection = database.connect(self._path)
                try:
                    database.prepare(connection, self._path, _SCHEMA, SCHEMA_VERSION)
                    self._name(connection)
                except BaseException:
                    connection.close()
                    raise
                self._connection = connection
            yield self._connection

    def _keep_ballast(self) -> None:
        """Space set aside; random, since a file system may store empty blocks as nothing. Losing it in a crash is no harm."""
        if self._ballast.exists():
            return
        with contextlib.suppress(StorageFault):  # a disk this full shows itself at the next intent
            write_whole(self._ballast, os.urandom(BALLAST_BYTES))

    def _drop_ballast(self) -> bool:
        """Whether there was any."""
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True

    def _name(self, connection: sqlite3.Connection) -> None:
        """Give a new log its origin. The epoch is the second it began: a log that was lost goes on as another one."""
        if connection.execute("SELECT 1 FROM head").fetchone():
            return
        signer = self._signer_factory()
        log = note.origin(signer.laptop, max(0, int(self._clock.now())))
        with database.transaction(connection):
            if connection.execute("SELECT 1 FROM identity").fetchone() is None:
                connection.execute("INSERT INTO identity VALUES (1, ?, ?)", (log, signer.public_key))
                _keep_head(connection, log, merkle.Frontier(), signer)

    def _head(self, connection: sqlite3.Connection, signer: Signer) -> tuple[merkle.Frontier, str]:
        size, nodes, kept = self._row(connection, "SELECT size, frontier, note FROM head")
        log = str(self._row(connection, "SELECT log FROM identity")[0])
        frontier = self._frontier(size, nodes)
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM entry").fetchone()[0]
        if last != size or not kept.startswith(note.Checkpoint(log, size, frontier.root()).text):
            raise self._corrupt(f"the head says {size} entries, the last one is {last}")
        if note.parse_origin(log)[0] != signer.laptop:
            raise StorageFault(
                f"{self._path} is the log of laptop {log.split('/')[1][:8]}; the key here is {signer.laptop[:8]}'s",
                reason="other_key",
                next_step="restore keys/laptop.key of that laptop, or move the log aside: a new key begins a new log",
            )
        return frontier, log

    def _row(self, connection: sqlite3.Connection, query: str) -> tuple[Any, ...]:
        """The one row of `head` or `identity`."""
        row: tuple[Any, ...] | None = connection.execute(query).fetchone()
        if row is None:
            raise self._corrupt("the log's head is gone")
        return row

    def _frontier(self, size: int, nodes: bytes) -> merkle.Frontier:
        try:
            return merkle.Frontier.decode(size, nodes)
        except ValueError as error:
            raise self._corrupt(str(error)) from error

    def _frontier_at(self, connection: sqlite3.Connection, size: int) -> merkle.Frontier:
        start = self._walked if self._walked.size <= size else merkle.Frontier()
        self._walked = start.extend(_leaves(connection, start.size, size))
        return self._walked

    def _key_of(self, witness: str) -> bytes | None:
        """Pinned by enrolment, or kept by know_witness; whichever it is, its hash is the witness's id."""
        with self._begun() as connection:
            row = connection.execute("SELECT public_key FROM witness WHERE name = ?", (witness,)).fetchone()
        key = bytes(row[0]) if row else self._witness_key(witness)
        return key if key is not None and key_id(key) == witness.partition(":")[2] else None

    def _covered_size(self, witness: str, size: int, line: str) -> int:
        key = self._key_of(witness)
        if key is None:
            return size
        with self._begun() as connection:
            log, newest = self.log, self.size()
            for candidate in range(size, newest + 1):  # another process may have appended between intent and envelope
                point = note.Checkpoint(log, candidate, self._frontier_at(connection, candidate).root())
                try:
                    note.verify_cosignature(point, line, note.witness_name(witness), key, self.verify_signature)
                except UsageFault:
                    continue
                return candidate
        return size

    def _corrupt(self, what: str) -> StorageFault:
        return StorageFault(
            f"{self._path}: {what}",
            reason="corrupt",
            next_step="run `fieldops audit verify`; keep the file as evidence and begin a new log beside it",
        )


def _leaves(connection: sqlite3.Connection, after: int, upto: int = 1 << 62) -> list[bytes]:
    query = "SELECT leaf FROM entry WHERE seq > ? AND seq <= ? ORDER BY seq"
    return [bytes(row[0]) for row in connection.execute(query, (after, upto))]


def _keep_head(connection: sqlite3.Connection, log: str, frontier: merkle.Frontier, signer: Signer) -> None:
    signed = note.sign_checkpoint(note.Checkpoint(log, frontier.size, frontier.root()), signer.public_key, signer.sign)
    connection.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (frontier.size, frontier.encode(), signed))

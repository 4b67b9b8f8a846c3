"""The logs of all laptops in one SQLite file, each exactly as its laptop signed it.

A push is one transaction: compare what is known already, take what is new, compute the tree, keep checkpoint and receipt,
commit, answer. An entry that differs from the one known under its number is a fork: nothing is overwritten, the rejected
bytes and both checkpoints are kept, an incident is opened. Nothing is ever refused for its time or for fields this version
does not know; the columns beside the bytes are for finding them only.

One writer: the caller runs everything here in one thread; `LogStore` is not safe for several.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from fieldops.audit import merkle, note
from fieldops.audit.entry import ENTRY_LIMIT
from fieldops.central import schema
from fieldops.central.laptops import Laptops
from fieldops.central.records import Records
from fieldops.decoding import decoder
from fieldops.edges import database
from fieldops.edges.keys import Ed25519Signer, verify
from fieldops.errors import CheckFailed, StoreFault, UsageFault
from fieldops.ports import Clock
from fieldops.wire import BATCH_ENTRIES, SUPPORTED, PushReply, StoreHead, StoreInfo, TelemetryReply, b64


class _Line(msgspec.Struct, frozen=True):
    """What finding an entry needs of it; its other fields are not read, so that a batch is read fast."""

    seq: int
    log: str
    time: float
    actor: str
    phase: str
    act: str
    device: str = ""
    result: _Result | None = None


class _Result(msgspec.Struct, frozen=True):
    status: str


CHECKPOINT_PAGES = 4096  # some 25 batches; a laptop's 200 would copy the write-ahead log into the file at every other one


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log, for people. queued entries are unknown here: only the laptop knows them."""

    name: str
    size: int
    root: str
    last_received: float
    forked: bool
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One entry, for people. Fields are None where the body cannot be read by this version."""

    log: str
    seq: int
    received: float
    time: float | None
    device: str | None
    actor: str | None
    phase: str | None
    act: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class Incident:
    """kind: fork, misnumbered, new_epoch or after_revocation. seq: where it shows; 0 where no single entry is to blame."""

    kind: str
    log: str
    seq: int
    opened: float
    detail: str


@dataclass(frozen=True, slots=True)
class _Log:
    row: int
    size: int
    frontier: merkle.Frontier
    note: str


class LogStore:
    def __init__(self, path: Path, connection: sqlite3.Connection, signer: Ed25519Signer, clock: Clock) -> None:
        self._path = path
        self._connection = connection
        self._signer = signer
        self._clock = clock
        self.laptops = Laptops(path, connection, signer.id, clock)
        self.telemetry = Records(path, connection, signer.id, clock)

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> Self:
        """`store.db` and the store's own key, made at the first run. The caller holds the folder's lock. Raises StorageFault."""
        path = folder / "store.db"
        signer = Ed25519Signer.load_or_create(folder / "keys" / "store.key")
        connection = database.connect(path)
        try:
            with database.faults(path):
                connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * 4096}")
                database.prepare(connection, path, schema.SCHEMA, schema.VERSION, schema.UPGRADES)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, signer, clock)

    def close(self) -> None:
        self._connection.close()

    @property
    def id(self) -> str:
        return self._signer.id

    # --- protocol ----------------------------------------------------------------------------------------------------

    def info(self) -> StoreInfo:
        return StoreInfo(store=self.id, public_key=b64(self._signer.public_key), time=self._clock.now(), versions=SUPPORTED)

    def head(self, log: str) -> StoreHead:
        with database.faults(self._path):
            found = self._log(log)
            root = found.frontier.root() if found else merkle.EMPTY_ROOT
            return StoreHead(
                log=log,
                size=found.size if found else 0,
                root=root.hex(),
                forked=self._forked(log),
                time=self._clock.now(),
            )

    def push(self, log: str, first: int, bodies: Sequence[bytes], signed: str) -> PushReply:
        """first: seq of the first body. signed: the note over all entries up to the last body, by the key that was enrolled.

        Raises CheckFailed (gap, fork), StoreFault (what is wrong with the request) or StorageFault. Nothing of a refused
        push is stored but the evidence of a fork.
        """
        laptop, _ = _origin(log)
        _check_shape(first, bodies)
        with database.faults(self._path):
            public_key = self.laptops.key(laptop)
            point = _opened(signed, public_key, log)
            if point.size != first + len(bodies) - 1:
                raise _refusal(
                    f"the checkpoint covers {point.size} entries, the push ends at {first + len(bodies) - 1}", "wrong_checkpoint"
                )
            try:
                with database.transaction(self._connection):
                    return self._take(log, laptop, first, bodies, signed, point)
            except _Fork as fork:
                self._open_incident("fork", log, fork.seq, fork.detail, fork.evidence)  # committed: refusing must not lose it
                raise CheckFailed(
                    f"{fork.detail} in log {log}",
                    reason="fork",
                    next_step="move the laptop's audit.db aside, unchanged, so that a new log begins; find out where a copy was used",
                ) from None

    def _take(self, log: str, laptop: str, first: int, bodies: Sequence[bytes], signed: str, point: note.Checkpoint) -> PushReply:
        now = self._clock.now()
        known = self._log(log)
        size = known.size if known else 0
        if first > size + 1:
            raise CheckFailed(
                f"the store holds {size} entries of this log; the push begins at {first}",
                reason="gap",
                next_step="send from the store's head",
            )
        leaves = [merkle.leaf_hash(body) for body in bodies]
        overlap = min(len(bodies), size - first + 1)
        self._compare(known, first, bodies[:overlap], leaves[:overlap], signed)
        frontier = self._frontier(known, point.size, leaves[overlap:])
        if frontier.root() != point.root:
            raise self._other_root(known, point, signed)
        if known is None:
            known = self._begin(log, laptop, now)
        receipt = note.cosign(point, note.witness_name(f"store:{self.id}"), self._signer.public_key, now, self._signer.sign)
        if point.size > known.size:
            self._mark_revoked(log, laptop, known.size, now)
            self._keep(log, known, frontier, bodies[overlap:], leaves[overlap:], signed, receipt, now)
        else:
            frontier = known.frontier
        return PushReply(
            accepted=len(bodies) - overlap,
            duplicate=overlap,
            size=frontier.size,
            root=frontier.root().hex(),
            receipt=receipt,
            time=now,
        )

    def _compare(self, known: _Log | None, first: int, bodies: Sequence[bytes], leaves: Sequence[bytes], signed: str) -> None:
        """What is sent again must be what is here."""
        if known is None or not leaves:
            return
        kept = self._leaves(known, first - 1, first + len(leaves) - 1)
        for seq, (mine, theirs, body) in enumerate(zip(kept, leaves, bodies, strict=True), first):
            if mine != theirs:
                detail = f"entry {seq} differs from the one known under this number"
                raise _Fork(seq, detail, _evidence(known.note, signed, body))

    def _frontier(self, known: _Log | None, size: int, new: Sequence[bytes]) -> merkle.Frontier:
        """The tree up to `size`, by what is stored here and what is new."""
        if known is None:
            return merkle.Frontier().extend(new)
        if size < known.size:
            return merkle.Frontier().extend(self._leaves(known, 0, size))
        return known.frontier.extend(new)

    def _other_root(self, known: _Log | None, point: note.Checkpoint, signed: str) -> Exception:
        if known is None:
            return _refusal("the entries do not give the root of their checkpoint", "wrong_root")
        # validly signed over entries that all fit: so it is an earlier one, not sent, that is another there
        return _Fork(0, f"another history was signed at size {point.size}", _evidence(known.note, signed, b""))

    def _keep(
        self,
        log: str,
        known: _Log,
        frontier: merkle.Frontier,
        bodies: Sequence[bytes],
        leaves: Sequence[bytes],
        signed: str,
        receipt: str,
        now: float,
    ) -> None:
        execute = self._connection.execute
        batch = execute(
            "INSERT INTO batch (log, first, last, received, note, receipt) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
            (known.row, known.size + 1, frontier.size, now, signed, receipt),
        ).fetchone()[0]
        rows: list[tuple[object, ...]] = []
        for seq, (body, leaf, line) in enumerate(zip(bodies, leaves, _lines(bodies), strict=True), known.size + 1):
            if line is None:
                rows.append((known.row, seq, body, leaf, batch, None, None, None, None, None, None))
                continue
            if line.seq != seq or line.log != log:
                detail = f"entry {seq} calls itself {line.seq} of {line.log[:80]}"
                self._insert_incident("misnumbered", log, seq, detail, body, now)
            status = line.result.status if line.result else None
            rows.append((known.row, seq, body, leaf, batch, line.time, line.device, line.actor, line.phase, line.act, status))
        self._connection.executemany(
            "INSERT INTO entry (log, seq, body, leaf, batch, time, device, actor, phase, act, status)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        execute(
            "UPDATE log SET size = ?, frontier = ?, note = ?, last_received = ? WHERE id = ?",
            (frontier.size, frontier.encode(), signed, now, known.row),
        )

    def _begin(self, log: str, laptop: str, now: float) -> _Log:
        execute = self._connection.execute
        before = execute("SELECT name, size FROM log WHERE laptop = ? ORDER BY id DESC LIMIT 1", (laptop,)).fetchone()
        row = execute(
            "INSERT INTO log (name, laptop, size, frontier, note, last_received) VALUES (?, ?, 0, x'', '', ?) RETURNING id",
            (log, laptop, now),
        ).fetchone()[0]
        if before:
            detail = f"the laptop began a new log; {before[0]} ends at {before[1]}, as far as is known here"
            self._insert_incident("new_epoch", log, 0, detail, b"", now)
        return _Log(row, 0, merkle.Frontier(), "")

    def _mark_revoked(self, log: str, laptop: str, size: int, now: float) -> None:
        """Nothing that was recorded is lost because of who recorded it; but none of it looks like the rest."""
        standing = self.laptops.standing(laptop)
        if standing is not None and standing.revoked is not None:
            detail = (
                f"entries from {size + 1} on came after the laptop was revoked{f': {standing.reason}' * bool(standing.reason)}"
            )
            self._insert_incident("after_revocation", log, size + 1, detail, b"", now)

    def _log(self, log: str) -> _Log | None:
        row = self._connection.execute("SELECT id, size, frontier, note FROM log WHERE name = ?", (log,)).fetchone()
        return _Log(row[0], row[1], merkle.Frontier.decode(row[1], row[2]), row[3]) if row else None

    def _leaves(self, known: _Log, after: int, upto: int) -> list[bytes]:
        query = "SELECT leaf FROM entry WHERE log = ? AND seq > ? AND seq <= ? ORDER BY seq"
        return [bytes(row[0]) for row in self._connection.execute(query, (known.row, after, upto))]

    def take_telemetry(self, laptop: str, data: bytes) -> TelemetryReply:
        """Raises StoreFault: unlike the record of what was done, counts are not taken from a revoked laptop."""
        with database.faults(self._path):
            public_key = self.laptops.key(laptop)
            standing = self.laptops.standing(laptop)
        if standing is not None and standing.revoked is not None:
            raise StoreFault("this laptop was revoked here", reason="revoked", next_step="ask the store's owner")
        return self.telemetry.take(data, laptop, public_key)

    # --- incidents -----------------------------------------------------------------------------------------------------

    def _open_incident(self, kind: str, log: str, seq: int, detail: str, evidence: bytes) -> None:
        with database.transaction(self._connection):
            self._insert_incident(kind, log, seq, detail, evidence, self._clock.now())

    def _insert_incident(self, kind: str, log: str, seq: int, detail: str, evidence: bytes, now: float) -> None:
        """The same evidence again opens no second one."""
        self._connection.execute(
            "INSERT OR IGNORE INTO incident (kind, log, seq, digest, opened, detail, evidence) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (kind, log, seq, hashlib.sha256(evidence).digest(), now, detail, evidence),
        )

    def _forked(self, log: str) -> bool:
        query = "SELECT 1 FROM incident WHERE kind = 'fork' AND log = ? LIMIT 1"
        return self._connection.execute(query, (log,)).fetchone() is not None

    # --- reading -----------------------------------------------------------------------------------------------------------

    def logs(self) -> list[LogLine]:
        """All logs, the one heard of last first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT name, size, frontier, last_received, revoked IS NOT NULL FROM log"
                " LEFT JOIN enrolment ON enrolment.laptop = log.laptop ORDER BY last_received DESC, id"
            ).fetchall()
            return [
                LogLine(name, size, merkle.Frontier.decode(size, nodes).root().hex(), received, self._forked(name), bool(revoked))
                for name, size, nodes, received, revoked in rows
            ]

    def newest(self, limit: int = 100) -> list[EntryLine]:
        """The entries received last, newest first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT log.name, entry.seq, batch.received, entry.time, device, actor, phase, act, status FROM entry"
                " JOIN log ON log.id = entry.log JOIN batch ON batch.id = entry.batch ORDER BY entry.id DESC LIMIT ?",
                (limit,),
            )
            return [EntryLine(*row) for row in rows]

    def entries(self, log: str, after: int = 0, limit: int = 1000) -> list[bytes]:
        """The exact bytes of a log's entries with seq > after, oldest first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT body FROM entry JOIN log ON log.id = entry.log WHERE log.name = ? AND seq > ? ORDER BY seq LIMIT ?",
                (log, after, limit),
            )
            return [bytes(row[0]) for row in rows]

    def incidents(self, limit: int = 100) -> list[Incident]:
        """Newest first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT kind, log, seq, opened, detail FROM incident ORDER BY id DESC LIMIT ?", (limit,)
            )
            return [Incident(*row) for row in rows]

    def verify(self) -> list[str]:
        """What does not hold, over all logs, computed from the bytes; empty when all is as the laptops signed it."""
        problems: list[str] = []
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT log.id, name, size, note, public_key FROM log JOIN laptop ON laptop.id = log.laptop ORDER BY log.id"
            ).fetchall()
            for row, name, size, signed, public_key in rows:
                problems += [f"{name}: {problem}" for problem in self._verify_log(row, name, size, signed, public_key)]
        return problems

    def _verify_log(self, row: int, name: str, size: int, signed: str, public_key: bytes) -> list[str]:
        frontier = merkle.Frontier()
        query = "SELECT seq, body FROM entry WHERE log = ? ORDER BY seq"
        for place, (seq, body) in enumerate(self._connection.execute(query, (row,)), 1):
            if seq != place:
                return [f"entry {place} is missing"]
            frontier = frontier.append(merkle.leaf_hash(bytes(body)))
        try:
            point = note.open_checkpoint(signed, bytes(public_key), verify)
        except UsageFault as error:
            return [error.message]
        if (point.origin, point.size, point.root) != (name, frontier.size, frontier.root()):
            return [f"{frontier.size} entries do not give what was signed at size {point.size}"]
        return [] if size == frontier.size else [f"the head says {size} entries, there are {frontier.size}"]


class _Fork(Exception):
    """Ends the transaction, so that nothing of the push stays; then the incident is written in one of its own."""

    def __init__(self, seq: int, detail: str, evidence: bytes) -> None:
        super().__init__(detail)
        self.seq = seq
        self.detail = detail
        self.evidence = evidence


def _evidence(ours: str, theirs: str, body: bytes) -> bytes:
    """Two notes under one key over histories that cannot both be true prove the fork to anybody."""
    return msgspec.json.encode({"known": ours, "offered": theirs, "entry": b64(body)})


def _origin(log: str) -> tuple[str, int]:
    try:
        return note.parse_origin(log)
    except UsageFault as error:
        raise _refusal(error.message, "malformed") from error


def _opened(signed: str, public_key: bytes, log: str) -> note.Checkpoint:
    try:
        point = note.open_checkpoint(signed, public_key, verify)
    except UsageFault as error:
        raise _refusal(error.message, error.reason) from error
    if point.origin != log:
        raise _refusal(f"the checkpoint is of another log, {point.origin[:80]}", "wrong_checkpoint")
    return point


def _check_shape(first: int, bodies: Sequence[bytes]) -> None:
    if first < 1 or not bodies:
        raise _refusal("a push is one entry or more, from 1 on", "malformed")
    if len(bodies) > BATCH_ENTRIES:
        raise _refusal(f"{len(bodies)} entries in one push; the limit is {BATCH_ENTRIES}", "too_large")
    for seq, body in enumerate(bodies, first):
        if not body:
            raise _refusal(f"entry {seq} is empty", "malformed")
        if len(body) > ENTRY_LIMIT:
            raise _refusal(f"entry {seq} has {len(body)} bytes; the limit is {ENTRY_LIMIT}", "entry_too_large")


def _lines(bodies: Sequence[bytes]) -> Iterator[_Line | None]:
    """None: not readable by this version. Body by body: joined, one body could pass for a part of another."""
    decode = decoder(_Line).decode
    for body in bodies:
        try:
            yield decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield None


def _refusal(message: str, reason: str) -> StoreFault:
    return StoreFault(message, reason=reason, next_step="update fieldops on the laptop, then sync again; its entries stay queued")

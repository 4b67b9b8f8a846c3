"""Which laptops the store takes anything from: let in once by a one-time code, shown out by the owner.

A code is the first letters of the store's id and a secret: the laptop checks by it that it speaks with that store before it
says the secret, and the store keeps the secret's hash alone. What a revoked laptop recorded is still taken, and marked.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from fieldops.edges import database
from fieldops.edges.keys import open_envelope
from fieldops.errors import FieldopsError, StoreFault, UsageFault
from fieldops.fleet import key_id
from fieldops.ports import Clock
from fieldops.wire import (
    ENROL_PAYLOAD_TYPE,
    ENVELOPE_LIMIT,
    STORE_LETTERS,
    VERSION,
    Envelope,
    StoreEnrol,
    StoreEnrolled,
    decode_signed,
    unb64,
)

SECRET_BYTES = 15  # 24 letters; nobody tries 2^120 of them
SHORTEST_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Invite:
    """code: said once, to the person who asked for it."""

    code: str
    expires: float


@dataclass(frozen=True, slots=True)
class LaptopLine:
    """A laptop that was let in. revoked: Unix seconds; None while it may push."""

    id: str
    label: str
    enrolled: float
    revoked: float | None
    reason: str


class Laptops:
    """Part of LogStore: same connection, same thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, store: str, clock: Clock) -> None:
        self._path = path
        self._connection = connection
        self._store = store
        self._clock = clock

    def invite(self, valid_s: float, label: str = "") -> Invite:
        """Durable when it returns. Raises StorageFault."""
        secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii").lower()
        now = self._clock.now()
        with database.faults(self._path), database.transaction(self._connection):
            self._connection.execute(
                "INSERT INTO invite (hash, label, created, expires) VALUES (?, ?, ?, ?)",
                (_hash(secret), label, now, now + valid_s),
            )
        return Invite(f"{self._store[:STORE_LETTERS]}-{secret}", now + valid_s)

    def enrol(self, data: bytes) -> StoreEnrolled:
        """data: the envelope of POST /v1/enrol. The same laptop with the same code again changes nothing. Raises StoreFault."""
        request, public_key = _opened(data)
        laptop = key_id(public_key)
        if request.store != self._store:
            raise _refused("the request is for another store", "other_store", "check the store's address")
        now = self._clock.now()
        with database.faults(self._path), database.transaction(self._connection):
            known = self.standing(laptop)
            if known is not None and known.revoked is not None:
                raise _refused("this laptop was revoked here", "revoked", "ask the store's owner")
            label = self._redeem(request.code, laptop, now)
            self._connection.execute("INSERT OR IGNORE INTO laptop VALUES (?, ?, ?)", (laptop, public_key, now))
            self._connection.execute(
                "INSERT OR IGNORE INTO enrolment (laptop, label, enrolled) VALUES (?, ?, ?)",
                (laptop, label or request.label[:80], now),
            )
        return StoreEnrolled(store=self._store, laptop=laptop, enrolled=known.enrolled if known else now)

    def _redeem(self, code: str, laptop: str, now: float) -> str:
        """Use the code up; its label."""
        _, _, secret = code.partition("-")
        execute = self._connection.execute
        row = execute("SELECT label, expires, laptop FROM invite WHERE hash = ?", (_hash(secret),)).fetchone()
        again = "ask the store's owner for a new code: `fieldops central invite`"
        if row is None:
            raise _refused("no such code", "unknown_code", again)
        label, expires, user = row
        if user == laptop:
            return str(label)  # its first answer was lost on the way
        if user is not None:
            raise _refused("the code was used already", "used_code", again)
        if now >= expires:
            raise _refused("the code has expired", "expired_code", again)
        execute("UPDATE invite SET laptop = ?, used = ? WHERE hash = ?", (laptop, now, _hash(secret)))
        return str(label)

    def revoke(self, which: str, reason: str) -> LaptopLine:
        """which: an id or its beginning. Raises UsageFault where it names none or several."""
        found = [line for line in self.all() if line.id.startswith(which)] if len(which) >= SHORTEST_PREFIX else []
        if len(found) != 1:
            raise UsageFault(
                f"{which!r} names {len(found)} laptops of this store",
                reason="unknown_laptop",
                next_step="give its id, or six letters or more of its beginning, as `fieldops central laptops` shows it",
            )
        with database.faults(self._path), database.transaction(self._connection):
            self._connection.execute(
                "UPDATE enrolment SET revoked = ?, reason = ? WHERE laptop = ? AND revoked IS NULL",
                (self._clock.now(), reason, found[0].id),
            )
        return next(line for line in self.all() if line.id == found[0].id)

    def all(self) -> list[LaptopLine]:
        """Newest first."""
        with database.faults(self._path):
            rows = self._connection.execute(
                "SELECT laptop, label, enrolled, revoked, reason FROM enrolment ORDER BY enrolled DESC, laptop"
            )
            return [LaptopLine(*row) for row in rows]

    def standing(self, laptop: str) -> LaptopLine | None:
        """None: never let in."""
        row = self._connection.execute(
            "SELECT laptop, label, enrolled, revoked, reason FROM enrolment WHERE laptop = ?", (laptop,)
        ).fetchone()
        return LaptopLine(*row) if row else None

    def key(self, laptop: str) -> bytes:
        """Raises StoreFault (not_enrolled)."""
        row = self._connection.execute(
            "SELECT public_key FROM laptop JOIN enrolment ON laptop = id WHERE id = ?", (laptop,)
        ).fetchone()
        if row is None:
            raise _refused(
                "this laptop is not enrolled at this store",
                "not_enrolled",
                "ask the store's owner for a code, then `fieldops central enrol URL CODE`; entries stay queued",
            )
        return bytes(row[0])


def _opened(data: bytes) -> tuple[StoreEnrol, bytes]:
    """(request, its key), once signed by the key that it carries: whoever asks to be let in has that key."""
    try:
        envelope = decode_signed(data, Envelope, what="envelope", limit=ENVELOPE_LIMIT)
        carried = decode_signed(unb64(envelope.payload), StoreEnrol, what="request", limit=ENVELOPE_LIMIT)
        public_key = unb64(carried.public_key)
        open_envelope(data, public_key, ENROL_PAYLOAD_TYPE)
    except (FieldopsError, ValueError) as error:
        raise _refused(str(error), "malformed", "update fieldops on the laptop, then try again") from error
    if carried.v != VERSION or len(public_key) != 32:
        raise _refused("a request of another version", "malformed", "update the older of the two")
    return carried, public_key


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.strip().lower().encode("utf-8")).digest()


def _refused(message: str, reason: str, next_step: str) -> StoreFault:
    return StoreFault(message, reason=reason, next_step=next_step)

"""The store's tables, and what makes them of an older version's."""

from __future__ import annotations

VERSION = 2

# who may push; how many times a one-time code was given is one row each, and of the code only its hash is kept
_ENROLMENT = (
    (
        "CREATE TABLE invite (hash BLOB PRIMARY KEY, label TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,"
        " laptop TEXT, used REAL) STRICT"
    ),
    (
        "CREATE TABLE enrolment (laptop TEXT PRIMARY KEY REFERENCES laptop(id), label TEXT NOT NULL, enrolled REAL NOT NULL,"
        " revoked REAL, reason TEXT NOT NULL DEFAULT '') STRICT"
    ),
)
# A ring is one file of one device; its records are numbered from 1, so what is missing shows by itself.
_TELEMETRY = (
    (
        "CREATE TABLE ring (id INTEGER PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, set_aside INTEGER NOT NULL,"
        " laptop TEXT NOT NULL, received REAL NOT NULL, UNIQUE (device, name)) STRICT"
    ),
    (
        "CREATE TABLE record (ring INTEGER NOT NULL REFERENCES ring(id), seq INTEGER NOT NULL, ended REAL, body BLOB NOT NULL,"
        " laptop TEXT NOT NULL, received REAL NOT NULL, PRIMARY KEY (ring, seq)) STRICT, WITHOUT ROWID"
    ),
    (
        "CREATE TABLE gap (ring INTEGER NOT NULL REFERENCES ring(id), after INTEGER NOT NULL, upto INTEGER NOT NULL,"
        " why TEXT NOT NULL, laptop TEXT NOT NULL, PRIMARY KEY (ring, after, upto, why)) STRICT, WITHOUT ROWID"
    ),
)
SCHEMA = (
    "CREATE TABLE laptop (id TEXT PRIMARY KEY, public_key BLOB NOT NULL, first_seen REAL NOT NULL) STRICT",
    (
        "CREATE TABLE log (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, laptop TEXT NOT NULL REFERENCES laptop(id),"
        " size INTEGER NOT NULL, frontier BLOB NOT NULL, note TEXT NOT NULL, last_received REAL NOT NULL) STRICT"
    ),
    (
        "CREATE TABLE batch (id INTEGER PRIMARY KEY, log INTEGER NOT NULL REFERENCES log(id), first INTEGER NOT NULL,"
        " last INTEGER NOT NULL, received REAL NOT NULL, note TEXT NOT NULL, receipt TEXT NOT NULL) STRICT"
    ),
    # device to status are read from the body where it can be read; time is what the laptop's clock claimed
    (
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, log INTEGER NOT NULL REFERENCES log(id), seq INTEGER NOT NULL,"
        " body BLOB NOT NULL, leaf BLOB NOT NULL, batch INTEGER NOT NULL REFERENCES batch(id), time REAL, device TEXT,"
        " actor TEXT, phase TEXT, act TEXT, status TEXT, UNIQUE (log, seq)) STRICT"
    ),
    "CREATE INDEX entry_of_device ON entry (device, time, log, seq) WHERE device <> ''",
    (
        "CREATE TABLE incident (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, log TEXT NOT NULL, seq INTEGER NOT NULL,"
        " digest BLOB NOT NULL, opened REAL NOT NULL, detail TEXT NOT NULL, evidence BLOB NOT NULL,"
        " UNIQUE (kind, log, seq, digest)) STRICT"
    ),
    *(
        f"CREATE TRIGGER {table}_is_never_{word}d BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'kept as received'); END"
        for table in ("entry", "batch", "incident")
        for verb, word in (("UPDATE", "change"), ("DELETE", "delete"))
    ),
    *_ENROLMENT,
    *_TELEMETRY,
)
UPGRADES = {
    # Version 1 took any laptop; those it knows go on, and the store's owner can see and revoke them.
    1: (
        *_ENROLMENT,
        *_TELEMETRY,
        "INSERT INTO enrolment (laptop, label, enrolled) SELECT id, 'known before codes', first_seen FROM laptop",
    ),
}

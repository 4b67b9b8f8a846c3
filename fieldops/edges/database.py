"""SQLite as journals need it: WAL, every commit on disk when it returns, a schema version, and faults with a next step."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from fieldops.edges.disk import Written, make_folder, performing, storage_faults, sync_folder
from fieldops.edges.operation import Operation
from fieldops.errors import StorageFault

BUSY_S = 10.0  # an append takes milliseconds; who waits this long waits for a process that hangs
_RETRY_S = 0.02
_COMMIT = Operation("commit", Path("database"))


def connect(path: Path) -> sqlite3.Connection:
    """Open, or create with mode 0600. Raises StorageFault. Used by several threads only under the caller's own lock."""
    with storage_faults(path):
        if not path.exists():
            make_folder(path.parent)
            with Written.append(path):  # O_CREAT alone: another process may be faster
                pass
            sync_folder(path.parent)
    with faults(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _durable(connection)
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def _durable(connection: sqlite3.Connection) -> None:
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # two processes that make the file at once: SQLite does not wait by itself for this change
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            threading.Event().wait(_RETRY_S)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 200")
    connection.execute("PRAGMA journal_size_limit = 1048576")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One writer at a time, from the first read to the commit; after any error nothing of it is there."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        with performing(_COMMIT):
            connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has ended it by itself after some errors
            connection.execute("ROLLBACK")
        raise


def prepare(
    connection: sqlite3.Connection,
    path: Path,
    schema: Sequence[str],
    version: int,
    upgrades: Mapping[int, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Make the tables in an empty file; bring an older file up to `version`; refuse one of a later. Raises StorageFault.

    upgrades: version -> what makes the next one of it; all of them in one transaction.
    """
    found = schema_version(connection)
    if found is None:
        with transaction(connection):
            if schema_version(connection) is None:  # another process may have been faster
                for statement in schema:
                    connection.execute(statement)
                connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT")
                connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
        found = schema_version(connection)
    if found is None or found > version:
        raise StorageFault(
            f"{path} was written by a later fieldops (schema {found}; this one knows {version})",
            reason="newer_schema",
            next_step="update fieldops on this machine; the file is left as it is",
        )
    if found < version:
        with transaction(connection):
            found = schema_version(connection) or found  # another process may have been faster
            for step in range(found, version):
                for statement in upgrades[step]:
                    connection.execute(statement)
                connection.execute("INSERT INTO schema_version VALUES (?)", (step + 1,))


def schema_version(connection: sqlite3.Connection) -> int | None:
    """None: nothing was ever made in this file."""
    named = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'").fetchone()[0]
    if not named:
        return None
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0]) if row[0] is not None else None


_FULL = {sqlite3.SQLITE_FULL}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CLOSED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH}


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the higher bits only say which system call it was."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """An SQLite error as a StorageFault that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: sqlite3.Error) -> StorageFault:
    code = _code(error)
    said = f"{path}: {error}"
    if code in _FULL:
        return StorageFault(
            said,
            reason="disk_full",
            next_step=f"free some space on the disk of {path.parent}, then try again; nothing was changed",
        )
    if code in _BUSY:
        return StorageFault(said, reason="in_use", next_step="another process has held it too long; end that one, then try again")
    if code in _CORRUPT or isinstance(error, sqlite3.IntegrityError) or "no such table" in str(error):
        return StorageFault(
            said,
            reason="corrupt",
            next_step=f"keep {path.name} as it is (evidence), copy it aside with its -wal file, and start with a new one",
        )
    if code in _CLOSED:
        return StorageFault(said, reason="unreadable", next_step=f"mend the permissions of {path} and its folder, then try again")
    return StorageFault(said, reason="io_error", next_step=f"check the disk of {path.parent}")

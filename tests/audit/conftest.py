"""A laptop's log in a temporary folder, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fieldops.audit.entry import Draft, Result
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer


@dataclass
class HandClock:
    """Implements ports.Clock; stands still unless moved."""

    at: float = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - 1_600_000_000.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def signer() -> Ed25519Signer:
    return Ed25519Signer.generate()


@pytest.fixture
def open_journal(tmp_path: Path, signer: Ed25519Signer, clock: HandClock) -> Iterator[Callable[..., SqliteJournal]]:
    opened: list[SqliteJournal] = []

    def make(path: Path = tmp_path / "audit.db", key: Ed25519Signer = signer) -> SqliteJournal:
        opened.append(SqliteJournal.open(path, lambda: key, clock))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[..., SqliteJournal]) -> SqliteJournal:
    return open_journal()


@pytest.fixture
def visit(journal: SqliteJournal) -> SqliteJournal:
    """A log of ten entries: a note, four changes with their outcomes, an intent left open."""
    journal.append(Draft(actor="local:kim", phase="note", act="stick.verify"))
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        intent = journal.append(Draft(actor="local:kim", phase="intent", act="Activate", reason=f"try {version}"))
        journal.append(Draft(actor="local:kim", phase="outcome", act="Activate", of=intent.seq, result=Result(status="done")))
    journal.append(Draft(actor="local:kim", phase="intent", act="Commit"))
    return journal

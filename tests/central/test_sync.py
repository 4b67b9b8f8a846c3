"""Sync against a store that loses answers, is put back from a backup, knows more, or knows something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.errors import CheckFailed, StoreFault
from fieldops.operations import sync, trail
from fieldops.ports import Head, Progress, Receipt, StoreIdentity
from fieldops.wire import TelemetryPart, TelemetryReply, unb64


@dataclass
class NearStore:
    """Implements ports.Store in this process. faults: one a push, from the left: "" (none), before (the request is lost),
    after (the answer is lost), large (a proxy refuses its size)."""

    store: LogStore
    faults: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def identity(self, deadline: Deadline) -> StoreIdentity:
        info = self.store.info()
        return StoreIdentity(info.store, unb64(info.public_key))

    def head(self, log: str, deadline: Deadline) -> Head:
        head = self.store.head(log)
        return Head(head.size, head.root)

    def push(self, log: str, first: int, entries: Iterable[bytes], checkpoint: str, deadline: Deadline) -> Receipt:
        fault = self.faults.pop(0) if self.faults else ""
        bodies = list(entries)
        if fault == "large":
            raise StoreFault("413", reason="too_large", next_step="")
        if fault == "before":
            raise StoreFault("gone", reason="unreachable", next_step="")
        reply = self.store.push(log, first, bodies, checkpoint)
        self.sent.append(len(bodies))
        if fault == "after":
            raise StoreFault("gone", reason="unreachable", next_step="")
        return Receipt(first + len(bodies) - 1, reply.root, reply.receipt, reply.accepted, reply.duplicate)

    def bring(self, parts: list[TelemetryPart], deadline: Deadline) -> TelemetryReply:
        raise AssertionError("no telemetry in these tests")


@pytest.fixture
def near(store: LogStore, laptop: Any) -> NearStore:
    laptop.let_in(store)
    return NearStore(store)


def test_what_is_queued_is_told_without_asking_anybody(laptop: Any, near: NearStore, clock: Any, deadline: Deadline) -> None:
    assert sync.status(laptop.journal) == sync.SyncStatus(0, 0, 0, None)
    laptop.write("a")
    laptop.clock.at += 50
    laptop.write("b")
    assert sync.status(laptop.journal) == sync.SyncStatus(2, 0, 2, 1_700_000_000.0)
    sync.push(laptop.journal, near, clock, deadline)
    assert sync.status(laptop.journal) == sync.SyncStatus(2, 2, 0, None)
    laptop.write("c")
    assert sync.status(laptop.journal) == sync.SyncStatus(3, 2, 1, 1_700_000_050.0)


def test_everything_arrives_once_and_a_second_sync_sends_nothing(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline
) -> None:
    laptop.write(*map(str, range(1603)))
    seen: list[Progress] = []
    report = sync.push(laptop.journal, near, clock, deadline, seen.append)
    assert (report.pushed, report.duplicate, report.size, report.lost) == (1603, 0, 1603, 0)
    assert report.root == laptop.journal.root().hex()
    assert near.sent == [500, 1000, 103]
    assert seen[-1] == Progress("entries", 1603, 1603)
    again = sync.push(laptop.journal, near, clock, deadline)
    assert (again.pushed, again.duplicate, near.sent) == (0, 0, [500, 1000, 103])
    assert near.store.entries(laptop.journal.log, 0, 2000) == laptop.bodies()


def test_an_empty_log_is_in_sync(laptop: Any, near: NearStore, clock: Any, deadline: Deadline) -> None:
    assert sync.push(laptop.journal, near, clock, deadline).size == 0
    assert near.sent == []


@pytest.mark.parametrize("faults", [["before"], ["after"], ["", "before"], ["", "after"], ["after", "before", "after"]])
def test_lost_requests_and_answers_lose_and_double_nothing(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, faults: list[str]
) -> None:
    laptop.write(*map(str, range(700)))
    near.faults = list(faults)
    for _ in range(len(faults)):
        if near.faults:
            with pytest.raises(StoreFault):
                sync.push(laptop.journal, near, clock, deadline)
    report = sync.push(laptop.journal, near, clock, deadline)
    assert report.size == 700
    assert near.store.entries(laptop.journal.log) == laptop.bodies()
    assert sync.status(laptop.journal).queued == 0
    assert trail.verify(laptop.journal).witnesses == (f"store:{near.store.id} up to 700",)
    assert near.store.incidents() == []


def test_batches_shrink_until_they_pass(laptop: Any, near: NearStore, clock: Any, deadline: Deadline) -> None:
    laptop.write(*map(str, range(20)))
    near.faults = ["large", "large"]
    assert sync.push(laptop.journal, near, clock, deadline).pushed == 20
    assert near.sent == [5, 5, 5, 5]


def test_one_entry_that_is_too_large_is_the_stores_refusal(laptop: Any, near: NearStore, clock: Any, deadline: Deadline) -> None:
    laptop.write("a")
    near.faults = ["large"]
    with pytest.raises(StoreFault) as refused:
        sync.push(laptop.journal, near, clock, deadline)
    assert refused.value.reason == "too_large"


def test_batches_keep_below_a_size_in_bytes(laptop: Any, near: NearStore, clock: Any, deadline: Deadline) -> None:
    for number in range(50):
        laptop.write(str(number), size=60_000)
    sync.push(laptop.journal, near, clock, deadline)
    assert sum(near.sent) == 50
    assert max(near.sent) * 60_000 < sync.BATCH_BYTES


def test_a_store_put_back_from_a_backup_gets_everything_again(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, tmp_path: Path
) -> None:
    laptop.write("a", "b")
    sync.push(laptop.journal, near, clock, deadline)
    near.store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    later = LogStore.open(tmp_path / "store", clock)
    laptop.write("c", "d", "e")
    sync.push(laptop.journal, NearStore(later), clock, deadline)
    later.close()
    restored = LogStore.open(tmp_path / "backup", clock)
    report = sync.push(laptop.journal, NearStore(restored), clock, deadline)
    assert (report.pushed, report.size, report.lost) == (3, 5, 3)
    assert restored.entries(laptop.journal.log) == laptop.bodies()
    restored.close()


def test_a_laptop_put_back_from_a_backup_is_told_and_sends_nothing(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, tmp_path: Path
) -> None:
    laptop.write("a")
    laptop.journal.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "old.db")
    laptop.write("b")
    sync.push(laptop.journal, near, clock, deadline)
    old = laptop.reopen(tmp_path / "old.db")
    with pytest.raises(CheckFailed) as refused:
        sync.push(old.journal, near, clock, deadline)
    assert (refused.value.reason, refused.value.exit_code) == ("truncated", 7)
    old.journal.close()


@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_cloned_laptop_is_a_fork_that_the_store_keeps_evidence_of(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, tmp_path: Path, more: int
) -> None:
    laptop.write("a", "b")
    laptop.journal.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "clone.db")
    clone = laptop.reopen(tmp_path / "clone.db")
    laptop.write("mine")
    clone.write("theirs", *["more"] * more)
    sync.push(laptop.journal, near, clock, deadline)
    with pytest.raises(CheckFailed) as refused:
        sync.push(clone.journal, near, clock, deadline)
    assert refused.value.reason == "fork"
    assert [(found.kind, found.seq) for found in near.store.incidents()] == [("fork", 3)]
    assert near.store.entries(laptop.journal.log) == laptop.bodies()
    clone.journal.close()


def test_two_pushers_at_once_end_in_the_same_state(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, tmp_path: Path, new_laptop: Callable[[Path], Any]
) -> None:
    laptop.write(*map(str, range(10)))
    head = near.head(laptop.journal.log, deadline)
    second = laptop.reopen(tmp_path / "audit.db")  # another process of this home
    sync.push(second.journal, near, clock, deadline)
    bodies = laptop.bodies(head.size)
    receipt = near.push(laptop.journal.log, head.size + 1, bodies, laptop.journal.checkpoint(), deadline)
    assert (receipt.accepted, receipt.duplicate) == (0, 10)
    assert near.store.incidents() == []
    second.journal.close()


def test_moving_to_another_store_sends_everything_there(
    laptop: Any, near: NearStore, clock: Any, deadline: Deadline, tmp_path: Path
) -> None:
    laptop.write("a", "b")
    sync.push(laptop.journal, near, clock, deadline)
    other = LogStore.open(tmp_path / "other", clock)
    laptop.let_in(other)
    report = sync.push(laptop.journal, NearStore(other), clock, deadline)
    assert (report.pushed, report.lost) == (2, 0)
    assert len(trail.verify(laptop.journal).witnesses) == 2
    other.close()

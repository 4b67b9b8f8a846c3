"""Bring the log to the central store, and after it what devices counted. The store's head is the cursor; what this laptop remembers of it is only checked.

Nothing is lost or doubled: the store takes an entry once, compares what it has already, and answers after its commit with a
receipt that is kept. The caller holds the `sync` lock of the home.
"""

from __future__ import annotations

from dataclasses import dataclass

from fieldops.audit import note
from fieldops.deadline import Deadline
from fieldops.errors import CheckFailed, StoreFault
from fieldops.operations.telemetry import Shelf, bring
from fieldops.ports import Clock, Head, Journal, OnProgress, Progress, Receipt, Store, Trail

BATCH_ENTRIES = 500  # of the first batch; each that passes whole lets the next be twice as large, up to
MOST_ENTRIES = 2000
BATCH_BYTES = 2 << 20
_TURNS = 3  # how often another pusher or a store put back from a backup may change the head meanwhile


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """As this laptop remembers it. oldest: Unix seconds of the oldest entry no store confirmed; None when none is queued."""

    size: int
    acked: int
    queued: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class SyncReport:
    """size, root (hex): what the store confirmed. lost: entries it had confirmed before and did not hold any more; resent."""

    pushed: int
    duplicate: int
    size: int
    root: str
    confirmed: float  # Unix seconds by this laptop's clock
    lost: int = 0
    telemetry: int = 0  # records that were new to the store


def status(journal: Journal) -> SyncStatus:
    """Asks nobody."""
    size = journal.size()
    acked = min(journal.cosigned_size("store:"), size)
    queued = journal.read(acked, 1)
    return SyncStatus(size=size, acked=acked, queued=size - acked, oldest=queued[0][0].time if queued else None)


def push(
    journal: Trail,
    store: Store,
    clock: Clock,
    deadline: Deadline,
    progress: OnProgress | None = None,
    *,
    shelf: Shelf | None = None,
) -> SyncReport:
    """Send what the store has not: the log first, then telemetry. Repeat at will.

    Raises StoreFault (the entries stay queued), or CheckFailed: fork (the store holds another history under this name) or
    truncated (it holds more than this laptop: an older copy of the home was put back).
    """
    identity = store.identity(deadline)
    witness = f"store:{identity.id}"
    journal.know_witness(witness, identity.public_key)
    run = _Push(journal, store, deadline, progress, witness)
    size = journal.size()
    before = journal.cosigned_size(witness)
    lost = 0
    for turn in range(_TURNS):
        head = store.head(journal.log, deadline)
        if turn == 0:
            lost = max(0, min(before, size) - head.size)
        run.agree(head, size)
        try:
            run.send(head.size, size)
            break
        except CheckFailed as error:
            if error.reason != "gap" or turn == _TURNS - 1:
                raise
    root = note.parse_checkpoint(journal.checkpoint_at(size)).root.hex()
    telemetry = 0
    if shelf is not None:
        if lost:
            shelf.resend()
        telemetry = bring(shelf, store, deadline, progress).records
    return SyncReport(run.pushed, run.duplicate, size, root, clock.now(), lost, telemetry)


class _Push:
    def __init__(self, journal: Trail, store: Store, deadline: Deadline, progress: OnProgress | None, witness: str) -> None:
        self.journal = journal
        self.store = store
        self.deadline = deadline
        self.progress = progress
        self.witness = witness
        self.batch = BATCH_ENTRIES
        self.most = MOST_ENTRIES
        self.pushed = 0
        self.duplicate = 0

    def agree(self, head: Head, size: int) -> None:
        """The store's history must be a beginning of ours."""
        if head.size > size:
            raise CheckFailed(
                f"the store holds {head.size} entries of this log, this laptop only {size}: an older copy was put back here",
                reason="truncated",
                next_step="restore the newest audit.db; if it is lost, move this one aside so that a new log begins",
            )
        if head.size and note.parse_checkpoint(self.journal.checkpoint_at(head.size)).root.hex() != head.root:
            self._send_one(max(0, head.size - self.batch), head.size)  # the store keeps both as evidence, and refuses
            raise CheckFailed(
                f"the store holds another history of this log at size {head.size}",
                reason="fork",
                next_step="move audit.db aside, unchanged, so that a new log begins; find out where a copy of this home was used",
            )

    def send(self, at: int, size: int) -> None:
        if at == size and size and self.journal.cosigned_size(self.witness) < size:
            at -= 1  # its answer never reached us: the last entry again brings the receipt again
        start = at
        while at < size:
            self.deadline.check("the central store")
            at = self._send_one(at, size).size
            if self.progress:
                self.progress(Progress("entries", at - start, size - start))

    def _send_one(self, at: int, size: int) -> Receipt:
        while True:
            bodies = self._bodies(at, size)
            try:
                upto = at + len(bodies)
                receipt = self.store.push(self.journal.log, at + 1, bodies, self.journal.checkpoint_at(upto), self.deadline)
            except StoreFault as error:
                if error.reason != "too_large" or len(bodies) == 1:
                    raise
                self.batch = self.most = max(1, len(bodies) // 2)
                continue
            self.journal.note_cosignature(self.witness, upto, receipt.line)
            if len(bodies) == self.batch:
                self.batch = min(2 * self.batch, self.most)
            self.pushed += receipt.accepted
            self.duplicate += receipt.duplicate
            return receipt

    def _bodies(self, at: int, size: int) -> list[bytes]:
        bodies: list[bytes] = []
        total = 0
        for _, body, _ in self.journal.raw(at, min(self.batch, size - at)):
            total += len(body)
            if bodies and total > BATCH_BYTES:
                break
            bodies.append(body)
        return bodies

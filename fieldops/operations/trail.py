"""Is the log what it was? Everything is computed again from the bytes; nothing the file says of itself is believed.

What each check finds: an entry changed, dropped, swapped or renumbered (its bytes no longer give the signed root); the tail
cut off or an older copy put back (a device or the store cosigned more than there is); a rewrite signed with the stolen
laptop key (a witness cosigned another root). Nobody can find entries cut off that no witness ever saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from fieldops.audit import merkle, note
from fieldops.audit.entry import Entry, decode_entry
from fieldops.errors import UsageFault
from fieldops.fleet import key_id

if TYPE_CHECKING:
    from fieldops.ports import Journal, Trail, Witnessed

_PAGE = 2000
_FIRST = -(1 << 62)  # a forged row may stand below 1
MOST_PROBLEMS = 50
_WINDOW = 32  # entries that others may have appended between an intent and its envelope


@dataclass(frozen=True, slots=True)
class TrailReport:
    """problems: what is wrong, most telling first; empty when ok. root: hex, computed from the bytes. log "": none began yet.

    witnesses: who cosigned this history and up to which size. unchecked: cosignatures whose key this laptop does not know.
    """

    ok: bool
    log: str
    size: int
    root: str
    problems: tuple[str, ...]
    witnesses: tuple[str, ...] = ()
    unchecked: int = 0


@dataclass(slots=True)
class _Walk:
    """The tree as the bytes give it, and what did not fit on the way."""

    log: str
    frontier: merkle.Frontier = field(default_factory=merkle.Frontier)
    intents: set[int] = field(default_factory=set)
    roots: dict[int, bytes] = field(default_factory=dict)  # at the sizes that witnesses saw
    problems: list[str] = field(default_factory=list)


def verify(journal: Trail, evidence: Sequence[Witnessed] = ()) -> TrailReport:
    """Verify the whole log. evidence: cosignatures brought from elsewhere (a device's journal, the store), beside those kept.

    Raises StorageFault when the file cannot be read at all.
    """
    if not evidence and journal.size() == 0 and not journal.raw(_FIRST, 1):  # asking a log that never began must not begin it
        return TrailReport(ok=True, log="", size=0, root=merkle.EMPTY_ROOT.hex(), problems=())
    walk = _Walk(journal.log)
    seen = [*journal.witnessed(), *evidence]
    _walk(journal, walk, {found.size for found in seen})
    size, root = walk.frontier.size, walk.frontier.root()
    witnesses, disagreeing = _judge_witnesses(journal, walk, seen)
    problems = [*_judge_checkpoint(journal, note.Checkpoint(walk.log, size, root)), *disagreeing, *walk.problems]
    return TrailReport(
        ok=not problems,
        log=walk.log,
        size=size,
        root=root.hex(),
        problems=tuple(problems[:MOST_PROBLEMS]),
        witnesses=tuple(f"{witness} up to {upto}" for witness, upto in sorted(witnesses.items())),
        unchecked=sum(found.public_key is None and found.size <= size for found in seen),
    )


def listing(journal: Journal, after: int = 0, limit: int = 100) -> list[Entry]:
    """Entries with seq > after, oldest first. after < 0: the newest `limit` (at most) of all."""
    if after < 0:
        after = max(0, journal.size() - limit)
    return [entry for entry, _ in journal.read(after, limit)]


def _rows(journal: Trail) -> Iterator[tuple[int, bytes, bytes]]:
    after = _FIRST
    while rows := journal.raw(after, _PAGE):
        yield from rows
        after = rows[-1][0]


def _walk(journal: Trail, walk: _Walk, wanted: set[int]) -> None:
    frontier, leaves = walk.frontier, list[bytes]()
    for place, (seq, body, kept) in enumerate(_rows(journal), 1):
        leaf = merkle.leaf_hash(body)
        leaves.append(leaf)
        if place in wanted:
            frontier, leaves = frontier.extend(leaves), []
            walk.roots[place] = frontier.root()
        if len(walk.problems) < MOST_PROBLEMS:
            walk.problems += _judge_entry(walk, place, seq, body)
            if leaf != kept:
                walk.problems.append(f"entry {seq}: its bytes are not those that were hashed when it was written")
    walk.frontier = frontier.extend(leaves)


def _judge_entry(walk: _Walk, place: int, seq: int, body: bytes) -> Iterator[str]:
    if seq != place:
        yield f"entry {seq} stands where {place} should"
    try:
        entry = decode_entry(body)
    except msgspec.MsgspecError as error:
        yield f"entry {seq} cannot be read: {error}"
        return
    if entry.seq != seq:
        yield f"entry {seq} was written as {entry.seq}"
    if entry.log != walk.log:
        yield f"entry {seq} belongs to the log {entry.log}"
    if entry.phase == "intent":
        walk.intents.add(entry.seq)
    elif entry.phase == "outcome" and entry.of not in walk.intents:
        yield f"entry {seq} is the outcome of {entry.of}, which is no intent before it"


def _judge_checkpoint(journal: Trail, computed: note.Checkpoint) -> Iterator[str]:
    try:
        laptop, _ = note.parse_origin(computed.origin)
        if key_id(journal.public_key) != laptop:
            yield f"the key kept with the log is not that of laptop {laptop[:8]}"
        signed = note.open_checkpoint(journal.checkpoint(), journal.public_key, journal.verify_signature)
    except UsageFault as error:
        yield error.message
        return
    if signed.origin != computed.origin:
        yield f"the signed checkpoint is of another log, {signed.origin}"
    elif signed.size != computed.size:
        yield f"the signed checkpoint covers {signed.size} entries; there are {computed.size}"
    elif signed.root != computed.root:
        yield f"the entries do not give the root that was signed at size {signed.size}"


def _judge_witnesses(journal: Trail, walk: _Walk, seen: Sequence[Witnessed]) -> tuple[dict[str, int], list[str]]:
    """(witness -> largest size at which it saw this history, what witnesses saw that is not here)."""
    agreed: dict[str, int] = {}
    problems: list[str] = []
    doubtful: list[Witnessed] = []
    for found in seen:
        if found.size > walk.frontier.size:
            problems.append(f"{found.witness[:15]} saw {found.size} entries; only {walk.frontier.size} are left")
        elif found.public_key is not None and _agrees(journal, walk, found, found.size):
            agreed[found.witness] = max(found.size, agreed.get(found.witness, 0))
        elif found.public_key is not None:
            doubtful.append(found)
    # A line is kept under its intent's number; another process may have appended before the device was shown the log.
    later = _Walk(walk.log)
    if doubtful:
        _walk(journal, later, {found.size + more for found in doubtful for more in range(_WINDOW)})
    for found in doubtful:
        sizes = range(found.size, min(found.size + _WINDOW, later.frontier.size + 1))
        covered = next((size for size in sizes if _agrees(journal, later, found, size)), None)
        if covered is None:
            problems.append(f"{found.witness[:15]} saw another history at size {found.size}")
        else:
            agreed[found.witness] = max(covered, agreed.get(found.witness, 0))
    return agreed, problems


def _agrees(journal: Trail, walk: _Walk, found: Witnessed, size: int) -> bool:
    point = note.Checkpoint(walk.log, size, walk.roots.get(size, merkle.EMPTY_ROOT))
    name = note.witness_name(found.witness)
    try:
        note.verify_cosignature(point, found.line, name, found.public_key or b"", journal.verify_signature)
    except UsageFault:
        return False
    return True

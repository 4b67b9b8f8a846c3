"""What the store takes, what it refuses, and what it keeps as evidence. Once in this process, without HTTP."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldops.audit import merkle, note
from fieldops.audit.entry import ENTRY_LIMIT
from fieldops.central.store import LogStore
from fieldops.edges.keys import Ed25519Signer, verify
from fieldops.errors import CheckFailed, StorageFault, StoreFault
from fieldops.wire import BATCH_ENTRIES, PushReply, unb64


def push(store: LogStore, laptop: Any, first: int, last: int) -> PushReply:
    """Entries first..last with the checkpoint over 1..last; the laptop is let in at its first."""
    if store.laptops.standing(laptop.signer.laptop) is None:
        laptop.let_in(store)
    bodies = laptop.bodies(first - 1)[: last - first + 1]
    return store.push(laptop.journal.log, first, bodies, laptop.journal.checkpoint_at(last))


def test_what_was_pushed_is_there_byte_for_byte_with_a_receipt_that_verifies(store: LogStore, laptop: Any) -> None:
    laptop.write("a", "b", "c")
    reply = push(store, laptop, 1, 3)
    assert (reply.accepted, reply.duplicate, reply.size, reply.root) == (3, 0, 3, laptop.journal.root().hex())
    assert store.entries(laptop.journal.log) == laptop.bodies()
    point = note.parse_checkpoint(laptop.journal.checkpoint())
    key = unb64(store.info().public_key)
    assert note.verify_cosignature(point, reply.receipt, f"fieldops/store/{store.id}", key, verify) == 1_700_000_000
    assert store.verify() == []


def test_a_log_never_heard_of_is_empty(store: LogStore, laptop: Any) -> None:
    head = store.head(laptop.journal.log)
    assert (head.size, head.root, head.forked) == (0, merkle.EMPTY_ROOT.hex(), False)
    assert store.logs() == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=12))
def test_pushes_in_any_order_and_overlap_leave_a_prefix_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, clock: Any, new_laptop: Callable[[Path], Any], ranges: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    laptop = new_laptop(folder / "audit.db")
    laptop.write(*map(str, range(12)))
    store = LogStore.open(folder / "store", clock)
    size = 0
    for first, last in ranges:
        if last < first:
            continue
        if first > size + 1:
            with pytest.raises(CheckFailed, match=f"holds {size} entries of this log; the push begins at {first}"):
                push(store, laptop, first, last)
            continue
        reply = push(store, laptop, first, last)
        assert (reply.accepted, reply.duplicate) == (max(0, last - size), last - first + 1 - max(0, last - size))
        size = max(size, last)
        assert (reply.size, store.entries(laptop.journal.log)) == (size, laptop.bodies()[:size])
    assert store.incidents() == []
    assert store.verify() == []
    store.close()


def test_a_gap_is_refused_and_stores_nothing(store: LogStore, laptop: Any) -> None:
    laptop.write("a", "b", "c")
    push(store, laptop, 1, 1)
    with pytest.raises(CheckFailed) as refused:
        push(store, laptop, 3, 3)
    assert (refused.value.reason, store.head(laptop.journal.log).size, store.incidents()) == ("gap", 1, [])


def cloned(laptop: Any, tmp_path: Path) -> Any:
    """The same laptop from a copy of its home: same key, same log, from here on another history."""
    laptop.journal.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "clone.db")
    return laptop.reopen(tmp_path / "clone.db")


def test_another_entry_under_a_known_number_is_a_fork_and_never_taken_as_known(
    store: LogStore, laptop: Any, tmp_path: Path
) -> None:
    laptop.write("a", "b")
    clone = cloned(laptop, tmp_path)
    laptop.write("mine", "mine too")
    clone.write("theirs")
    push(store, laptop, 1, 4)
    before = store.entries(laptop.journal.log)
    for _ in range(2):  # a clone that tries again opens no second incident
        with pytest.raises(CheckFailed) as refused:
            push(store, clone, 1, 3)
        assert refused.value.reason == "fork"
    [incident] = store.incidents()
    assert (incident.kind, incident.log, incident.seq) == ("fork", laptop.journal.log, 3)
    assert store.entries(laptop.journal.log) == before
    assert store.head(laptop.journal.log).forked
    assert store.verify() == []
    clone.journal.close()


def test_the_evidence_of_a_fork_proves_it_to_anybody(store: LogStore, laptop: Any, tmp_path: Path) -> None:
    laptop.write("a")
    clone = cloned(laptop, tmp_path)
    laptop.write("mine")
    clone.write("theirs")
    push(store, laptop, 1, 2)
    with pytest.raises(CheckFailed):
        push(store, clone, 1, 2)
    connection = sqlite3.connect(tmp_path / "store" / "store.db")
    evidence = json.loads(connection.execute("SELECT evidence FROM incident").fetchone()[0])
    connection.close()
    known, offered = (note.open_checkpoint(evidence[side], laptop.signer.public_key, verify) for side in ("known", "offered"))
    assert (known.origin, known.size) == (offered.origin, offered.size)
    assert known.root != offered.root
    clone.journal.close()


def test_a_clone_that_sends_only_its_own_new_entries_is_a_fork_too(store: LogStore, laptop: Any, tmp_path: Path) -> None:
    laptop.write("a")
    clone = cloned(laptop, tmp_path)
    laptop.write("mine")
    clone.write("theirs", "and more")
    push(store, laptop, 1, 2)
    with pytest.raises(CheckFailed) as refused:
        push(store, clone, 3, 3)
    assert refused.value.reason == "fork"
    assert [incident.kind for incident in store.incidents()] == ["fork"]
    assert store.entries(laptop.journal.log) == laptop.bodies()
    clone.journal.close()


def test_the_honest_branch_goes_on_after_a_fork(store: LogStore, laptop: Any, tmp_path: Path) -> None:
    laptop.write("a")
    clone = cloned(laptop, tmp_path)
    laptop.write("mine")
    clone.write("theirs")
    push(store, laptop, 1, 2)
    with pytest.raises(CheckFailed):
        push(store, clone, 2, 2)
    laptop.write("still here")
    assert push(store, laptop, 3, 3).size == 3
    clone.journal.close()


def test_a_new_log_of_a_known_laptop_is_an_incident(store: LogStore, laptop: Any, tmp_path: Path) -> None:
    laptop.write("a")
    push(store, laptop, 1, 1)
    laptop.clock.at += 100
    again = laptop.reopen(tmp_path / "again.db")
    again.write("b")
    push(store, again, 1, 1)
    [incident] = store.incidents()
    assert (incident.kind, incident.log) == ("new_epoch", again.journal.log)
    assert {line.name for line in store.logs()} == {laptop.journal.log, again.journal.log}
    again.journal.close()


def signed(signer: Ed25519Signer, log: str, bodies: list[bytes]) -> str:
    leaves = [merkle.leaf_hash(body) for body in bodies]
    return note.sign_checkpoint(note.Checkpoint(log, len(bodies), merkle.root_of(leaves)), signer.public_key, signer.sign)


@pytest.mark.parametrize(
    "body", [b"\xff\x00 not json", b"{}", b'{"v":99,"future":true}', b"[" * 20_000], ids=["binary", "empty", "future", "deep"]
)
def test_an_entry_this_version_cannot_read_is_kept_not_refused(store: LogStore, laptop: Any, body: bytes) -> None:
    log = laptop.journal.log
    laptop.let_in(store)
    store.push(log, 1, [body], signed(laptop.signer, log, [body]))
    assert store.entries(log) == [body]
    assert store.newest(1)[0].act is None


def test_an_entry_under_another_number_than_its_own_is_kept_and_an_incident(store: LogStore, laptop: Any) -> None:
    laptop.write("a", "b")
    bodies = laptop.bodies()[::-1]
    log = laptop.journal.log
    laptop.let_in(store)
    store.push(log, 1, bodies, signed(laptop.signer, log, bodies))
    assert [(found.kind, found.seq) for found in store.incidents()] == [("misnumbered", 2), ("misnumbered", 1)]


def refusals() -> list[Any]:
    other = Ed25519Signer.generate()
    return [
        pytest.param(lambda a: {**a, "signed": "no note"}, "malformed", id="no note"),
        pytest.param(lambda a: {**a, "signed": a["signed"].replace("\n2\n", "\n3\n")}, "bad_signature", id="changed note"),
        pytest.param(lambda a: {**a, "signed": signed(other, a["log"], a["bodies"])}, "bad_signature", id="another's signature"),
        pytest.param(lambda a: {**a, "log": note.origin(other.laptop, 1)}, "not_enrolled", id="a laptop that was never let in"),
        pytest.param(lambda a: {**a, "bodies": a["bodies"][:1]}, "wrong_checkpoint", id="too few entries"),
        pytest.param(lambda a: {**a, "bodies": [a["bodies"][0], b"{}"]}, "wrong_root", id="another entry"),
        pytest.param(lambda a: {**a, "bodies": []}, "malformed", id="nothing"),
        pytest.param(lambda a: {**a, "bodies": [a["bodies"][0], b""]}, "malformed", id="an empty entry"),
        pytest.param(lambda a: {**a, "first": 0}, "malformed", id="from zero"),
        pytest.param(lambda a: {**a, "bodies": [b"x"] * (BATCH_ENTRIES + 1)}, "too_large", id="too many"),
        pytest.param(lambda a: {**a, "bodies": [b"x" * (ENTRY_LIMIT + 1)]}, "entry_too_large", id="too large"),
        pytest.param(lambda a: {**a, "log": a["log"] + "0"}, "wrong_checkpoint", id="another epoch"),
        pytest.param(lambda a: {**a, "log": "fieldops/../0"}, "malformed", id="no log"),
    ]


@pytest.mark.parametrize(("change", "reason"), refusals())
def test_a_push_that_proves_nothing_is_refused_and_leaves_nothing(store: LogStore, laptop: Any, change: Any, reason: str) -> None:
    laptop.write("a", "b")
    good = {
        "log": laptop.journal.log,
        "first": 1,
        "bodies": laptop.bodies(),
        "signed": laptop.journal.checkpoint(),
    }
    laptop.let_in(store)
    with pytest.raises(StoreFault) as refused:
        store.push(**change(good))
    assert refused.value.reason == reason
    assert (store.logs(), store.newest(), store.incidents()) == ([], [], [])
    assert store.push(**good).accepted == 2


def test_the_stores_identity_stays_over_restarts(tmp_path: Path, clock: Any) -> None:
    names = []
    for _ in range(2):
        store = LogStore.open(tmp_path / "s", clock)
        names.append(store.id)
        store.close()
    assert names[0] == names[1]
    assert (tmp_path / "s" / "keys" / "store.key").stat().st_mode & 0o777 == 0o600


def test_the_owners_verify_finds_what_was_changed_in_the_file(store: LogStore, laptop: Any, tmp_path: Path) -> None:
    laptop.write("a", "b", "c")
    push(store, laptop, 1, 3)
    connection = sqlite3.connect(tmp_path / "store" / "store.db")
    with pytest.raises(sqlite3.IntegrityError, match="kept as received"):
        connection.execute("DELETE FROM entry")
    connection.execute("DROP TRIGGER entry_is_never_deleted")
    connection.execute("DROP TRIGGER entry_is_never_changed")
    connection.execute("UPDATE entry SET body = x'7b7d' WHERE seq = 2")
    connection.commit()
    assert "do not give what was signed" in store.verify()[0]
    connection.execute("DELETE FROM entry WHERE seq = 2")
    connection.commit()
    connection.close()
    assert "entry 2 is missing" in store.verify()[0]


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path, clock: Any) -> None:
    LogStore.open(tmp_path / "s", clock).close()
    connection = sqlite3.connect(tmp_path / "s" / "store.db")
    connection.execute("UPDATE schema_version SET version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StorageFault) as refused:
        LogStore.open(tmp_path / "s", clock)
    assert refused.value.reason == "newer_schema"

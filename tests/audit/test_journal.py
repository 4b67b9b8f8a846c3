"""The journal under several processes, kill -9, full disks, and files that are not what they should be."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.audit import merkle, note
from fieldops.audit.entry import Draft
from fieldops.edges import database
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, verify
from fieldops.errors import StorageFault, UsageFault
from fieldops.operations import trail

NOTE = Draft(actor="local:kim", phase="note", act="stick.verify", reason="Grüße <b>&")
INTENT = Draft(actor="local:kim", phase="intent", act="Activate")

# appends `count` entries (0: without end) and says each seq once it is durable
APPENDER = """
import sys, signal
from pathlib import Path
from fieldops.audit.entry import Draft
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
home, count, phase = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
journal = SqliteJournal.open(home / "audit.db", lambda: Ed25519Signer.load_or_create(home / "laptop.key"), SystemClock())
done = 0
while not count or done < count:
    print(journal.append(Draft(actor="local:kim", phase=phase, act="Activate", reason="x" * 200)).seq, flush=True)
    done += 1
"""


def start(home: Path, count: int, phase: str = "note") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(home), str(count), phase], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def of_home(home: Path, open_journal: Callable[..., SqliteJournal]) -> SqliteJournal:
    return open_journal(home / "audit.db", Ed25519Signer.load_or_create(home / "laptop.key"))


def test_an_entry_reads_back_as_the_bytes_that_were_hashed(journal: SqliteJournal) -> None:
    entry = journal.append(NOTE)
    [(read, body)] = journal.read()
    assert read == entry
    assert (entry.seq, entry.reason, entry.time) == (1, NOTE.reason, 1_700_000_000.0)
    assert journal.root() == merkle.leaf_hash(body)


def test_each_entry_leaves_a_checkpoint_signed_over_all_of_them(journal: SqliteJournal, signer: Ed25519Signer) -> None:
    for size in range(1, 6):
        journal.append(NOTE)
        point = note.open_checkpoint(journal.checkpoint(), signer.public_key, verify)
        assert (point.origin, point.size, point.root) == (journal.log, size, journal.root())
        assert note.parse_origin(journal.log) == (signer.laptop, 1_700_000_000)


def test_growth_is_provable_from_every_earlier_size(visit: SqliteJournal, signer: Ed25519Signer) -> None:
    leaves = [merkle.leaf_hash(body) for _, body in visit.read()]
    for old in range(visit.size() + 1):
        proof = visit.consistency(old)
        assert merkle.verify_consistency(old, visit.size(), merkle.root_of(leaves[:old]), visit.root(), proof)
        at = note.open_checkpoint(visit.checkpoint_at(old), signer.public_key, verify)
        assert (at.size, at.root) == (old, merkle.root_of(leaves[:old]))


def test_a_witness_that_saw_more_than_there_is_stops_the_proof(visit: SqliteJournal) -> None:
    with pytest.raises(StorageFault) as refused:
        visit.consistency(visit.size() + 1)
    assert refused.value.reason == "truncated"


def test_reading_a_log_that_was_never_written_makes_no_file(tmp_path: Path, journal: SqliteJournal) -> None:
    assert journal.read() == []
    assert (journal.size(), journal.root()) == (0, merkle.EMPTY_ROOT)
    assert journal.open_intents() == []
    assert journal.cosigned_size("device:x") == 0
    assert list(tmp_path.iterdir()) == []


def test_listing_loads_no_cryptography(visit: SqliteJournal, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.operations.trail import listing
journal = SqliteJournal.open(Path(sys.argv[1]), lambda: 1 / 0, SystemClock())
print(len(listing(journal)), journal.size(), journal.log)
assert not {"cryptography", "paramiko", "tuf", "httpx", "asyncio"} & {name.split(".")[0] for name in sys.modules}
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "audit.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.stdout.split()) == ("", ["10", "10", visit.log])


def test_three_processes_append_without_a_gap(tmp_path: Path, open_journal: Callable[..., SqliteJournal]) -> None:
    children = [start(tmp_path, 40) for _ in range(3)]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], outputs
    seqs = sorted(int(seq) for out, _ in outputs for seq in out.split())
    assert seqs == list(range(1, 121))
    journal = of_home(tmp_path, open_journal)
    report = trail.verify(journal)
    assert (report.ok, report.size, report.problems) == (True, 120, ())
    assert len({entry.session for entry, _ in journal.read(0, 200)}) == 3


def test_threads_of_one_console_append_without_a_gap(journal: SqliteJournal) -> None:
    threads = [threading.Thread(target=lambda: [journal.append(NOTE) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trail.verify(journal).ok
    assert journal.size() == 80


@pytest.mark.parametrize("after", [1, 2, 5, 17])
def test_a_log_whose_writer_was_killed_holds_all_it_promised(
    tmp_path: Path, open_journal: Callable[..., SqliteJournal], after: int
) -> None:
    child = start(tmp_path, 0)
    assert child.stdout is not None
    promised = [int(child.stdout.readline()) for _ in range(after)][-1]
    child.kill()
    child.communicate()
    journal = of_home(tmp_path, open_journal)
    report = trail.verify(journal)
    assert report.problems == ()
    assert report.size >= promised
    assert journal.append(NOTE).seq == report.size + 1
    assert trail.verify(journal).ok


def test_the_intent_of_a_process_that_is_gone_is_open_until_it_is_settled(
    tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    child = start(tmp_path, 1, "intent")
    assert child.wait(60) == 0
    child.communicate()
    journal = of_home(tmp_path, open_journal)
    mine = journal.append(INTENT)
    assert [entry.seq for entry in journal.open_intents()] == [1]  # mine is not: this process still works on it
    journal.append(Draft(actor="local:kim", phase="outcome", act="Activate", of=1))
    assert journal.open_intents() == []
    assert mine.seq == 2


def test_the_intent_of_a_process_that_still_runs_is_left_to_it(
    tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    child = start(tmp_path, 0, "intent")
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGSTOP)  # alive, and doing nothing
    try:
        assert of_home(tmp_path, open_journal).open_intents() == []
    finally:
        child.kill()
        child.communicate()
    assert of_home(tmp_path, open_journal).open_intents() != []


# --- storage ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_the_entry_and_keeps_the_log_whole(
    tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))\n" + APPENDER
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "0", "note"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "StorageFault" in done.stderr
    report = trail.verify(of_home(tmp_path, open_journal))
    assert (report.ok, report.size) == (True, len(done.stdout.split()))


def test_sqlite_full_is_said_as_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = database.connect(path)
    connection.execute("CREATE TABLE t (x BLOB)")
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(StorageFault) as full, database.faults(path), database.transaction(connection):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
    assert full.value.reason == "disk_full"
    assert "free some space" in full.value.next_step


def test_a_file_of_a_later_version_is_left_alone(
    visit: SqliteJournal, tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    tamper(tmp_path, "UPDATE schema_version SET version = 99")
    with pytest.raises(StorageFault) as refused:
        open_journal().append(NOTE)
    assert refused.value.reason == "newer_schema"
    assert "update fieldops" in refused.value.next_step


@pytest.mark.parametrize("content", [b"this is no database " * 300, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, journal: SqliteJournal, content: bytes) -> None:
    (tmp_path / "audit.db").write_bytes(content)
    with pytest.raises(StorageFault) as refused:
        journal.append(NOTE)
    assert refused.value.reason in {"corrupt", "io_error"}
    assert (tmp_path / "audit.db").read_bytes() == content


def test_a_folder_in_place_of_the_file_is_a_storage_fault(tmp_path: Path, journal: SqliteJournal) -> None:
    (tmp_path / "audit.db").mkdir()
    with pytest.raises(StorageFault) as refused:
        journal.append(NOTE)
    assert refused.value.reason == "unreadable"


def test_a_held_database_is_a_storage_fault_not_a_wait_without_end(
    tmp_path: Path, visit: SqliteJournal, open_journal: Callable[..., SqliteJournal]
) -> None:
    with sqlite3.connect(tmp_path / "audit.db", isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        path = tmp_path / "audit.db"
        impatient = sqlite3.connect(path, timeout=0.05, isolation_level=None)
        with pytest.raises(StorageFault) as refused, database.faults(path), database.transaction(impatient):
            pass
        impatient.close()
        holder.execute("ROLLBACK")
    holder.close()
    assert refused.value.reason == "in_use"


def test_another_laptops_key_does_not_write_into_this_log(
    visit: SqliteJournal, open_journal: Callable[..., SqliteJournal]
) -> None:
    with pytest.raises(StorageFault) as refused:
        open_journal(key=Ed25519Signer.generate()).append(NOTE)
    assert refused.value.reason == "other_key"
    assert visit.size() == 10


def test_appending_to_a_log_whose_end_was_cut_off_is_refused(
    visit: SqliteJournal, tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    tamper(tmp_path, "DELETE FROM entry WHERE seq = 10")
    with pytest.raises(StorageFault) as refused:
        open_journal().append(NOTE)
    assert refused.value.reason == "corrupt"


def test_a_log_without_its_head_is_corrupt_and_not_begun_again(
    visit: SqliteJournal, tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    tamper(tmp_path, "DELETE FROM head")
    with pytest.raises(StorageFault, match="head is gone"):
        open_journal().append(NOTE)


def test_plain_sql_cannot_change_an_entry_by_accident(visit: SqliteJournal, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "audit.db")
    for statement in ("UPDATE entry SET body = x''", "DELETE FROM entry"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(statement)
    connection.close()


# --- witnesses ------------------------------------------------------------------------------------------------------------


def test_a_cosignature_is_kept_under_the_size_it_really_covers(visit: SqliteJournal) -> None:
    device = Ed25519Signer.generate()
    witness = f"device:{device.id}"
    visit.know_witness(witness, device.public_key)
    seen = note.parse_checkpoint(visit.checkpoint())
    line = note.cosign(seen, note.witness_name(witness), device.public_key, 5, device.sign)
    visit.note_cosignature(witness, 8, line)  # the intent was 8; the checkpoint shown already covered 10
    assert visit.cosigned_size(witness) == 10
    assert [(w.witness, w.size, w.public_key) for w in visit.witnessed()] == [(witness, 10, device.public_key)]


def test_the_largest_size_of_any_store_is_asked_by_the_bare_word(visit: SqliteJournal) -> None:
    visit.note_cosignature("store:aaa", 4, "line")
    visit.note_cosignature("store:bbb", 7, "line")
    visit.note_cosignature("device:ccc", 9, "line")
    assert (visit.cosigned_size("store:"), visit.cosigned_size("store:aaa"), visit.cosigned_size("store:x")) == (7, 4, 0)


def test_a_witness_cannot_be_given_anothers_key(visit: SqliteJournal) -> None:
    one, other = Ed25519Signer.generate(), Ed25519Signer.generate()
    with pytest.raises(UsageFault) as refused:
        visit.know_witness(f"store:{one.id}", other.public_key)
    assert refused.value.reason == "wrong_key"


def tamper(folder: Path, *statements: str) -> None:
    """What anybody can do who may write the file."""
    connection = sqlite3.connect(folder / "audit.db")
    for trigger in ("entry_is_never_changed", "entry_is_never_deleted"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()

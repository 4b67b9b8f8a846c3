"""Attacks on the log, as a table: what is done to the file, and the words that find it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.audit import merkle, note
from fieldops.audit.entry import Draft
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
from fieldops.operations import trail
from fieldops.ports import Witnessed

RESEAT = "UPDATE head SET size = (SELECT count(*) FROM entry)"

ATTACKS = [
    (
        "a byte edited",
        ["UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'try 1.1.0', 'try 1.9.0') AS BLOB)"],
        "not those that",
    ),
    (
        "a byte edited and its leaf with it",
        ["UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'try 1.1.0', 'try 1.9.0') AS BLOB) WHERE seq = 4", "LEAF 4"],
        "do not give the root",
    ),
    ("bytes that are no entry", ["UPDATE entry SET body = x'00ff' WHERE seq = 3"], "entry 3 cannot be read"),
    ("the last dropped", ["DELETE FROM entry WHERE seq = 10"], "covers 10 entries; there are 9"),
    ("the last dropped, head adjusted", ["DELETE FROM entry WHERE seq = 10", RESEAT], "covers 10 entries; there are 9"),
    ("one in the middle dropped", ["DELETE FROM entry WHERE seq = 5"], "entry 6 stands where 5 should"),
    (
        "one in the middle dropped, the rest renumbered",
        ["DELETE FROM entry WHERE seq = 5", *[f"UPDATE entry SET seq = {n - 1} WHERE seq = {n}" for n in range(6, 11)]],
        "entry 5 was written as 6",
    ),
    (
        "two swapped",
        [
            "UPDATE entry SET seq = 100 WHERE seq = 2",
            "UPDATE entry SET seq = 2 WHERE seq = 4",
            "UPDATE entry SET seq = 4 WHERE seq = 100",
        ],
        "entry 2 was written as 4",
    ),
    (
        "a forged row before the first",
        ["INSERT INTO entry SELECT 0, body, leaf FROM entry WHERE seq = 1"],
        "entry 0 stands where 1",
    ),
    (
        "a forged row at the end",
        ["INSERT INTO entry SELECT 11, body, leaf FROM entry WHERE seq = 1"],
        "covers 10 entries; there are 11",
    ),
    ("everything dropped", ["DELETE FROM entry"], "covers 10 entries; there are 0"),
    ("another note", ["UPDATE head SET note = replace(note, '10', '11')"], "not signed by its own key"),
    ("no note", ["UPDATE head SET note = 'x'"], "no checkpoint"),
    ("another key", ["UPDATE identity SET public_key = zeroblob(32)"], "not that of laptop"),
    ("another log's name", ["UPDATE identity SET log = replace(log, '/17', '/18')"], "belongs to the log"),
]


def tamper(folder: Path, statements: list[str]) -> None:
    connection = sqlite3.connect(folder / "audit.db")
    for trigger in ("entry_is_never_changed", "entry_is_never_deleted"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        if statement.startswith("LEAF "):
            seq = int(statement.split()[1])
            body = connection.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchone()[0]
            connection.execute("UPDATE entry SET leaf = ? WHERE seq = ?", (merkle.leaf_hash(body), seq))
        else:
            connection.execute(statement)
    connection.commit()
    connection.close()


def cosigned(journal: SqliteJournal, witness: Ed25519Signer, kind: str = "device") -> Witnessed:
    """What a device or the store keeps after it was shown the log's newest checkpoint."""
    point = note.parse_checkpoint(journal.checkpoint())
    name = f"{kind}:{witness.id}"
    line = note.cosign(point, note.witness_name(name), witness.public_key, 1_700_000_001, witness.sign)
    return Witnessed(name, point.size, line, witness.public_key)


def test_an_untouched_log_verifies_and_names_its_witnesses(visit: SqliteJournal) -> None:
    device, store = Ed25519Signer.generate(), Ed25519Signer.generate()
    for seen in (cosigned(visit, device), cosigned(visit, store, "store")):
        visit.know_witness(seen.witness, device.public_key if seen.witness.startswith("device") else store.public_key)
        visit.note_cosignature(seen.witness, seen.size, seen.line)
    visit.append(Draft(actor="local:kim", phase="note", act="drift.read"))
    report = trail.verify(visit)
    assert (report.ok, report.size, report.root, report.unchecked) == (True, 11, visit.root().hex(), 0)
    assert report.witnesses == (f"device:{device.id} up to 10", f"store:{store.id} up to 10")


def test_a_log_that_never_began_verifies_and_is_not_begun_by_that(journal: SqliteJournal, tmp_path: Path) -> None:
    report = trail.verify(journal)
    assert (report.ok, report.size, report.root) == (True, 0, merkle.EMPTY_ROOT.hex())
    assert list(tmp_path.iterdir()) == []


def test_what_a_device_saw_of_a_log_that_is_gone_is_found(visit: SqliteJournal, tmp_path: Path) -> None:
    seen = cosigned(visit, Ed25519Signer.generate())
    visit.close()
    for path in tmp_path.iterdir():
        path.unlink()
    assert "saw 10 entries; only 0 are left" in trail.verify(visit, [seen]).problems[0]


@pytest.mark.parametrize(("statements", "found"), [attack[1:] for attack in ATTACKS], ids=[attack[0] for attack in ATTACKS])
def test_every_attack_on_the_file_is_found(visit: SqliteJournal, tmp_path: Path, statements: list[str], found: str) -> None:
    assert trail.verify(visit).ok
    tamper(tmp_path, statements)
    report = trail.verify(visit)
    assert not report.ok
    assert any(found in problem for problem in report.problems), report.problems


def test_an_older_copy_put_back_is_found_by_what_a_device_cosigned(
    visit: SqliteJournal, tmp_path: Path, open_journal: Callable[..., SqliteJournal]
) -> None:
    visit.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "old.db")
    visit.append(Draft(actor="local:kim", phase="note", act="hidden"))
    seen = cosigned(visit, Ed25519Signer.generate())
    older = open_journal(tmp_path / "old.db")
    assert trail.verify(older).ok  # nothing in the file itself can tell
    report = trail.verify(older, [seen])
    assert not report.ok
    assert "saw 11 entries; only 10 are left" in report.problems[0]


def test_a_history_rewritten_with_the_stolen_key_is_found_by_a_witness(
    visit: SqliteJournal, tmp_path: Path, signer: Ed25519Signer, open_journal: Callable[..., SqliteJournal]
) -> None:
    seen = cosigned(visit, Ed25519Signer.generate(), "store")
    rewritten = open_journal(tmp_path / "rewritten.db", signer)
    for entry, _ in visit.read():
        changed = "another reason" if entry.seq == 4 else entry.reason
        rewritten.append(Draft(actor=entry.actor, phase=entry.phase, act=entry.act, of=entry.of, reason=changed))
    assert rewritten.log == visit.log
    assert trail.verify(rewritten).ok
    report = trail.verify(rewritten, [seen])
    assert any("saw another history at size 10" in problem for problem in report.problems)


def test_a_forged_cosignature_is_found_and_one_of_an_unknown_key_is_counted(visit: SqliteJournal) -> None:
    device = Ed25519Signer.generate()
    real = cosigned(visit, device)
    forged = Witnessed(real.witness, 9, real.line[:-8] + "AAAA" + real.line[-4:], device.public_key)
    assert not trail.verify(visit, [forged]).ok
    unknown = trail.verify(visit, [Witnessed(real.witness, 10, real.line, None)])
    assert (unknown.ok, unknown.unchecked, unknown.witnesses) == (True, 1, ())


def test_a_line_kept_under_its_intents_number_counts_where_it_really_stands(visit: SqliteJournal) -> None:
    real = cosigned(visit, Ed25519Signer.generate())
    visit.append(Draft(actor="local:kim", phase="note", act="drift.read"))
    report = trail.verify(visit, [Witnessed(real.witness, 8, real.line, real.public_key)])
    assert (report.problems, report.witnesses) == ((), (f"{real.witness} up to 10",))


def test_the_newest_entries_are_listed_oldest_first(visit: SqliteJournal) -> None:
    assert [entry.seq for entry in trail.listing(visit, -1, 3)] == [8, 9, 10]
    assert [entry.seq for entry in trail.listing(visit, 4, 3)] == [5, 6, 7]

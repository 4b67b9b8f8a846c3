"""The ring on disk: bounded, and a gap is a number, never a silence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.drift.sketch import Window
from fieldops.edges.telemetry import Ring, Telemetry
from fieldops.wire import Sample, TelemetryRecord

RECORD = TelemetryRecord(
    seq=0,
    started=0.0,
    ended=1.0,
    boot_id="b",
    uptime_s=1.0,
    model="digits",
    version="1.0.0",
    state="settled",
    requests=1,
    failed=0,
    routes={"core": 1},
    rested={},
    latency={"3": 1},
    drift={},
    counted=0,
    soc_temp_c=None,
    throttled=None,
    battery_pct=None,
)


SAMPLE = Sample(id=0, model="digits", version="1.0.0", time=1.0, reason="ordinary", label=3, confidence=0.5, request="")


def test_what_the_ring_overwrote_is_counted(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db", kept_records=3)
    for _ in range(5):
        ring.record(RECORD)
    found = ring.records(0)
    assert ([each.seq for each in found.records], found.newest, found.lost) == ([3, 4, 5], 5, 2)
    assert ring.records(3).lost == 0
    assert ring.records(5) == Ring(found.name, [], 5, 0)
    ring.close()
    again = Telemetry(tmp_path / "t.db", kept_records=3)
    again.record(RECORD)
    assert again.records(5, found.name).records[0].seq == 6
    again.close()


def test_what_found_no_room_is_counted_as_well(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db")
    ring.record(RECORD)
    with sqlite3.connect(tmp_path / "t.db") as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    ring.record(RECORD)
    ring.record(RECORD)
    with sqlite3.connect(tmp_path / "t.db") as other:
        other.execute("DROP TRIGGER full")
    other.close()
    ring.record(RECORD)
    found = ring.records(0)
    assert ([each.seq for each in found.records], found.newest, found.lost) == ([1, 4], 4, 2)
    assert (ring.set_aside, ring.troubles()) == (0, [])
    ring.close()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def _other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE records (something TEXT)")
        other.execute("CREATE TABLE windows (something TEXT)")
    other.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": _cut,
    "empty pages": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096)),
    "a text": lambda path: path.write_text("not a database"),
    "other tables": _other_tables,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_set_aside_and_a_new_ring_begun_that_says_so(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "telemetry.db"
    ring = Telemetry(path)
    for _ in range(40):
        ring.record(RECORD)
        ring.add("digits", "1.0.0", Window(started=0, ended=1, n=1, counts={"f": [1]}))
    name = ring.records(0).name
    ring.close()
    damage(path)
    again = Telemetry(path)
    again.windows("digits", "1.0.0")
    again.record(RECORD)  # found damaged at the start, or where it is first used
    again.record(RECORD)
    found = again.records(40, name)  # a laptop's cursor in the old one
    assert found.name not in {"", name}
    assert (found.lost, again.set_aside) == (0, 1)
    assert found.records
    [trouble] = again.troubles()
    assert "set aside as telemetry.db.damaged-1" in trouble
    assert again.troubles() == []
    assert (tmp_path / "telemetry.db.damaged-1").exists()
    again.close()
    path.write_bytes(b"again")
    third = Telemetry(path)
    third.keep(SAMPLE, b"sealed", 10)
    assert [sample.id for sample, _ in third.samples("digits", 0, 10)] == [2_000_001]  # no number is given twice
    assert (third.set_aside, [each.name for each in tmp_path.glob("*.damaged-*")]) == (2, ["telemetry.db.damaged-2"])
    third.close()


def test_a_file_that_cannot_be_used_at_all_leaves_counts_in_memory(tmp_path: Path) -> None:
    (tmp_path / "telemetry.db").mkdir()
    ring = Telemetry(tmp_path / "telemetry.db")
    ring.record(RECORD)
    assert [each.seq for each in ring.records(0).records] == [1]
    assert "in memory" in ring.troubles()[0]
    ring.keep(SAMPLE, b"sealed", 10)
    assert ring.samples("digits", 0, 10) == []
    assert (tmp_path / "telemetry.db").is_dir()
    ring.close()


def test_a_file_of_a_newer_agent_is_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 9")
    newer.close()
    ring = Telemetry(path)
    assert "newer agent" in ring.troubles()[0]
    assert (tmp_path / "telemetry.db.damaged-1").exists()
    ring.close()


def test_a_row_that_cannot_be_read_counts_as_missing(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db")
    for _ in range(3):
        ring.record(RECORD)
    with sqlite3.connect(tmp_path / "t.db") as other:
        other.execute("UPDATE records SET body = 'x' WHERE seq = 2")
    other.close()
    found = ring.records(0)
    assert ([each.seq for each in found.records], found.lost) == ([1, 3], 1)
    ring.close()


def test_counts_of_all_windows_are_told_though_only_the_newest_are_kept(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db")
    for at in range(100):
        ring.add("digits", "1.0.0", Window(started=at, ended=at + 1, n=2, counts={"f": [1, 1]}))
    counted = ring.counted("digits", "1.0.0")
    assert counted == Window(started=0, ended=100, n=200, counts={"f": [100, 100]})
    assert ring.counted("digits", "1.0.0") is None
    ring.add("digits", "1.0.0", Window(started=0, ended=1, n=1, counts={"f": [1]}))
    ring.add("digits", "1.0.0", Window(started=1, ended=2, n=1, counts={"g": [1]}))
    assert ring.counted("digits", "1.0.0") == Window(started=1, ended=2, n=1, counts={"g": [1]})
    assert len(ring.windows("digits", "1.0.0")) < 100
    ring.close()


def test_a_ring_found_damaged_by_a_reader_is_the_new_one_at_once(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db")
    name = ring.records(0).name
    with sqlite3.connect(tmp_path / "t.db") as other:
        other.execute("DROP TABLE records")
    other.close()
    found = ring.records(0, name)
    assert (found.name not in {"", name}, found.newest, ring.set_aside) == (True, 0, 1)
    ring.close()

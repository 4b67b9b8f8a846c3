"""The ring on disk: bounded, and a gap is a number, never a silence."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fieldops.edges.telemetry import Telemetry
from fieldops.wire import TelemetryRecord

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


def test_what_the_ring_overwrote_is_counted(tmp_path: Path) -> None:
    ring = Telemetry(tmp_path / "t.db", kept_records=3)
    for _ in range(5):
        ring.record(RECORD)
    records, newest, lost = ring.records(0)
    assert ([each.seq for each in records], newest, lost) == ([3, 4, 5], 5, 2)
    assert ring.records(3)[2] == 0
    assert ring.records(5) == ([], 5, 0)
    ring.close()
    again = Telemetry(tmp_path / "t.db", kept_records=3)
    again.record(RECORD)
    assert again.records(5)[0][0].seq == 6
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
    records, newest, lost = ring.records(0)
    assert ([each.seq for each in records], newest, lost) == ([1, 4], 4, 2)
    ring.close()

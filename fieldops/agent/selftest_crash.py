"""`fieldops-agent selftest crash --dir PATH`: the crash matrix on the customer's own file system."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from fieldops.agent.crash_matrix import Matrix, Row, play, rows
from fieldops.agent.crash_plans import PLANS
from fieldops.agent.crash_scene import STUB
from fieldops.edges.disk import storage_faults
from fieldops.edges.durability import Durability, durability

SECONDS = 36.0  # of the 45 s promised; the last case of a row may be under way when its time is over


class CrashReport(Struct, frozen=True, kw_only=True):
    """full: every state was tried, and not only a spread-out part. ok: no crash failed, and the storage keeps what it is told."""

    schema: str = "fieldops.agent_selftest_crash/v1"
    ok: bool
    full: bool
    folder: str
    payload: str
    storage: Durability
    seconds: float
    matrix: list[Row]


def run(words: list[str]) -> int:
    """0: after every crash the device was old-active or new-committed. 6: it was not, or a power cut would take more."""
    parser = argparse.ArgumentParser(prog="fieldops-agent selftest crash")
    parser.add_argument("--dir", type=Path, required=True, help="a folder on the file system to try; what it holds stays")
    parser.add_argument("--full", action="store_true", help="every state, however long it takes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="about how long, without --full")
    parser.add_argument("--json", action="store_true", help="one document instead of a table")
    parser.add_argument("--play", choices=sorted(PLANS), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.play:
        return play(given.dir.resolve(), given.play)
    begun = monotonic()
    with storage_faults(given.dir):
        given.dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".crash-", dir=given.dir)).resolve()
    show = _Table(silent=given.json)
    made: list[Row] = []
    try:
        with storage_faults(folder):
            storage = durability(folder)
        show.head(folder.parent, storage)
        for row in rows(Matrix(folder), full=given.full, seconds=given.seconds):
            made.append(row)
            show.row(row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report = CrashReport(
        ok=storage.keeps and not any(row.failed for row in made),
        full=all(row.whole for row in made) and given.full,
        folder=str(folder.parent),
        payload=STUB,
        storage=storage,
        seconds=round(monotonic() - begun, 1),
        matrix=made,
    )
    if given.json:
        sys.stdout.write(msgspec.json.encode(report).decode("utf-8") + "\n")
    show.end(report)
    return 0 if report.ok else 6


class _Table:
    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def _say(self, line: str) -> None:
        if not self._silent:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def head(self, folder: Path, storage: Durability) -> None:
        self._say(f"Crashes of a change (stage, activate, commit) and of a revert, on {folder}")
        self._say(f"Payload: {STUB}.")
        if storage.keeps:
            cost = f"a flush takes {storage.flush_us:.0f} us here, a write {storage.write_us:.0f} us"
            self._say(
                f"Storage: {storage.file_system or 'of unknown kind'}; {cost}. A disk that forgets all the same shows only when its plug is pulled."
            )
        else:
            self._say(f"This storage does not keep what it is told to keep: {storage.why}.")
        self._say("")
        self._say(f"{'crash':<15} {'during':<8} {'states':>7} {'tried':>6}  {'old':>5} {'new':>5} {'trial':>5}  {'failed':>6}")

    def row(self, row: Row) -> None:
        counts = f"{row.points:>7} {row.tried:>6}  {row.old:>5} {row.new:>5} {row.trial:>5}  {row.failed:>6}"
        self._say(f"{row.crash:<15} {row.plan:<8} {counts}")
        for fault in row.faults:
            self._say(f"    {fault}")

    def end(self, report: CrashReport) -> None:
        tried = sum(row.tried for row in report.matrix)
        part = "all states" if report.full else "a part spread over all states (--full: all)"
        failed = any(row.failed for row in report.matrix)
        verdict = "FAILED: see above" if failed else "every device came back as old-active or new-committed"
        self._say("")
        self._say(f"{tried} crashes in {report.seconds:.0f} s, {part}: {verdict}.")
        self._say("old: the version before; new: where the change leads; trial: it goes on there with one start less.")
        self._say(
            "After each: what answers loads and matches its record, the journal is whole, and the same change again succeeds."
        )
        if not report.storage.keeps:
            self._say("")
            self._say(f"FAILED: {report.storage.why}.")
            self._say("Next: put the agent's folder on a disk, mounted so that flushes reach it, and try again.")

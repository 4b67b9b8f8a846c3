"""A really full file system: nothing new begins, and what has happened is still written down."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from fieldops.audit.entry import Draft
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
from fieldops.errors import StorageFault
from fieldops.operations import trail

home, signer = Path(sys.argv[1]), Ed25519Signer.generate()
journal = SqliteJournal.open(home / "audit.db", lambda: signer, SystemClock())
intent = Draft(actor="local:kim", phase="intent", act="Activate", reason="r" * 2000)
first = journal.append(intent)
filler = home / "filler"
try:
    with filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
begun = 0
try:
    while True:
        journal.append(intent)
        begun += 1
except StorageFault as fault:
    assert (fault.reason, fault.exit_code) == ("disk_full", 8), fault
    assert "free some space" in fault.next_step
outcome = journal.append(Draft(actor="local:kim", phase="outcome", act="Activate", of=first.seq))
assert outcome.seq == begun + 2
assert trail.verify(journal).ok
assert journal.read(outcome.seq - 1)[0][0] == outcome
filler.unlink()
journal.append(intent)
assert trail.verify(journal).ok
assert [path.name for path in home.iterdir() if path.name.endswith(".ballast")] == [".audit.db.ballast"]
print("whole")
"""


def can_mount() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    tried = subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True, timeout=20, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this machine allows no small file system to be mounted")
def test_a_full_disk_begins_nothing_and_still_records_what_happened(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = 'mount -t tmpfs -o size=1200k x "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", str(disk), sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("whole\n", "")

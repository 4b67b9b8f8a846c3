"""A laptop as a process of its own, so that it can die: `laptop_process.py laptop JOB` does what is left of an installation.

JOB is a JSON file: folder, stick, person (key file), home and runtime of the agent, version, ready (what the agent printed).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import FolderSource
from tests.agent.conftest import CLOCK, Agent, Laptop


def main() -> None:
    job = json.loads(Path(sys.argv[2]).read_text("utf-8"))
    Path(job["pid"]).write_text(str(os.getpid()), "ascii")
    folder = Path(job["folder"])
    signer = Ed25519Signer.load_or_create(folder / "keys" / "laptop.key")
    journal = SqliteJournal.open(folder / "audit.db", lambda: signer, CLOCK)
    trust = TrustStore(folder / "trust", folder / "cache", CLOCK)
    technician = PersonFile(Path(job["person"]), signer.laptop, folder / "session")
    laptop = Laptop(folder, signer, journal, trust, technician, FolderSource(Path(job["stick"])))
    agent, version = Agent(Path(job["home"]), Path(job["runtime"]), ready=job["ready"]), job["version"]
    slot = agent.slot()
    if slot.active != version:
        if not (slot.state in {"staged", "trial"} and slot.candidate == version):
            laptop.stage(agent, f"digits@{version}")
        if slot.state != "trial":
            laptop.activate(agent, version)
        laptop.commit(agent, version)
    journal.close()


main()

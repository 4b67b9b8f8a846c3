"""What is on disk while a new agent is on trial beside the old one.

    agent -> software/<kit id>      what is started: the old agent until the new one is kept
    software/<kit id>/                each agent whole in a folder of its own
    upgrade.json                      there while a new one is on trial; whoever starts as `agent` stands guard over it
    upgrade.over                      why the old one came back, until it has been told to the log

So the old agent comes back by one file's removal, and the new one stays by one link's move, which comes first.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from fieldops.agent.home import AgentHome
from fieldops.bundles.kit import PLATFORMS, agent_name
from fieldops.decoding import decoder
from fieldops.edges.disk import point, storage_faults, sync_folder, unlink, write_whole

ON_TRIAL = "FIELDOPS_AGENT_ON_TRIAL"  # in the new agent's environment: which start of its trial this is

T = TypeVar("T")


class NewAgent(Struct, frozen=True, kw_only=True):
    """upgrade.json. software, former: kit ids. answer_s: for each start. trial_s: to be kept. starts: how often a guard began."""

    step_id: str
    version: str
    software: str
    former: str
    trial_s: int
    answer_s: int = 90  # a small device imports for half a minute
    starts: int = 0


class Over(Struct, frozen=True, kw_only=True):
    """upgrade.over."""

    step_id: str
    version: str
    reason: str
    message: str


def on_trial(home: AgentHome) -> NewAgent | None:
    return _read(home.root / "upgrade.json", NewAgent)


def put_on_trial(home: AgentHome, new: NewAgent) -> None:
    """From here on every start of the service tries it. Raises StorageFault."""
    write_whole(home.root / "upgrade.json", msgspec.json.encode(new))


def why_back(home: AgentHome) -> Over | None:
    return _read(home.root / "upgrade.over", Over)


def told(home: AgentHome) -> None:
    """The log holds why the old agent came back."""
    _remove(home.root / "upgrade.over")


def give_up(home: AgentHome, over: Over) -> None:
    """The next start is the old agent's. A full disk loses the reason, never the way back."""
    try:
        write_whole(home.root / "upgrade.over", msgspec.json.encode(over))
    finally:
        clear(home)


def keep(home: AgentHome, new: NewAgent) -> None:
    """Durable in this order: the link, then the end of the trial; a cut between the two is ended by the next start."""
    point(home.root / "agent", f"software/{new.software}")
    clear(home)


def clear(home: AgentHome) -> None:
    _remove(home.root / "upgrade.json")


def current(home: AgentHome) -> str:
    """Kit id of what is started; "" where no kit was installed."""
    try:
        return (home.root / "agent").readlink().name
    except OSError:
        return ""


def running(home: AgentHome) -> str:
    """Kit id of the software that this process is; "" where it came by no kit."""
    here = Path(sys.prefix).resolve()
    return here.name if here.parent == (home.root / "software").resolve() else ""


def trial_start() -> int:
    """1 and 2: this process is an agent on trial, started for the first or the second time. 0: it is not."""
    said = os.environ.get(ON_TRIAL, "")
    return int(said) if said in {"1", "2"} else 0


def own_name() -> str:
    """Under which software for this device is signed; "" where there are no kits for it."""
    libc = "linux" if platform.libc_ver()[0] == "glibc" else "musl"
    name = f"{libc}-{platform.machine()}"
    return agent_name(name, f"{sys.version_info.major}.{sys.version_info.minor}") if name in PLATFORMS else ""


def _read(path: Path, kind: type[T]) -> T | None:
    """None: there is none, or nobody can read it, which is no reason to leave the agent that works."""
    try:
        return decoder(kind).decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _remove(path: Path) -> None:
    with storage_faults(path):
        unlink(path)
        sync_folder(path.parent)

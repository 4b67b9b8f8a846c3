"""A store in this process, a store as the real program, and laptops that push to either."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fieldops.audit.entry import Draft
from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
from fieldops.wire import ENROL_PAYLOAD_TYPE, StoreEnrol, StoreEnrolled, b64, encode, enveloped


@dataclass
class HandClock:
    """Implements ports.Clock for what is recorded; deadlines run on the real one."""

    at: float = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class LaptopLog:
    """A laptop as far as the store is concerned: a key and a log."""

    path: Path
    clock: HandClock = field(default_factory=HandClock)
    signer: Ed25519Signer = field(default_factory=Ed25519Signer.generate)

    def __post_init__(self) -> None:
        self.journal = SqliteJournal.open(self.path, lambda: self.signer, self.clock)

    def write(self, *reasons: str, size: int = 0) -> None:
        for reason in reasons:
            text = reason + "." * size
            self.journal.append(Draft(actor="local:kim", phase="note", act="drift.read", device="d" * 52, reason=text))

    def bodies(self, after: int = 0) -> list[bytes]:
        return [body for _, body, _ in self.journal.raw(after, 100_000)]

    def let_in(self, store: LogStore, code: str | None = None) -> StoreEnrolled:
        """By a code, as on the wire."""
        made = code or store.laptops.invite(60.0).code
        request = StoreEnrol(v=1, store=store.id, code=made, public_key=b64(self.signer.public_key))
        data = enveloped(ENROL_PAYLOAD_TYPE, encode(request), self.signer.laptop, self.signer.sign)
        return store.laptops.enrol(data)

    def reopen(self, path: Path) -> LaptopLog:
        """The same laptop on another copy of its file."""
        return LaptopLog(path, self.clock, self.signer)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def deadline(clock: HandClock) -> Deadline:
    return Deadline.after(30, clock.monotonic)


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> Iterator[LogStore]:
    made = LogStore.open(tmp_path / "store", clock)
    yield made
    made.close()


@pytest.fixture
def new_laptop() -> Iterator[Callable[[Path], LaptopLog]]:
    made: list[LaptopLog] = []

    def make(path: Path) -> LaptopLog:
        made.append(LaptopLog(path))
        return made[-1]

    yield make
    for laptop in made:
        laptop.journal.close()


@pytest.fixture
def laptop(tmp_path: Path, new_laptop: Callable[[Path], LaptopLog]) -> LaptopLog:
    return new_laptop(tmp_path / "audit.db")


@dataclass
class Program:
    """`python -m fieldops.central serve` over one folder; start it as often as it is ended."""

    data: Path
    process: subprocess.Popen[str] | None = None
    listen: str = "127.0.0.1:0"

    def start(self) -> str:
        """Its address once it takes connections; the same one at every start."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fieldops.central", "serve", "--data", str(self.data), "--listen", self.listen, "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        ready = json.loads(line)
        self.listen = f"127.0.0.1:{ready['port']}"
        return str(ready["url"])

    def invite(self) -> str:
        """As the store's owner does it, beside the running program."""
        command = [sys.executable, "-m", "fieldops.central", "invite", "--data", str(self.data), "--label", "cart"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return str(json.loads(done.stdout)["code"])

    def let_in(self, laptop: LaptopLog, clock: HandClock) -> None:
        """A second process in this one: the database is shared."""
        store = LogStore.open(self.data, clock)
        laptop.let_in(store)
        store.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Exit code and what it said on stderr, after its standard input ended."""
        assert self.process is not None
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path / "central")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def read_store(clock: HandClock) -> Callable[[Program], LogStore]:
    return lambda program: LogStore.open(program.data, clock)

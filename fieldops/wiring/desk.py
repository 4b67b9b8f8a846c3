"""What lives in this laptop's home folder: who is here, what they did, what is trusted, what was kept."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges.clock import SystemClock
from fieldops.errors import UsageFault
from fieldops.wiring.folders import data_dir, read_config
from fieldops.wiring.once import once

if TYPE_CHECKING:  # types only: at run time each is imported by the property that makes one
    from fieldops.config import Config
    from fieldops.edges.bench_records import BenchRecords
    from fieldops.edges.keys import Ed25519Signer
    from fieldops.edges.pins import PinFolder
    from fieldops.edges.pulled import PulledTelemetry
    from fieldops.edges.samples import SampleFolder
    from fieldops.edges.tuf_client import TrustStore
    from fieldops.edges.visits import VisitFolder
    from fieldops.fleet import Inventory
    from fieldops.operations.gate import Gate
    from fieldops.policy import Actor
    from fieldops.ports import Ask, InventoryFile, Journal, Media, Runner, Runs, Technician, Trail, Trust
    from fieldops.steps import Approval
    from fieldops.wire import Session

CACHE_LIMIT_BYTES = 8 << 30  # verified copies of bundles; beyond it the ones unused for longest go


class Desk:
    """Safe to share between threads."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = SystemClock()
        self.lock = threading.RLock()
        self.ask: Ask | None = None  # set by a front end where somebody is there to be asked
        self._settled = False

    def deadline(self, seconds: float, cancel: CancelToken | None = None) -> Deadline:
        return Deadline.after(seconds, self.clock.monotonic, cancel)

    def data_dir(self, name: str) -> Path:
        return data_dir(name, self.config.data)

    @once
    def config(self) -> Config:
        return read_config(self.home)

    @once
    def inventory_file(self) -> InventoryFile:
        from fieldops.edges.inventory import FleetFile

        return FleetFile(self.home / "fleet.toml", self.home / "known_hosts")

    def inventory(self) -> Inventory:
        """As the file is now; empty when there is none."""
        return self.inventory_file.read()

    def exclusive(self, what: str) -> AbstractContextManager[object]:
        """what: `console` or `sync`. Raises StorageFault (in_use) when another process of this home has it."""
        from fieldops.edges.locks import exclusive

        return exclusive(self.home / f"{what}.lock", what)

    # --- who is here, and what they did ----------------------------------------------------------------------------------------

    @once
    def signer(self) -> Ed25519Signer:
        """This laptop's key; the first use makes it."""
        from fieldops.edges.keys import Ed25519Signer

        return Ed25519Signer.load_or_create(self.home / "keys" / "laptop.key")

    @once
    def certificate(self) -> str:
        """What this laptop shows on a device's LAN port (PEM, self-signed by its key)."""
        from fieldops.edges.keys import self_signed_certificate

        return self_signed_certificate(self.signer, f"laptop-{self.signer.laptop}.fieldops.internal")

    @once
    def technician(self) -> Technician:
        from fieldops.edges.keys import PersonFile

        session = self.home / "cache" / "session.json"
        return _OneAtATime(PersonFile(self.config.person_key, self.signer.laptop, session, self._passphrase))

    def _passphrase(self) -> bytes | None:
        """Of the person's key, when it is locked."""
        from fieldops.ports import Question

        said = self.ask(Question("passphrase", f"Passphrase of {self.config.person_key}")) if self.ask is not None else None
        return said.encode("utf-8") if said is not None else None

    def approve(self, statement: str) -> Approval:
        """This person's SSH signature on a statement. Raises UsageFault (no_key) where config.toml names no key."""
        from fieldops.bundles.approvals import APPROVAL_NAMESPACE
        from fieldops.edges.keys import sign_as
        from fieldops.steps import Approval

        if self.config.person_key is None:
            raise UsageFault(
                "nobody is signed in here", reason="no_key", next_step="name your SSH key under [person] in config.toml"
            )
        signature = sign_as(self.config.person_key, APPROVAL_NAMESPACE, statement.encode("utf-8"), self._passphrase)
        return Approval(statement=statement, signature=signature)

    @once
    def journal(self) -> Trail:
        """Reading loads no cryptography: the key is asked for at the first append."""
        from fieldops.edges.journal import SqliteJournal

        return SqliteJournal.open(self.home / "audit.db", lambda: self.signer, self.clock, self._witness_key)

    def _witness_key(self, witness: str) -> bytes | None:
        """The raw key of `device:<id>` where enrolment pinned its certificate."""
        from fieldops.edges.keys import certificate_key

        kind, _, device = witness.partition(":")
        pin = self.pins.of(device) if kind == "device" else None
        return certificate_key(pin) if pin is not None else None

    def gate(self) -> Gate:
        """With the policy as this laptop trusts it now. What a process that is gone left open in the log is settled first."""
        from fieldops.operations.gate import Gate

        gate = Gate(self.journal, self.signer, self.technician, self.trust.policy(), self.clock)
        with self.lock:
            if not self._settled:
                self._settled = True
                gate.settle_open()
        return gate

    # --- what is trusted, and what was kept --------------------------------------------------------------------------------------

    @once
    def pins(self) -> PinFolder:
        from fieldops.edges.pins import PinFolder

        return PinFolder(self.home / "trust" / "devices")

    @property
    def trust(self) -> Trust:
        return self.trust_store

    @once
    def trust_store(self) -> TrustStore:
        from fieldops.edges.tuf_client import TrustStore

        return TrustStore(self.home / "trust", self.home / "cache", self.clock, cache_limit=CACHE_LIMIT_BYTES)

    @once
    def media(self) -> Media:
        from fieldops.edges.site_server import answering
        from fieldops.edges.usb import StickMedia

        address = self.config.site
        site = partial(answering, address) if address is not None else None
        return StickMedia(also=self.config.stick_folders, site=site)

    @once
    def runs(self) -> Runs:
        """Runbook runs of this laptop."""
        from fieldops.edges.runs import RunFolder

        return RunFolder(self.home / "runs", self.clock)

    @once
    def samples(self) -> SampleFolder:
        """Inputs that devices kept, and their labels."""
        from fieldops.edges.samples import SampleFolder

        return SampleFolder(self.home / "samples")

    @once
    def telemetry(self) -> PulledTelemetry:
        """What devices counted, until the store has it."""
        from fieldops.edges.pulled import PulledTelemetry

        return PulledTelemetry(self.home / "telemetry.db")

    def visit_folder(self, wanted: Path | None = None) -> VisitFolder:
        """Of a visit that ends now."""
        from fieldops.edges.visits import VisitFolder

        return VisitFolder(wanted.absolute()) if wanted is not None else VisitFolder.at(self.home / "visits", self.clock.now())

    def free_bytes(self) -> int:
        """On the disk of the home."""
        from fieldops.edges.shelves import free_bytes

        return free_bytes(self.home)

    @once
    def benchmarks(self) -> BenchRecords:
        """The runs `fieldops bench` took here."""
        from fieldops.edges.bench_records import BenchRecords

        return BenchRecords(self.home / "runs" / "bench", self.clock)

    @once
    def runner(self) -> Runner:
        from fieldops.edges.onnx import OnnxRunner

        return OnnxRunner()


class _OneAtATime:
    """A technician asked by many threads: one proof is made, the others find it. A hardware key is touched once."""

    def __init__(self, person: Technician) -> None:
        self.person = person
        self.asking = threading.Lock()

    def actor(self) -> Actor:
        return self.person.actor()

    def proof(self, journal: Journal, now: float) -> Session | None:
        with self.asking:
            return self.person.proof(journal, now)

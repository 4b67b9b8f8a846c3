"""This laptop: its key, its log, its person, what it keeps, the models it runs itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # ports are shapes: who implements or calls them brings the values
    from fieldops.audit.entry import Draft, Entry
    from fieldops.bench import GoldenResult, Measured
    from fieldops.bundles.manifest import Manifest
    from fieldops.deadline import Deadline
    from fieldops.fleet import Inventory, LaptopId
    from fieldops.policy import Actor
    from fieldops.ports.device import Grant
    from fieldops.steps import Change
    from fieldops.wire import Session


class Signer(Protocol):
    """The laptop's Ed25519 key."""

    @property
    def laptop(self) -> LaptopId: ...

    @property
    def public_key(self) -> bytes:
        """32 raw bytes."""

    def sign(self, message: bytes) -> bytes:
        """64 raw bytes."""


class Journal(Protocol):
    """The laptop's audit log; the log is the outbox. Safe for several processes. Raises StorageFault."""

    @property
    def log(self) -> str:
        """Origin: fieldops/<laptop id>/<epoch>."""

    def append(self, draft: Draft) -> Entry:
        """Durable when it returns, with a new signed checkpoint."""

    def size(self) -> int: ...

    def root(self) -> bytes:
        """Merkle root of the whole log, 32 bytes."""

    def checkpoint(self) -> str:
        """The signed note over the whole log."""

    def consistency(self, old_size: int) -> list[bytes]:
        """Proof from old_size to now; empty when old_size is 0 or the whole."""

    def read(self, after: int = 0, limit: int = 1000) -> list[tuple[Entry, bytes]]:
        """Entries with seq > after, oldest first, each with its exact bytes."""

    def newest(self, act: str, device: str) -> Entry | None:
        """The last entry of that act about that device."""

    def open_intents(self) -> list[Entry]:
        """Intents without outcome whose process is gone."""

    def note_cosignature(self, witness: str, size: int, line: str) -> None:
        """Keep what a device or the store cosigned. Not an entry."""

    def cosigned_size(self, witness: str) -> int:
        """Largest size that witness cosigned; 0: none. `store:` without an id: any store."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A cosignature the journal keeps. witness: `device:<id>` or `store:<id>`; size: of the checkpoint it covers.

    public_key: the witness's raw Ed25519 key; None when this laptop does not know it (any more).
    """

    witness: str
    size: int
    line: str
    public_key: bytes | None


class Trail(Journal, Protocol):
    """The journal together with what proves it; what verifies and pushes the log needs this much."""

    @property
    def public_key(self) -> bytes:
        """The log's own key, 32 raw bytes."""

    def checkpoint_at(self, size: int) -> str:
        """A signed note over the first `size` entries."""

    def raw(self, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes, bytes]]:
        """(seq, bytes, kept leaf hash) as they stand in the file, whether or not they can be read as entries."""

    def witnessed(self) -> list[Witnessed]: ...

    def know_witness(self, witness: str, public_key: bytes) -> None:
        """Keep the key of a witness; its id is the key's hash, so a wrong one raises UsageFault."""

    def verify_signature(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Ed25519."""

    def close(self) -> None: ...


class Technician(Protocol):
    """The person at the laptop."""

    def actor(self) -> Actor: ...

    def proof(self, journal: Journal, now: float) -> Session | None:
        """None without a person's key: then only reading and reverting to last-good are possible."""


class RunRecord(Protocol):
    """What one runbook run did so far, a JSON text a line. An appended line is durable when the call returns."""

    @property
    def id(self) -> str: ...

    def append(self, line: bytes) -> None: ...

    def lines(self) -> list[bytes]:
        """Whole lines only: a line torn by a power cut is left out."""


class Runs(Protocol):
    """The runs of this laptop. Raises StorageFault; UsageFault for an unknown id."""

    def create(self) -> RunRecord: ...

    def open(self, run: str) -> RunRecord: ...

    def ids(self) -> list[str]:
        """Newest first."""


class InventoryFile(Protocol):
    """fleet.toml and known_hosts. `apply` is the only mutating call."""

    def read(self) -> Inventory: ...

    def apply(self, grant: Grant, change: Change) -> None: ...


class Runner(Protocol):
    """Inference on the laptop itself. Raises UsageFault, TrustRefused (a digest), DeviceCannot (does not load or run)."""

    def measure(self, file: Path, *, samples: int, warmup: int, deadline: Deadline) -> Measured:
        """One ONNX file with made-up inputs."""

    def judge(self, folder: Path, manifest: Manifest, golden: bytes) -> GoldenResult:
        """A bundle's files against a task's golden set."""

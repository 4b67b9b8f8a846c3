"""What the operations need of the world, and nothing else. Edges implement these; only `wiring` brings the two together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

if TYPE_CHECKING:  # ports are shapes: who implements or calls them brings the values
    from fieldops.audit.entry import Draft, Entry
    from fieldops.bench import GoldenResult, Measured
    from fieldops.bundles.approvals import Matter
    from fieldops.bundles.manifest import Manifest
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry, DeviceId, Inventory, LaptopId, Resources
    from fieldops.policy import Actor, PolicyDocument
    from fieldops.steps import Approval, Change, Step
    from fieldops.wire import (
        Challenge,
        DriftReports,
        Hello,
        JournalPage,
        ModelsReport,
        Session,
        StepRecord,
        TelemetryPart,
        TelemetryReply,
        TrustStatus,
    )


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back within this process."""


@dataclass(frozen=True, slots=True)
class Progress:
    """total None: not known yet. phase is a word such as `payload` or `validating`."""

    phase: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What only the person can say. text: for the screen, without control characters; echo: the answer may be shown.

    device: the name of the device that asks; "" for what stays on this laptop. host: user@address; host_key: the fingerprint
    that the host proved, and that is trusted.
    """

    kind: Literal["passphrase", "password", "answer"]
    text: str
    echo: bool = False
    device: str = ""
    host: str = ""
    host_key: str = ""


Ask = Callable[[Question], "str | None"]
"""None: nobody answers. Set only where somebody is there to be asked."""

UNVERIFIED = "UNVERIFIED"
"""Stands last in the link's name where nothing vouches for the host: it may be looked at, never changed."""


# --- device ------------------------------------------------------------------------------------------------------------


class Grant(Protocol):
    """Leave for exactly one change, whose intent is on disk. Only operations/gate.py makes one."""

    @property
    def step_id(self) -> str: ...

    def envelope(self, device: DeviceId, step: Step, challenge: Challenge) -> bytes:
        """The signed DSSE envelope for POST /v1/steps."""


class Payload(Protocol):
    """The means of Stage and RotateTrust: verified metadata and blobs, from the laptop's own cache."""

    def metadata(self) -> dict[str, bytes]:
        """Names as on the stick -> bytes."""

    def open(self, sha256: str) -> BinaryIO:
        """A seekable reader of a verified copy. Raises KeyError when the cache has none."""


class Device(Protocol):
    """One device over whatever link it has. All but `apply` only read. Every call raises LinkFault, DeviceCannot, ..."""

    @property
    def entry(self) -> DeviceEntry: ...

    @property
    def link(self) -> str:
        """ssh, lan, local or bare; followed by UNVERIFIED where nothing vouches for the host."""

    def hello(self, deadline: Deadline) -> Hello: ...

    def resources(self, deadline: Deadline) -> Resources: ...

    def models(self, deadline: Deadline) -> ModelsReport: ...

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports: ...

    def journal(self, after: int, deadline: Deadline) -> JournalPage: ...

    def trust(self, deadline: Deadline) -> TrustStatus: ...

    def logs(self, lines: int, deadline: Deadline) -> list[str]: ...

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        """None: the device never heard of that step."""

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        """The only call that changes the device. Returns the ended record, whatever its outcome.

        After a lost link it reads the record first and goes on from there; LinkLost rises only when the deadline passes
        without the device being heard again.
        """

    def close(self) -> None: ...


# --- laptop ------------------------------------------------------------------------------------------------------------


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


# --- trust and media ---------------------------------------------------------------------------------------------------


class Source(Protocol):
    """Where signed metadata and payloads come from: a stick, a folder, a site server. Never trusted."""

    @property
    def name(self) -> str:
        """For people: a path or an address."""

    def read(self, path: str, limit: int) -> bytes:
        """`metadata/timestamp.json` or `targets/stable/...`. Raises TrustRefused (missing, too_long, not_regular_file, io_error)."""

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        """The rest of a file from offset on, in pieces of at most 1 MiB. Raises TrustRefused likewise."""


class Media(Protocol):
    def find(self) -> list[Source]:
        """Removable media that hold a fieldops repository, in the order found."""

    def at(self, path: str) -> Source:
        """A folder (or its FIELDOPS folder) or an http(s) address. Raises UsageFault when there is none."""

    def site(self, deadline: Deadline) -> Source | None:
        """The site server of this laptop. None: none is configured. Raises LinkFault where it does not answer by then."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One bundle a source offers. reason "" means usable; else one of errors.TRUST_REASONS."""

    channel: str
    model: str
    version: str
    counter: int
    size_bytes: int
    source: str
    reason: str = ""
    message: str = ""

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """What is brought so that expired metadata may be used. policy None: the one held by whoever judges.

    devices: ids of those it is for; each approval must name them all. asker: the person who asks.
    """

    approvals: tuple[Approval, ...]
    devices: tuple[str, ...]
    asker: str = ""
    policy: PolicyDocument | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """Expired metadata was used. since: Unix seconds of the last valid instant. people: fingerprints that approved."""

    since: float
    age_s: float
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustedBundle:
    """A bundle of which every byte was verified and copied to the cache. Only Trust.fetch makes one."""

    channel: str
    manifest: Manifest
    manifest_sha256: str
    payload: Payload
    folder: Path  # verified copies under their target's base names
    broken: Broken | None = None


@dataclass(frozen=True, slots=True)
class TrustedAgent:
    """An agent's kit that was verified and copied to the cache as one file. Only Trust.fetch_agent makes one."""

    channel: str
    agent: str  # its signed name
    version: str
    kit_sha256: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class TrustFacts:
    """What this laptop trusts now. expires: Unix seconds of the earliest of all metadata; None before the first root."""

    root_version: int
    root_sha256: str
    timestamp_version: int
    expires: float | None
    clock_floor: float
    clock_behind: bool  # the laptop's clock is below the floor; the floor is used


class Trust(Protocol):
    """The laptop's own root and state. Raises TrustRefused."""

    def facts(self) -> TrustFacts: ...

    def root_text(self) -> str:
        """The newest root.json, exact text; what Enrol carries."""

    def pin(self, root: bytes, expect_fingerprint: str | None) -> str:
        """The first root of this laptop. Returns its SHA-256. Raises TrustRefused, or UsageFault when one is pinned."""

    def refresh(self, source: Source, deadline: Deadline) -> TrustFacts: ...

    def candidates(self, source: Source, deadline: Deadline) -> list[Candidate]: ...

    def fetch(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
        glass: BreakGlass | None = None,
    ) -> TrustedBundle:
        """Verify and copy one bundle in one read of the source; resumes a copy cut off before. ref: MODEL@VERSION.

        What is here already is not read again, unless reread says that the source itself is to be judged.
        glass: metadata that is only too old may be used; the result says so.
        """

    def fetch_agent(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
    ) -> TrustedAgent:
        """As fetch, for an agent's software. Expired metadata installs none, whoever approves."""

    def expired_matter(self, source: Source, ref: str, deadline: Deadline, *, channel: str | None = None) -> Matter:
        """What people would have to sign to use a bundle although its metadata has expired."""

    def policy(self) -> PolicyDocument:
        """NO_POLICY before the first refresh that brought one."""

    def policy_payload(self) -> tuple[int, str, Payload]:
        """(timestamp version, sha256 of policy.json or "", payload): what RotateTrust carries."""

    def policy_target(self, name: str) -> bytes:
        """A verified target of the policy role, such as `policy/runbooks/<id>/runbook.yaml`. Raises TrustRefused."""

    def policy_targets(self) -> Sequence[str]: ...


# --- models on this machine ---------------------------------------------------------------------------------------------


class Runner(Protocol):
    """Inference on the laptop itself. Raises UsageFault, TrustRefused (a digest), DeviceCannot (does not load or run)."""

    def measure(self, file: Path, *, samples: int, warmup: int, deadline: Deadline) -> Measured:
        """One ONNX file with made-up inputs."""

    def judge(self, folder: Path, manifest: Manifest, golden: bytes) -> GoldenResult:
        """A bundle's files against a task's golden set."""


# --- centre ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """What the store knows of a log. size 0: nothing yet. root: hex."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's cosignature over a checkpoint, given after its commit."""

    size: int
    root: str
    line: str
    accepted: int  # entries that were new
    duplicate: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which number of which telemetry ring of a device the laptop has everything that there was."""

    ring: str
    seq: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Telemetry that the store has not confirmed."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """id: key_id(public_key)."""

    id: str
    public_key: bytes


class Store(Protocol):
    """The central store. Raises StoreFault when away or refusing, CheckFailed (reason fork or gap) on disagreement."""

    def identity(self, deadline: Deadline) -> StoreIdentity: ...

    def head(self, log: str, deadline: Deadline) -> Head: ...

    def push(self, log: str, first: int, entries: Iterable[bytes], checkpoint: str, deadline: Deadline) -> Receipt: ...

    def bring(self, parts: list[TelemetryPart], deadline: Deadline) -> TelemetryReply:
        """Signed by this laptop for this store; the same again changes nothing."""

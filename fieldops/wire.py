"""What laptop, agent and store say to each other: one frozen type a message, decoded and validated in one place.

Everything here is JSON over HTTP under /v1. Sizes are limits in bytes that the receiver enforces before it decodes.
A message may gain fields (ignored by older readers); it never loses or renames one within a version.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from fieldops.audit.entry import ENTRY_LIMIT
from fieldops.decoding import decoder
from fieldops.drift.report import DriftReport
from fieldops.errors import FieldopsError, MalformedReply, UsageFault, from_parts, next_step_of
from fieldops.steps import Step

VERSION = 1
SUPPORTED = (1, 1)  # lowest and highest version of the API this package speaks

MESSAGE_LIMIT = 1 << 20
ENVELOPE_LIMIT = 256 << 10
METADATA_LIMIT = 4 << 20
BATCH_LIMIT = 8 << 20

STEP_PAYLOAD_TYPE = "application/vnd.fieldops.step.v1+json"
ENROL_PAYLOAD_TYPE = "application/vnd.fieldops.enrol.v1+json"
TELEMETRY_PAYLOAD_TYPE = "application/vnd.fieldops.telemetry.v1+json"
SESSION_NAMESPACE = "fieldops-session@v1"

T = TypeVar("T")


class _Message(Struct, frozen=True, kw_only=True):
    pass


# --- agent: reading ----------------------------------------------------------------------------------------------------


class Hello(_Message, frozen=True, kw_only=True):
    """GET /v1/hello. Identity is what the device says here only after the link has proved it."""

    device: str  # device id
    public_key: str  # base64 of the agent's raw Ed25519 key; key_id(public_key) == device
    versions: tuple[int, int]
    agent: str  # version of the agent's software
    enrolled: bool
    boot_id: str
    time: float  # Unix seconds by the device's clock
    device_class: str = ""
    label: str = ""
    lan_certificate: str = ""  # PEM, "" when there is no LAN listener
    lan_port: int | None = None
    software: str = ""  # the name under which agents for this device are signed; "" from an agent that takes none


class Check(_Message, frozen=True, kw_only=True):
    """One check of a validation, with the figures that decided."""

    name: Literal["golden", "replay", "latency", "memory", "power", "load", "digest", "compatibility", "shadow"]
    ok: bool
    measured: str
    limit: str
    note: str = ""


SlotState = Literal[
    "idle", "staging", "staged", "validating", "trial", "committed", "settled", "reverting", "reverted", "needs_human"
]


class VersionInfo(_Message, frozen=True, kw_only=True):
    version: str
    counter: int
    manifest_sha256: str
    size_bytes: int
    role: Literal["active", "last_good", "candidate", "stored", "quarantined"]
    signed_by: str = ""  # channel; "" for an adopted model


class SlotStatus(_Message, frozen=True, kw_only=True):
    """One model on a device: what answers, what it could go back to, and the transaction under way."""

    model: str
    task: str
    state: SlotState
    active: str | None
    last_good: str | None
    candidate: str | None
    floor: int  # lowest counter that may be staged
    deadline_s: float | None = None  # seconds left of the trial; None outside one
    armed_from: float | None = None  # Unix seconds: the device tries its candidate by itself in this window; None: not armed
    armed_until: float | None = None
    reason: str = ""  # why it is in this state: the last transition's reason
    since: float = 0.0  # Unix seconds by the device's clock
    versions: list[VersionInfo] = []
    checks: list[Check] = []  # of the last validation


class ModelsReport(_Message, frozen=True, kw_only=True):
    read_at: float
    slots: list[SlotStatus]
    lease_holder: str | None = None  # laptop id that holds the device's lease
    lease_s: float | None = None


class DriftReports(_Message, frozen=True, kw_only=True):
    read_at: float
    models: list[DriftReport]


class TelemetryRecord(_Message, frozen=True, kw_only=True):
    """One model over one stretch of time. Counts are of that stretch alone, so records of any devices may be added up."""

    seq: int
    started: float  # Unix seconds by the device's clock
    ended: float
    boot_id: str
    uptime_s: float
    model: str
    version: str
    state: SlotState
    requests: int
    failed: int
    routes: dict[str, int]
    rested: dict[str, int]
    latency: dict[str, int]  # bin k holds answers of (1.1^(k-1), 1.1^k] ms: exact to merge, 5 % wide either way
    drift: dict[str, int]  # feature -> values counted outside of the range seen at release
    counted: int  # requests in those counts
    bins: dict[str, str] = {}  # feature -> packed counts of the drift windows that ended in this stretch (drift.sketch.pack)
    soc_temp_c: float | None
    throttled: bool | None
    battery_pct: float | None


class TelemetryPage(_Message, frozen=True, kw_only=True):
    """GET /v1/telemetry?after=&ring=. lost: records after `after` that were overwritten, or never written on a full disk.

    Another ring than the one asked for is read from its beginning.
    """

    records: list[TelemetryRecord]
    newest: int
    lost: int
    sizes: dict[str, int]  # bytes of this page by feature, so that whoever pays for a link knows what for
    ring: str = ""  # made with the file; "": an agent that knows one ring only
    set_aside: int = 0  # files found damaged since this device began; their records are gone, how many nobody knows


class Sample(_Message, frozen=True, kw_only=True):
    """An input that was kept. reason: low_confidence, out_of_range, or ordinary (one in fifty, so that labels are no caricature)."""

    id: int
    model: str
    version: str
    time: float
    reason: str
    label: int | None  # what the device answered
    confidence: float | None
    request: str  # base64 of the request's body, as the program sent it


class SamplePage(_Message, frozen=True, kw_only=True):
    """GET /v1/samples?model=&after=. unreadable: kept under a key that is gone."""

    samples: list[Sample]
    newest: int
    unreadable: int


class SealedSample(_Message, frozen=True, kw_only=True):
    """A kept input as it lies on the device: sealed for the recipients that the signed policy names (agent/sealing.py)."""

    id: int
    model: str
    version: str
    time: float
    reason: str
    label: int | None
    confidence: float | None
    sealed: str  # base64


class SealedPage(_Message, frozen=True, kw_only=True):
    """GET /v1/samples?model=&after=&sealed=1. left_out: kept before the policy named anybody, so nobody else could open them."""

    sealed: list[SealedSample]
    newest: int
    left_out: int
    recipients: list[str]  # base64 of their X25519 keys, as the device's policy names them now


class JournalEntry(_Message, frozen=True, kw_only=True):
    """An act in the device's own journal; `actor` is device:<id> for what it did alone."""

    seq: int
    time: float
    boot_id: str
    actor: str
    action: str
    model: str
    version: str
    reason: str
    detail: str = ""


class JournalPage(_Message, frozen=True, kw_only=True):
    entries: list[JournalEntry]
    newest: int  # highest seq there is


class TrustStatus(_Message, frozen=True, kw_only=True):
    """What the device itself trusts. 0: nothing of that kind yet."""

    root_version: int
    timestamp_version: int
    policy_sha256: str  # of policy.json; "" before the first RotateTrust
    laptops: list[str]
    clock_floor: float


# --- agent: changing ---------------------------------------------------------------------------------------------------


class ChallengeRequest(_Message, frozen=True, kw_only=True):
    log: str  # the laptop's log origin


class Challenge(_Message, frozen=True, kw_only=True):
    """Single use, 5 minutes of the device's monotonic time."""

    nonce: str
    known_size: int  # size of that log the device last cosigned; 0 when never seen


class Session(_Message, frozen=True, kw_only=True):
    """Proof that a person was at this laptop: SSHSIG (namespace fieldops-session@v1) over `body`."""

    body: str  # exact JSON text of SessionBody
    signature: str  # armoured SSHSIG


class SessionBody(_Message, frozen=True, kw_only=True):
    laptop: str
    log: str
    size: int
    root: str  # hex
    until: float  # Unix seconds, at most 12 h ahead


class StepRequest(_Message, frozen=True, kw_only=True):
    """The payload of the DSSE envelope that POST /v1/steps takes."""

    v: int
    step_id: str  # <laptop id>.<epoch>.<seq of the intent>
    device: str
    nonce: str
    checkpoint: str  # signed note that covers the intent
    consistency: list[str]  # base64 hashes, from known_size to the checkpoint's size
    session: Session | None
    step: Step


class DsseSignature(_Message, frozen=True, kw_only=True):
    keyid: str
    sig: str  # base64


class Envelope(_Message, frozen=True, kw_only=True):
    payloadType: str  # noqa: N815 - the name is DSSE's
    payload: str  # base64
    signatures: list[DsseSignature]


StepState = Literal["running", "done", "failed", "refused", "reverted", "needs_human"]


class ShadowReport(_Message, frozen=True, kw_only=True):
    """What a candidate made of copies of live requests, beside the version that answered them. None: nothing was asked."""

    seconds: float
    requests: int  # copies it was asked
    rows: int  # of those that could be compared
    agreed: int  # rows with the same top output
    not_comparable: int  # by the rule, without the first output, or of another shape
    failed: int
    dropped: int  # copies that found the queue full
    worst: float | None  # largest difference of an output
    p50_ms: float | None
    active_p50_ms: float | None  # of the same requests
    crash: str = ""  # how its worker ended; "": it did not


class StepRecord(_Message, frozen=True, kw_only=True):
    """What the device knows of one step. exit 0 while running and when done."""

    step_id: str
    kind: str
    state: StepState
    exit: int = 0
    reason: str = ""
    message: str = ""
    next: str = ""
    phase: str = ""  # metadata, payload, validating, shadow, trial, ...
    done_bytes: int = 0
    total_bytes: int = 0
    wanted: list[WantedBlob] = []  # while staging: what the device still needs, by its own verified metadata
    checks: list[Check] = []
    bench: BenchResult | None = None
    shadow: ShadowReport | None = None
    previous: str | None = None  # version active before
    version: str | None = None  # version active after
    cosignature: str = ""  # C2SP cosignature line over the checkpoint it was shown
    cosigned_size: int = 0  # of that checkpoint: other entries may stand between the intent and it; 0: not told
    started: float = 0.0
    finished: float | None = None

    @property
    def ended(self) -> bool:
        return self.state != "running"


class WantedBlob(_Message, frozen=True, kw_only=True):
    sha256: str
    size: int
    have: int  # bytes already there: upload resumes at this offset
    target: str  # the TUF target's name


class MetadataUpload(_Message, frozen=True, kw_only=True):
    """PUT /v1/steps/{id}/metadata: names as on the stick (`3.root.json`, `timestamp.json`) -> base64 of the bytes."""

    files: dict[str, str]


class BenchResult(_Message, frozen=True, kw_only=True):
    """Latencies in milliseconds of one request. A percentile is None when there are too few samples for it."""

    model: str
    version: str
    samples: int
    cold_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    rate_per_s: float
    kernel_ms: float  # calibration kernel beside the run; ratio of ratios makes runs comparable
    throttled: bool | None
    temp_before_c: float | None = None
    temp_after_c: float | None = None
    energy_j: float | None = None  # per inference
    accuracy: float | None = None
    runtime: str = ""
    threads: int = 1  # in which each graph ran
    provider: str = "CPUExecutionProvider"  # that was asked first for each node
    tuned: dict[str, float] = {}  # "provider xthreads" -> median milliseconds, where they were compared
    distrusted: dict[str, str] = {}  # likewise -> why it was not taken, however fast
    served_p50_ms: float | None = None  # of requests that took the way of a program's; p50_ms is of a tight loop
    baseline: BenchBaseline | None = None


class BenchBaseline(_Message, frozen=True, kw_only=True):
    """What a device is compared with for the model and version: its own, or what the release saw on its class."""

    version: str
    p50_ms: float
    p90_ms: float | None
    kernel_ms: float
    measured: float  # Unix seconds
    threads: int = 1  # what its workers are given, and
    provider: str = "CPUExecutionProvider"  # what they ask first for each node
    served_p50_ms: float | None = None  # what the figures of serving are compared with; None: not measured
    device_class: str = ""  # whose figures these are, by the signed manifest; "": this device's own


# --- central store -----------------------------------------------------------------------------------------------------
# POST /v1/logs/<laptop id>/<epoch>/entries?from=<seq>: one entry a line, exact bytes, no empty lines; header
# Fieldops-Checkpoint: base64 of the signed note over all entries up to the last line. Answers PushReply, or 409 with an ErrorDoc of reason `gap` (send from the head) or `fork`.

CHECKPOINT_HEADER = "Fieldops-Checkpoint"
LAPTOP_HEADER = "Fieldops-Laptop"  # its id, with POST /v1/telemetry
BATCH_ENTRIES = 2000
STORE_LETTERS = 12  # of the store's id, with which each enrolment code begins


class StoreInfo(_Message, frozen=True, kw_only=True):
    """GET /v1/store."""

    store: str  # key_id(public_key)
    public_key: str  # base64, raw Ed25519; cosigns as fieldops/store/<id>
    time: float
    versions: tuple[int, int]
    max_entries: int = BATCH_ENTRIES
    max_body_bytes: int = BATCH_LIMIT
    max_entry_bytes: int = ENTRY_LIMIT


class StoreHead(_Message, frozen=True, kw_only=True):
    """GET /v1/logs/<laptop id>/<epoch>/head. A log never heard of has size 0. forked: another history was offered."""

    log: str
    size: int
    root: str  # hex
    forked: bool
    time: float


class PushReply(_Message, frozen=True, kw_only=True):
    """Given after the commit. size and root: the store's head of this log now."""

    accepted: int
    duplicate: int
    size: int
    root: str  # hex
    receipt: str  # C2SP cosignature line over the checkpoint of this push
    time: float


class StoreEnrol(_Message, frozen=True, kw_only=True):
    """Payload of the DSSE envelope that POST /v1/enrol takes, signed by `public_key`. The same again answers the same."""

    v: int
    store: str  # id; the code begins with its first letters
    code: str  # as `fieldops central invite` printed it
    public_key: str  # base64 of the laptop's raw Ed25519 key
    label: str = ""


class StoreEnrolled(_Message, frozen=True, kw_only=True):
    store: str
    laptop: str
    enrolled: float


class TelemetryGap(_Message, frozen=True, kw_only=True):
    """Records after..upto (both left out) that will never come. why: device (overwritten or unwritten there), laptop (no room)."""

    after: int
    upto: int
    why: Literal["device", "laptop"]


class TelemetryPart(_Message, frozen=True, kw_only=True):
    """Some records of one device's ring, exactly as it gave them. ring: its name; another one counts from 1 again."""

    device: str
    ring: str
    records: list[msgspec.Raw] = []
    gaps: list[TelemetryGap] = []
    set_aside: int = 0  # rings of this device that were found damaged so far; how many records those held nobody knows


class TelemetryPush(_Message, frozen=True, kw_only=True):
    """Payload of the DSSE envelope that POST /v1/telemetry takes, signed by the laptop; `store` binds it to one."""

    v: int
    store: str
    parts: list[TelemetryPart]


class TelemetryReply(_Message, frozen=True, kw_only=True):
    """Given after the commit."""

    accepted: int
    duplicate: int


class DeviceTelemetry(_Message, frozen=True, kw_only=True):
    """A ring of a device as the store holds it. missing: numbers up to the newest that never came; lost: of those, told as gone."""

    device: str
    ring: str
    records: int
    missing: int
    lost: int
    set_aside: int
    newest: int
    first: float  # Unix seconds by the device's clock
    last: float
    received: float
    laptop: str
    requests: int
    failed: int
    routes: dict[str, int]
    drift: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    model: str
    version: str
    state: str
    soc_temp_c: float | None


class DeviceTelemetries(_Message, frozen=True, kw_only=True):
    """GET /v1/devices?limit=, on the store's own machine: the rings heard of last, newest first."""

    schema: str = "fieldops.central-devices/v1"
    devices: list[DeviceTelemetry]


class StoredTelemetry(_Message, frozen=True, kw_only=True):
    """GET /v1/devices/<id>/telemetry?ring=&after=, on the store's own machine. Oldest first; empty: no more."""

    schema: str = "fieldops.central-telemetry/v1"
    device: str
    ring: str
    records: list[msgspec.Raw]
    gaps: list[TelemetryGap]


# --- errors ------------------------------------------------------------------------------------------------------------


class ErrorDoc(_Message, frozen=True, kw_only=True):
    """`fieldops.error/v1`: every error of CLI, agent and store."""

    schema: str = "fieldops.error/v1"
    exit: int
    reason: str
    message: str
    next: str
    device: str | None = None


def error_doc(error: FieldopsError) -> ErrorDoc:
    return ErrorDoc(
        exit=error.exit_code, reason=error.reason, message=error.message, next=next_step_of(error), device=error.device
    )


def error_of(doc: ErrorDoc, device: str | None = None) -> FieldopsError:
    return from_parts(exit_code=doc.exit, reason=doc.reason, message=doc.message, next_step=doc.next, device=doc.device or device)


def step_error(record: StepRecord, device: str) -> FieldopsError | None:
    """The error a finished step stands for; None when it is done."""
    if record.state == "done":
        return None
    return from_parts(exit_code=record.exit, reason=record.reason, message=record.message, next_step=record.next, device=device)


# --- encode, decode ----------------------------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def decode(data: bytes, kind: type[T], *, sender: str, limit: int = MESSAGE_LIMIT) -> T:
    """One message. Raises MalformedReply that names the sender and the field."""
    next_step = "check that both sides run compatible versions of fieldops (`fieldops device show`)"
    if len(data) > limit:
        raise MalformedReply(f"{kind.__name__} of {len(data)} bytes from {sender}; the limit is {limit}", next_step=next_step)
    try:
        return decoder(kind).decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedReply(f"no {kind.__name__} from {sender}: {error}", next_step=next_step) from error


def refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """object_pairs_hook for signed or hand-written JSON: msgspec and json keep the last of two equal keys silently."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"duplicate key {key!r}")
        seen[key] = value
    return seen


def decode_signed(data: bytes, kind: type[T], *, what: str, limit: int) -> T:
    """Like decode, for bytes a signature covers: duplicate keys are refused as well. Raises UsageFault."""
    if len(data) > limit:
        raise UsageFault(
            f"{what} of {len(data)} bytes; the limit is {limit}", reason="oversized", next_step="ask for a smaller one"
        )
    try:
        json.loads(data, object_pairs_hook=refuse_duplicate_keys)
        return decoder(kind).decode(data)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise UsageFault(f"{what}: {error}", reason="malformed", next_step="get an intact copy") from error


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    """Raises ValueError (binascii.Error is one) on anything that is no canonical base64."""
    return base64.b64decode(text, validate=True)


def enveloped(payload_type: str, payload: bytes, keyid: str, sign: Callable[[bytes], bytes]) -> bytes:
    """A DSSE envelope with one signature."""
    signature = DsseSignature(keyid=keyid, sig=b64(sign(pre_authentication_encoding(payload_type, payload))))
    return encode(Envelope(payloadType=payload_type, payload=b64(payload), signatures=[signature]))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1: what is signed, so that a payload can never be read as one of another type."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)

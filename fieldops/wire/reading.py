"""What an agent says when it is asked: nothing here changes a device."""

from __future__ import annotations

from typing import Literal

from fieldops.drift.report import DriftReport
from fieldops.wire.messages import Message


class Hello(Message, frozen=True, kw_only=True):
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


class Check(Message, frozen=True, kw_only=True):
    """One check of a validation, with the figures that decided."""

    name: Literal["golden", "replay", "latency", "memory", "power", "load", "digest", "compatibility", "shadow"]
    ok: bool
    measured: str
    limit: str
    note: str = ""


SlotState = Literal[
    "idle", "staging", "staged", "validating", "trial", "committed", "settled", "reverting", "reverted", "needs_human"
]


class VersionInfo(Message, frozen=True, kw_only=True):
    version: str
    counter: int
    manifest_sha256: str
    size_bytes: int
    role: Literal["active", "last_good", "candidate", "stored", "quarantined"]
    signed_by: str = ""  # channel; "" for an adopted model


class SlotStatus(Message, frozen=True, kw_only=True):
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


class ModelsReport(Message, frozen=True, kw_only=True):
    read_at: float
    slots: list[SlotStatus]
    lease_holder: str | None = None  # laptop id that holds the device's lease
    lease_s: float | None = None


class DriftReports(Message, frozen=True, kw_only=True):
    read_at: float
    models: list[DriftReport]


class TelemetryRecord(Message, frozen=True, kw_only=True):
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


class TelemetryPage(Message, frozen=True, kw_only=True):
    """GET /v1/telemetry?after=&ring=. lost: records after `after` that were overwritten, or never written on a full disk.

    Another ring than the one asked for is read from its beginning.
    """

    records: list[TelemetryRecord]
    newest: int
    lost: int
    sizes: dict[str, int]  # bytes of this page by feature, so that whoever pays for a link knows what for
    ring: str = ""  # made with the file; "": an agent that knows one ring only
    set_aside: int = 0  # files found damaged since this device began; their records are gone, how many nobody knows


class Sample(Message, frozen=True, kw_only=True):
    """An input that was kept. reason: low_confidence, out_of_range, or ordinary (one in fifty, so that labels are no caricature)."""

    id: int
    model: str
    version: str
    time: float
    reason: str
    label: int | None  # what the device answered
    confidence: float | None
    request: str  # base64 of the request's body, as the program sent it


class SamplePage(Message, frozen=True, kw_only=True):
    """GET /v1/samples?model=&after=. unreadable: kept under a key that is gone."""

    samples: list[Sample]
    newest: int
    unreadable: int


class SealedSample(Message, frozen=True, kw_only=True):
    """A kept input as it lies on the device: sealed for the recipients that the signed policy names (agent/sealing.py)."""

    id: int
    model: str
    version: str
    time: float
    reason: str
    label: int | None
    confidence: float | None
    sealed: str  # base64


class SealedPage(Message, frozen=True, kw_only=True):
    """GET /v1/samples?model=&after=&sealed=1. left_out: kept before the policy named anybody, so nobody else could open them."""

    sealed: list[SealedSample]
    newest: int
    left_out: int
    recipients: list[str]  # base64 of their X25519 keys, as the device's policy names them now


class JournalEntry(Message, frozen=True, kw_only=True):
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


class JournalPage(Message, frozen=True, kw_only=True):
    entries: list[JournalEntry]
    newest: int  # highest seq there is


class TrustStatus(Message, frozen=True, kw_only=True):
    """What the device itself trusts. 0: nothing of that kind yet."""

    root_version: int
    timestamp_version: int
    policy_sha256: str  # of policy.json; "" before the first RotateTrust
    laptops: list[str]
    clock_floor: float

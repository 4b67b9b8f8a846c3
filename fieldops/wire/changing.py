"""A change on its way to a device, and what the device knows of it."""

from __future__ import annotations

from typing import Literal

from fieldops.steps import Step
from fieldops.wire.messages import Message
from fieldops.wire.reading import Check


class ChallengeRequest(Message, frozen=True, kw_only=True):
    log: str  # the laptop's log origin


class Challenge(Message, frozen=True, kw_only=True):
    """Single use, 5 minutes of the device's monotonic time."""

    nonce: str
    known_size: int  # size of that log the device last cosigned; 0 when never seen


class Session(Message, frozen=True, kw_only=True):
    """Proof that a person was at this laptop: SSHSIG (namespace fieldops-session@v1) over `body`."""

    body: str  # exact JSON text of SessionBody
    signature: str  # armoured SSHSIG


class SessionBody(Message, frozen=True, kw_only=True):
    laptop: str
    log: str
    size: int
    root: str  # hex
    until: float  # Unix seconds, at most 12 h ahead


class StepRequest(Message, frozen=True, kw_only=True):
    """The payload of the DSSE envelope that POST /v1/steps takes."""

    v: int
    step_id: str  # <laptop id>.<epoch>.<seq of the intent>
    device: str
    nonce: str
    checkpoint: str  # signed note that covers the intent
    consistency: list[str]  # base64 hashes, from known_size to the checkpoint's size
    session: Session | None
    step: Step


class DsseSignature(Message, frozen=True, kw_only=True):
    keyid: str
    sig: str  # base64


class Envelope(Message, frozen=True, kw_only=True):
    payloadType: str  # noqa: N815 - the name is DSSE's
    payload: str  # base64
    signatures: list[DsseSignature]


StepState = Literal["running", "done", "failed", "refused", "reverted", "needs_human"]


class ShadowReport(Message, frozen=True, kw_only=True):
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


class StepRecord(Message, frozen=True, kw_only=True):
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


class WantedBlob(Message, frozen=True, kw_only=True):
    sha256: str
    size: int
    have: int  # bytes already there: upload resumes at this offset
    target: str  # the TUF target's name


class MetadataUpload(Message, frozen=True, kw_only=True):
    """PUT /v1/steps/{id}/metadata: names as on the stick (`3.root.json`, `timestamp.json`) -> base64 of the bytes."""

    files: dict[str, str]


class BenchResult(Message, frozen=True, kw_only=True):
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


class BenchBaseline(Message, frozen=True, kw_only=True):
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

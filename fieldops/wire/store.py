"""What a laptop and the central store say to each other."""

from __future__ import annotations

from typing import Literal

import msgspec

from fieldops.audit.entry import ENTRY_LIMIT
from fieldops.wire.messages import BATCH_LIMIT, Message

# POST /v1/logs/<laptop id>/<epoch>/entries?from=<seq>: one entry a line, exact bytes, no empty lines; header
# Fieldops-Checkpoint: base64 of the signed note over all entries up to the last line. Answers PushReply, or 409 with an ErrorDoc of reason `gap` (send from the head) or `fork`.

CHECKPOINT_HEADER = "Fieldops-Checkpoint"
LAPTOP_HEADER = "Fieldops-Laptop"  # its id, with POST /v1/telemetry
BATCH_ENTRIES = 2000
STORE_LETTERS = 12  # of the store's id, with which each enrolment code begins


class StoreInfo(Message, frozen=True, kw_only=True):
    """GET /v1/store."""

    store: str  # key_id(public_key)
    public_key: str  # base64, raw Ed25519; cosigns as fieldops/store/<id>
    time: float
    versions: tuple[int, int]
    max_entries: int = BATCH_ENTRIES
    max_body_bytes: int = BATCH_LIMIT
    max_entry_bytes: int = ENTRY_LIMIT


class StoreHead(Message, frozen=True, kw_only=True):
    """GET /v1/logs/<laptop id>/<epoch>/head. A log never heard of has size 0. forked: another history was offered."""

    log: str
    size: int
    root: str  # hex
    forked: bool
    time: float


class PushReply(Message, frozen=True, kw_only=True):
    """Given after the commit. size and root: the store's head of this log now."""

    accepted: int
    duplicate: int
    size: int
    root: str  # hex
    receipt: str  # C2SP cosignature line over the checkpoint of this push
    time: float


class StoreEnrol(Message, frozen=True, kw_only=True):
    """Payload of the DSSE envelope that POST /v1/enrol takes, signed by `public_key`. The same again answers the same."""

    v: int
    store: str  # id; the code begins with its first letters
    code: str  # as `fieldops central invite` printed it
    public_key: str  # base64 of the laptop's raw Ed25519 key
    label: str = ""


class StoreEnrolled(Message, frozen=True, kw_only=True):
    store: str
    laptop: str
    enrolled: float


class TelemetryGap(Message, frozen=True, kw_only=True):
    """Records after..upto (both left out) that will never come. why: device (overwritten or unwritten there), laptop (no room)."""

    after: int
    upto: int
    why: Literal["device", "laptop"]


class TelemetryPart(Message, frozen=True, kw_only=True):
    """Some records of one device's ring, exactly as it gave them. ring: its name; another one counts from 1 again."""

    device: str
    ring: str
    records: list[msgspec.Raw] = []
    gaps: list[TelemetryGap] = []
    set_aside: int = 0  # rings of this device that were found damaged so far; how many records those held nobody knows


class TelemetryPush(Message, frozen=True, kw_only=True):
    """Payload of the DSSE envelope that POST /v1/telemetry takes, signed by the laptop; `store` binds it to one."""

    v: int
    store: str
    parts: list[TelemetryPart]


class TelemetryReply(Message, frozen=True, kw_only=True):
    """Given after the commit."""

    accepted: int
    duplicate: int


class DeviceTelemetry(Message, frozen=True, kw_only=True):
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


class DeviceTelemetries(Message, frozen=True, kw_only=True):
    """GET /v1/devices?limit=, on the store's own machine: the rings heard of last, newest first."""

    schema: str = "fieldops.central-devices/v1"
    devices: list[DeviceTelemetry]


class StoredTelemetry(Message, frozen=True, kw_only=True):
    """GET /v1/devices/<id>/telemetry?ring=&after=, on the store's own machine. Oldest first; empty: no more."""

    schema: str = "fieldops.central-telemetry/v1"
    device: str
    ring: str
    records: list[msgspec.Raw]
    gaps: list[TelemetryGap]

"""What `--json` prints: one frozen type a document, tagged by its schema. docs/schemas/ is generated from these.

A document may gain fields; it never loses or renames one within a version. null means unknown, never 0.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fieldops.audit.entry import Entry
from fieldops.fleet import DeviceEntry, Resources
from fieldops.wire import BenchResult, ErrorDoc, JournalEntry, SlotStatus, StepRecord


class Document(Struct, frozen=True, kw_only=True, tag_field="schema"):
    """Common shape: the schema's name comes first."""


class _Part(Struct, frozen=True, kw_only=True):
    pass


# --- inventory -------------------------------------------------------------------------------------------------------------


class DeviceItem(_Part, frozen=True, kw_only=True):
    """A device as fleet.toml names it."""

    name: str
    site: str
    device_class: str
    ssh: str | None
    lan: str | None
    id: str | None
    tags: list[str]
    owner: str


def item_of(entry: DeviceEntry) -> DeviceItem:
    return DeviceItem(
        name=entry.name,
        site=entry.site,
        device_class=entry.device_class,
        ssh=str(entry.ssh) if entry.ssh else None,
        lan=str(entry.lan) if entry.lan else None,
        id=entry.id,
        tags=list(entry.tags),
        owner=entry.owner,
    )


class Devices(Document, frozen=True, kw_only=True, tag="fieldops.devices/v1"):
    devices: list[DeviceItem]


class DeviceState(_Part, frozen=True, kw_only=True):
    """One device at one instant. state OFF: it did not answer, and error says why."""

    device: DeviceItem
    state: Literal["OK", "WARN", "FAIL", "OFF"]
    reasons: list[str]
    link: str
    agent: str | None
    enrolled: bool | None
    boot_id: str | None
    models: list[SlotStatus] | None
    error: ErrorDoc | None


class DeviceStates(Document, frozen=True, kw_only=True, tag="fieldops.device-states/v1"):
    devices: list[DeviceState]


class FoundDevice(_Part, frozen=True, kw_only=True):
    """known: stands in the inventory. error: why it did not answer."""

    name: str
    address: str
    known: bool
    id: str | None
    label: str | None
    device_class: str | None
    enrolled: bool | None
    error: ErrorDoc | None


class Discovered(Document, frozen=True, kw_only=True, tag="fieldops.discovered/v1"):
    found: list[FoundDevice]


class InventoryChange(Document, frozen=True, kw_only=True, tag="fieldops.inventory-change/v1"):
    """done false: a dry run."""

    device: str
    change: str
    done: bool


class EnrolledDevice(_Part, frozen=True, kw_only=True):
    device: str
    id: str | None
    steps: list[str]
    done: bool
    error: ErrorDoc | None
    proof: str | None = None  # with --kit: how the agent was seen to come back by itself
    unproved: str | None = None  # why it was not; then the device puts nothing on trial


class Enrolled(Document, frozen=True, kw_only=True, tag="fieldops.enrolled/v1"):
    devices: list[EnrolledDevice]


class BuiltKit(Document, frozen=True, kw_only=True, tag="fieldops.built-kit/v1"):
    """An installation kit on this laptop's disk."""

    folder: str
    version: str
    platform: str
    python: str
    files: int
    size_bytes: int


# --- reading a device --------------------------------------------------------------------------------------------------------


class DeviceResources(_Part, frozen=True, kw_only=True):
    device: str
    link: str | None
    resources: Resources | None
    error: ErrorDoc | None


class ResourcesReport(Document, frozen=True, kw_only=True, tag="fieldops.resources/v1"):
    devices: list[DeviceResources]


class DeviceModels(_Part, frozen=True, kw_only=True):
    device: str
    models: list[SlotStatus] | None
    lease_holder: str | None
    error: ErrorDoc | None


class ModelsReport(Document, frozen=True, kw_only=True, tag="fieldops.models/v1"):
    devices: list[DeviceModels]


class Shift(_Part, frozen=True, kw_only=True):
    """One observed quantity: above the threshold in two of three windows is a shift. history: oldest first.

    threshold null: no value of the statistic would be a shift here. statistic null: nothing to compare.
    """

    name: str
    statistic: float | None
    threshold: float | None
    shifted: bool
    history: list[float | None]


class ModelDrift(_Part, frozen=True, kw_only=True):
    """verdict: where the cause lies. unknown: too little evidence. n: requests in the newest window."""

    model: str
    version: str
    verdict: Literal["ok", "data", "hardware", "both", "unknown"]
    labels: list[str]
    evidence: list[str]
    features: list[Shift]
    n: int


class DeviceDrift(_Part, frozen=True, kw_only=True):
    device: str
    models: list[ModelDrift] | None
    error: ErrorDoc | None


class DriftReport(Document, frozen=True, kw_only=True, tag="fieldops.drift/v1"):
    devices: list[DeviceDrift]


class DeviceLogs(_Part, frozen=True, kw_only=True):
    device: str
    lines: list[str] | None
    journal: list[JournalEntry] | None
    error: ErrorDoc | None


class Logs(Document, frozen=True, kw_only=True, tag="fieldops.logs/v1"):
    devices: list[DeviceLogs]


# --- benchmarks ----------------------------------------------------------------------------------------------------------------


class BenchRecord(_Part, frozen=True, kw_only=True):
    """A run this laptop keeps. device: "local" for a file measured on the laptop."""

    id: str
    time: float
    device: str
    result: BenchResult


class BenchRun(Document, frozen=True, kw_only=True, tag="fieldops.bench/v1"):
    """verdict: against the device's own baseline; null without one. reason: why it is not comparable."""

    run: BenchRecord
    verdict: str | None
    reason: str


class BenchList(Document, frozen=True, kw_only=True, tag="fieldops.benches/v1"):
    runs: list[BenchRecord]


class ComparedRow(_Part, frozen=True, kw_only=True):
    """ratio: now / before after allowing for the machine's own speed; null where one is missing."""

    name: str
    before_ms: float | None
    now_ms: float | None
    ratio: float | None


class BenchComparison(Document, frozen=True, kw_only=True, tag="fieldops.bench-comparison/v1"):
    """before, now: ids of runs. reason: why they are not comparable."""

    before: str
    now: str
    comparable: bool
    verdict: str
    reason: str
    kernel_ratio: float | None
    rows: list[ComparedRow]


# --- trust, sticks, changes ------------------------------------------------------------------------------------------------------


class Bundle(_Part, frozen=True, kw_only=True):
    """reason: empty when usable, else why it is refused (a trust reason)."""

    ref: str
    channel: str
    counter: int
    size_bytes: int
    source: str
    reason: str
    message: str


class Bundles(Document, frozen=True, kw_only=True, tag="fieldops.bundles/v1"):
    """sources: the media looked at."""

    sources: list[str]
    bundles: list[Bundle]
    refused: list[ErrorDoc]


class StickVerified(Document, frozen=True, kw_only=True, tag="fieldops.stick-verified/v1"):
    """Every byte of each bundle was read and checked. ok: none was refused."""

    source: str
    ok: bool
    bundles: list[Bundle]


class DevicePlan(_Part, frozen=True, kw_only=True):
    """error: why this device will not take it. The steps say what this laptop's policy refuses already."""

    device: str
    model: str
    from_version: str | None
    to_version: str | None
    steps: list[str]
    warnings: list[str]
    error: ErrorDoc | None


class Plan(Document, frozen=True, kw_only=True, tag="fieldops.plan/v1"):
    """What a change would do; nothing was changed."""

    devices: list[DevicePlan]


class DeviceChange(_Part, frozen=True, kw_only=True):
    """records: what the device says of each step, in order; empty when it already was so."""

    device: str
    model: str
    from_version: str | None
    to_version: str | None
    records: list[StepRecord]
    error: ErrorDoc | None


class Changed(Document, frozen=True, kw_only=True, tag="fieldops.changed/v1"):
    devices: list[DeviceChange]


class Pulled(Document, frozen=True, kw_only=True, tag="fieldops.samples-pulled/v1"):
    """unreadable: kept under a key that the device no longer has. unlabelled: of all that were pulled."""

    device: str
    model: str
    new: int
    unreadable: int
    unlabelled: int


class Labelled(Document, frozen=True, kw_only=True, tag="fieldops.samples-labelled/v1"):
    device: str
    model: str
    new: int
    labelled: int
    file: str


class TrustState(Document, frozen=True, kw_only=True, tag="fieldops.policy/v1"):
    """expires: Unix seconds of the earliest of all signed metadata. role: of the person at this laptop; null: none."""

    root_version: int
    root_sha256: str
    timestamp_version: int
    expires: float | None
    clock_floor: float
    clock_behind: bool
    actor: str
    role: str | None
    roles: dict[str, list[str]]
    people: list[str]
    runbooks: list[str]


class PolicyCheck(Document, frozen=True, kw_only=True, tag="fieldops.policy-check/v1"):
    ok: bool
    problems: list[str]


class Pinned(Document, frozen=True, kw_only=True, tag="fieldops.pinned/v1"):
    root_sha256: str


class ApprovalFile(Document, frozen=True, kw_only=True, tag="fieldops.approval/v1"):
    """What `fieldops approve` writes and `--approval` reads. by: fingerprint of the signer's key, for people only."""

    statement: str
    signature: str
    by: str


# --- runbooks --------------------------------------------------------------------------------------------------------------------


class RunbookItem(_Part, frozen=True, kw_only=True):
    id: str
    title: str
    params: list[str]
    sha256: str


class Runbooks(Document, frozen=True, kw_only=True, tag="fieldops.runbooks/v1"):
    runbooks: list[RunbookItem]


class RunbookCheck(Document, frozen=True, kw_only=True, tag="fieldops.runbook-check/v1"):
    """runbook: an id, or the path of a draft."""

    runbook: str
    ok: bool
    faults: list[str]


class RunbookLine(_Part, frozen=True, kw_only=True):
    """ok null: begun, outcome unknown; in a plan: not begun."""

    id: str
    what: str
    ok: bool | None


class RunbookPlan(Document, frozen=True, kw_only=True, tag="fieldops.runbook-plan/v1"):
    runbook: str
    params: dict[str, str]
    requires: list[str]
    steps: list[str]


class RunbookRun(Document, frozen=True, kw_only=True, tag="fieldops.runbook-run/v1"):
    """outcome null: the run is not over."""

    run: str
    runbook: str
    params: dict[str, str]
    outcome: str | None
    steps: list[RunbookLine]
    at: str
    reason: str
    message: str


class RunbookRuns(Document, frozen=True, kw_only=True, tag="fieldops.runbook-runs/v1"):
    runs: list[str]


# --- the log -----------------------------------------------------------------------------------------------------------------------


class AuditEntries(Document, frozen=True, kw_only=True, tag="fieldops.audit/v1"):
    log: str
    size: int
    entries: list[Entry]


class AuditVerified(Document, frozen=True, kw_only=True, tag="fieldops.audit-verified/v1"):
    """root: hex, computed from the bytes. witnesses: who cosigned this history, and up to which entry.

    unchecked: cosignatures whose key this laptop does not know.
    """

    ok: bool
    size: int
    root: str
    problems: list[str]
    witnesses: list[str]
    unchecked: int


class AuditSynced(Document, frozen=True, kw_only=True, tag="fieldops.audit-synced/v1"):
    pushed: int
    duplicate: int
    size: int
    root: str


class AuditStatus(Document, frozen=True, kw_only=True, tag="fieldops.audit-status/v1"):
    """acked: entries the store confirmed. oldest: Unix seconds of the oldest queued entry; null: nothing is queued."""

    size: int
    acked: int
    queued: int
    oldest: float | None


# --- the rest ------------------------------------------------------------------------------------------------------------------------


class ConfigState(Document, frozen=True, kw_only=True, tag="fieldops.config/v1"):
    home: str
    file: str
    theme: str | None
    data: str | None
    person_key: str | None
    store_url: str | None
    ssh_identities: list[str]
    stick_folders: list[str]
    keys: dict[str, str]


class ConfigCheck(Document, frozen=True, kw_only=True, tag="fieldops.config-check/v1"):
    ok: bool
    faults: list[str]


class ReleaseHealth(Document, frozen=True, kw_only=True, tag="fieldops.release-health/v1"):
    """What `release doctor` found, one line each. ok: nothing."""

    ok: bool
    problems: list[str]


class StickRenewed(Document, frozen=True, kw_only=True, tag="fieldops.stick-renewed/v1"):
    """expires: Unix seconds up to which the metadata is valid now. sticks: written; refused: those that could not be."""

    timestamp_version: int
    expires: float | None
    sticks: list[str]
    refused: list[ErrorDoc]


class Released(Document, frozen=True, kw_only=True, tag="fieldops.released/v1"):
    """What a release verb did, one line each."""

    verb: str
    done: list[str]

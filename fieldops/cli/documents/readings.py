"""What devices say of themselves."""

from __future__ import annotations

from typing import Literal

from fieldops.cli.documents import Document, Part
from fieldops.fleet import Resources
from fieldops.wire import ErrorDoc, JournalEntry, SlotStatus


class DeviceResources(Part, frozen=True, kw_only=True):
    device: str
    link: str | None
    resources: Resources | None
    error: ErrorDoc | None


class ResourcesReport(Document, frozen=True, kw_only=True, tag="fieldops.resources/v1"):
    devices: list[DeviceResources]


class DeviceModels(Part, frozen=True, kw_only=True):
    device: str
    models: list[SlotStatus] | None
    lease_holder: str | None
    error: ErrorDoc | None


class ModelsReport(Document, frozen=True, kw_only=True, tag="fieldops.models/v1"):
    devices: list[DeviceModels]


class Shift(Part, frozen=True, kw_only=True):
    """One observed quantity: above the threshold in two of three windows is a shift. history: oldest first.

    threshold null: no value of the statistic would be a shift here. statistic null: nothing to compare.
    """

    name: str
    statistic: float | None
    threshold: float | None
    shifted: bool
    history: list[float | None]


class ModelDrift(Part, frozen=True, kw_only=True):
    """verdict: where the cause lies. unknown: too little evidence. n: requests in the newest window."""

    model: str
    version: str
    verdict: Literal["ok", "data", "hardware", "both", "unknown"]
    labels: list[str]
    evidence: list[str]
    features: list[Shift]
    n: int


class DeviceDrift(Part, frozen=True, kw_only=True):
    device: str
    models: list[ModelDrift] | None
    error: ErrorDoc | None


class DriftReport(Document, frozen=True, kw_only=True, tag="fieldops.drift/v1"):
    devices: list[DeviceDrift]


class DeviceLogs(Part, frozen=True, kw_only=True):
    device: str
    lines: list[str] | None
    journal: list[JournalEntry] | None
    error: ErrorDoc | None


class Logs(Document, frozen=True, kw_only=True, tag="fieldops.logs/v1"):
    devices: list[DeviceLogs]

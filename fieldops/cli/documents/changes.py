"""What a change would do, and what came of it."""

from __future__ import annotations

from fieldops.cli.documents import Document, Part
from fieldops.wire import ErrorDoc, StepRecord


class DevicePlan(Part, frozen=True, kw_only=True):
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


class DeviceChange(Part, frozen=True, kw_only=True):
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

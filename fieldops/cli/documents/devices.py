"""The inventory, and how devices are."""

from __future__ import annotations

from typing import Literal

from fieldops.cli.documents import Document, Part
from fieldops.fleet import DeviceEntry
from fieldops.wire import ErrorDoc, SlotStatus


class DeviceItem(Part, frozen=True, kw_only=True):
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


class DeviceState(Part, frozen=True, kw_only=True):
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


class FoundDevice(Part, frozen=True, kw_only=True):
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


class EnrolledDevice(Part, frozen=True, kw_only=True):
    device: str
    id: str | None
    steps: list[str]
    done: bool
    error: ErrorDoc | None
    proof: str | None = None  # with --kit: how the agent was seen to come back by itself
    unproved: str | None = None  # why it was not; then the device puts nothing on trial


class Enrolled(Document, frozen=True, kw_only=True, tag="fieldops.enrolled/v1"):
    devices: list[EnrolledDevice]

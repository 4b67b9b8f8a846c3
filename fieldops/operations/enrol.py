"""Make a device and this laptop know each other: the device pins the laptop's key, the laptop pins the device's certificate.

Over a verified SSH link only. What is done twice does no harm, so an enrolment that broke off is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import DeviceId
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device, InventoryFile, OnProgress, Trust
from fieldops.steps import Adopt, Enrol, RotateTrust, SetDeviceId, Unenrol
from fieldops.wire import Hello, StepRecord, b64

FOREIGN = "0.0.0"  # what a model that nobody signed runs as


class Installs(Device, Protocol):
    """A device to which the agent's software comes with Enrol, and from which it goes with Unenrol."""

    @property
    def proof(self) -> str:
        """How the agent was seen to come back by itself; "" before Enrol, or when it was not."""

    @property
    def unproved(self) -> str:
        """Why it was not."""


def plan(gate: Gate, trust: Trust, laptop_certificate: str, *, label: str = "") -> tuple[Enrol | RotateTrust, ...]:
    """The steps on the device. Raises UsageFault when this laptop has no root to give."""
    if trust.facts().root_version == 0:
        raise UsageFault(
            "this laptop has no root of trust that a device could pin",
            reason="no_root",
            next_step="pin the release team's first: fieldops policy pin ROOT.json --expect-fingerprint HEX",
        )
    enrol = Enrol(
        laptop_key=b64(gate.signer.public_key), laptop_certificate=laptop_certificate, root=trust.root_text(), label=label
    )
    timestamp, _, _ = trust.policy_payload()
    return (enrol, RotateTrust(timestamp_version=timestamp)) if timestamp else (enrol,)


def enrol(
    gate: Gate,
    device: Device,
    inventory_file: InventoryFile,
    trust: Trust,
    laptop_certificate: str,
    save_pin: Callable[[DeviceId, str], None],
    deadline: Deadline,
    words: Words = Words(),
    *,
    label: str = "",
    installs: bool = False,
    progress: OnProgress | None = None,
) -> Hello:
    """The device's hello after it. save_pin: keeps the LAN certificate of a device id; called when there is one.

    installs: the device brings its agent along (a kit). Raises what the gate raises, DeviceCannot (no_agent), UsageFault (no_root).
    """
    name, before = device.entry.name, _recorded(inventory_file, device.entry.name)
    hello = device.hello(deadline)
    if hello.versions == (0, 0):  # bare: its id is its host key's, by which it is known at any address
        before = before or hello.device
    if hello.versions == (0, 0) and not installs:
        raise DeviceCannot(
            "no agent runs there",
            reason="no_agent",
            next_step=f"bring it along: fieldops device enrol {name} --kit DIR (made by `fieldops kit build`)",
            device=name,
        )
    steps = plan(gate, trust, laptop_certificate, label=label)
    _, _, payload = trust.policy_payload()
    for step in steps:
        brought = payload if isinstance(step, RotateTrust) else None
        gate.perform(device, step, deadline, payload=brought, words=words, progress=progress)
    hello = device.hello(deadline)
    device_id = DeviceId(hello.device)
    if hello.lan_certificate:
        # the pin before the id: an id without a pin only means that SSH is used until the next enrolment
        save_pin(device_id, hello.lan_certificate)
    if before != device_id:
        formerly = before or ""
        gate.change(inventory_file, SetDeviceId(name=name, id=device_id, formerly=formerly), words=words, device=device_id)
    return hello


def adopt(
    gate: Gate, device: Device, deadline: Deadline, words: Words = Words(), *, progress: OnProgress | None = None
) -> tuple[StepRecord, ...]:
    """Every model that runs there unsigned becomes version 0 and last-good. Raises DeviceCannot when there is none."""
    found = [slot.model for slot in device.models(deadline).slots if slot.active == FOREIGN]
    if not found:
        raise DeviceCannot(
            "no foreign model runs there that could be adopted",
            reason="nothing_to_adopt",
            next_step="name it: --foreign MODEL=/path/on/the/device, together with --kit",
            device=device.entry.name,
        )
    return tuple(gate.perform(device, Adopt(model=model), deadline, words=words, progress=progress) for model in found)


def unenrol(
    gate: Gate,
    device: Device,
    inventory_file: InventoryFile,
    drop_pin: Callable[[DeviceId], None],
    deadline: Deadline,
    words: Words = Words(),
    *,
    progress: OnProgress | None = None,
) -> StepRecord:
    """The device forgets this laptop and loses its agent; what remains is the bare device. Safe to repeat."""
    name, before = device.entry.name, _recorded(inventory_file, device.entry.name)
    device.hello(deadline)
    record = gate.perform(device, Unenrol(laptop=gate.signer.laptop), deadline, words=words, progress=progress)
    if before is not None:
        drop_pin(DeviceId(before))
    bare = DeviceId(device.hello(deadline).device)
    if bare != before:
        gate.change(inventory_file, SetDeviceId(name=name, id=bare, formerly=before or ""), words=words, device=bare)
    return record


def _recorded(inventory_file: InventoryFile, name: str) -> str | None:
    """The id the inventory holds for a name; None: none yet. Raises UsageFault when the device is not in it."""
    return inventory_file.read().find(name).id

"""Make a device and this laptop know each other: the device pins the laptop's key, the laptop pins the device's certificate.

Over a verified SSH link only. What is done twice does no harm, so an enrolment that broke off is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable

from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import DeviceId
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device, InventoryFile, Trust
from fieldops.steps import Enrol, RotateTrust, SetDeviceId
from fieldops.wire import Hello, b64


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
) -> Hello:
    """The device's hello after it. save_pin: keeps the LAN certificate of a device id; called when there is one.

    Raises what the gate raises, DeviceCannot (no_agent), UsageFault (no_root).
    """
    name, before = device.entry.name, _recorded(inventory_file, device.entry.name)
    hello = device.hello(deadline)
    if hello.versions == (0, 0):
        raise DeviceCannot(
            "no agent runs there",
            reason="no_agent",
            next_step="install the agent from its kit first, then enrol again",
            device=name,
        )
    steps = plan(gate, trust, laptop_certificate, label=label)
    _, _, payload = trust.policy_payload()
    for step in steps:
        gate.perform(device, step, deadline, payload=payload if isinstance(step, RotateTrust) else None, words=words)
    hello = device.hello(deadline)
    device_id = DeviceId(hello.device)
    if hello.lan_certificate:
        # the pin before the id: an id without a pin only means that SSH is used until the next enrolment
        save_pin(device_id, hello.lan_certificate)
    if before != device_id:
        formerly = before or ""
        gate.change(inventory_file, SetDeviceId(name=name, id=device_id, formerly=formerly), words=words, device=device_id)
    return hello


def _recorded(inventory_file: InventoryFile, name: str) -> str | None:
    """The id the inventory holds for a name; None: none yet. Raises UsageFault when the device is not in it."""
    return inventory_file.read().find(name).id

"""The list of devices on this laptop: an entry from what a person typed, and its way through the gate. Nothing is sent to a device."""

from __future__ import annotations

from collections.abc import Sequence

from fieldops.errors import UsageFault
from fieldops.fleet import NAME_PATTERN, DeviceEntry, parse_address, parse_ssh_address, toml_table
from fieldops.operations.gate import Gate, Words
from fieldops.ports import InventoryFile
from fieldops.steps import AddDevice, Change, RemoveDevice


def entry_of(
    name: str, ssh: str, lan: str, *, site: str = "", device_class: str = "", owner: str = "", tags: Sequence[str] = ()
) -> DeviceEntry:
    """Empty texts: not given. Raises UsageFault with every fault at once."""
    named = NAME_PATTERN.fullmatch(name)
    faults = [] if named else [f"the name {name!r} has other than lower-case letters, digits, `.`, `_`, `-`"]
    ssh_address = lan_address = None
    try:
        ssh_address = parse_ssh_address(ssh) if ssh else None
    except ValueError as error:
        faults.append(f"the SSH address {ssh!r} is not {error}")
    try:
        lan_address = parse_address(lan) if lan else None
    except ValueError as error:
        faults.append(f"the LAN address {lan!r} is not {error}")
    if not ssh and not lan:
        faults.append("no address: neither SSH nor LAN")
    if faults:
        raise UsageFault("; ".join(faults), reason="usage", next_step="correct this, then add it again")
    return DeviceEntry(
        name=name, site=site, device_class=device_class, ssh=ssh_address, lan=lan_address, tags=tuple(tags), owner=owner
    )


def adding(inventory_file: InventoryFile, entry: DeviceEntry) -> AddDevice:
    """The change that adds it. Raises UsageFault (known_device)."""
    if any(known.name == entry.name for known in inventory_file.read().devices):
        raise UsageFault(
            f"{entry.name} is in the inventory already",
            reason="known_device",
            next_step="choose another name, or edit fleet.toml",
        )
    return AddDevice(table=toml_table(entry), name=entry.name)


def removing(entry: DeviceEntry) -> RemoveDevice:
    """The change that takes it out. The device itself stays as it is."""
    return RemoveDevice(name=entry.name)


def change(gate: Gate, inventory_file: InventoryFile, made: Change, *, words: Words = Words(), device: str = "") -> None:
    """device: its id, where it is known. Raises StorageFault."""
    gate.change(inventory_file, made, words=words, device=device)


def add(gate: Gate, inventory_file: InventoryFile, entry: DeviceEntry, *, words: Words = Words()) -> None:
    """Raises UsageFault (known_device), StorageFault."""
    change(gate, inventory_file, adding(inventory_file, entry), words=words)

"""fleet.toml and this home's known_hosts. Both are edited line by line, so a person's comments and order stay.

Every edit is read again before it is written: if the file would not mean exactly what was asked, nothing is written and the
person is told to edit by hand. Readers see the old file or the new one, never half of either.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from fieldops.edges.disk import storage_faults, write_whole
from fieldops.errors import UsageFault
from fieldops.fleet import DeviceEntry, DeviceId, Inventory, parse_inventory

if TYPE_CHECKING:  # ports and steps load much that reading has no use for
    from fieldops.ports import Grant
    from fieldops.steps import AddDevice, Change, RemoveDevice, SetDeviceId, TrustHostKey

_LOCK_S = 5.0  # an edit takes milliseconds
_HEADER = re.compile(r"\s*\[\[\s*device\s*\]\]")
_SSH_PORT = 22


class FleetFile:
    """Implements ports.InventoryFile. Files that are not there are empty; the first change makes them."""

    def __init__(self, fleet: Path, known_hosts: Path) -> None:
        self._fleet = fleet
        self._known_hosts = known_hosts

    def read(self) -> Inventory:
        """Raises UsageFault with every fault of the file, StorageFault when it cannot be read."""
        return parse_inventory(self._text(self._fleet), str(self._fleet))

    def apply(self, grant: Grant, change: Change) -> None:
        """The only door to both files; `grant` shows that the intent stands in the log."""
        from fieldops.edges.locks import exclusive
        from fieldops.steps import AddDevice, RemoveDevice, SetDeviceId, TrustHostKey

        del grant
        with exclusive(self._fleet.with_name(".fleet.lock"), "inventory", wait_s=_LOCK_S):
            match change:
                case AddDevice():
                    self._add(change)
                case RemoveDevice():
                    self._remove(change)
                case SetDeviceId():
                    self._bind(change)
                case TrustHostKey():
                    self._trust(change)
                case _:
                    assert_never(change)

    # --- fleet.toml ----------------------------------------------------------------------------------------------------

    def _add(self, change: AddDevice) -> None:
        inventory = self.read()
        if any(entry.name == change.name for entry in inventory.devices):
            raise UsageFault(
                f"a device {change.name!r} is in the inventory already",
                reason="name_taken",
                next_step="choose another name, or remove that one first",
            )
        added = parse_inventory(change.table, "the new device").devices
        if [entry.name for entry in added] != [change.name]:
            raise UsageFault(f"no table of {change.name!r}", reason="malformed", next_step="give exactly one [[device]] table")
        text = self._text(self._fleet)
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        self._write(text + gap + change.table, Inventory((*inventory.devices, *added)))

    def _remove(self, change: RemoveDevice) -> None:
        inventory = self.read()
        entry = _named(inventory, change.name)
        lines = self._text(self._fleet).splitlines(keepends=True)
        start, stop = self._table(lines, inventory.devices.index(entry))
        after = lines[stop:]
        if start and not lines[start - 1].strip():  # one of the two empty lines that would now meet
            while after and not after[0].strip():
                after = after[1:]
        left = tuple(other for other in inventory.devices if other is not entry)
        self._write("".join([*lines[:start], *after]), Inventory(left))

    def _bind(self, change: SetDeviceId) -> None:
        inventory = self.read()
        entry = _named(inventory, change.name)
        at = inventory.devices.index(entry)
        formerly = change.formerly or entry.formerly
        bound = replace(entry, id=DeviceId(change.id), formerly=DeviceId(formerly) if formerly else None)
        lines = self._text(self._fleet).splitlines(keepends=True)
        for key, value in (("formerly", bound.formerly), ("id", bound.id)):
            if value is not None:
                start, stop = self._table(lines, at)
                _set(lines, start, stop, key, value)
        self._write("".join(lines), Inventory((*inventory.devices[:at], bound, *inventory.devices[at + 1 :])))

    def _table(self, lines: list[str], index: int) -> tuple[int, int]:
        """First line of the index-th `[[device]]` table and the line after its last key. Comments below belong to the next."""
        headers = [at for at, line in enumerate(lines) if _HEADER.match(line)]
        if index >= len(headers):
            raise self._by_hand()
        start = headers[index]
        stop = next((at for at in range(start + 1, len(lines)) if _HEADER.match(lines[at])), len(lines))
        while stop > start + 1 and (not lines[stop - 1].strip() or lines[stop - 1].lstrip().startswith("#")):
            stop -= 1
        return start, stop

    def _write(self, text: str, expected: Inventory) -> None:
        try:
            meant = parse_inventory(text, str(self._fleet))
        except UsageFault as error:
            raise self._by_hand() from error
        if meant != expected:
            raise self._by_hand()
        write_whole(self._fleet, text.encode("utf-8"), 0o644)

    def _by_hand(self) -> UsageFault:
        return UsageFault(
            f"{self._fleet} is written in a way that cannot be edited here without losing something",
            reason="edit_by_hand",
            next_step="change that device in an editor; plain [[device]] tables with one key a line can be edited here",
        )

    # --- known_hosts -----------------------------------------------------------------------------------------------------

    def _trust(self, change: TrustHostKey) -> None:
        import base64

        try:
            blob = base64.b64decode(change.key, validate=True)
        except ValueError as error:
            raise UsageFault("no base64 of a host key", reason="bad_key", next_step="ask the device again") from error
        if blob[4 : 4 + len(change.key_type)].decode("ascii", "replace") != change.key_type or re.search(r"[\s,]", change.host):
            raise UsageFault(f"no {change.key_type} key of a host", reason="bad_key", next_step="ask the device again")
        name = change.host.lower() if change.port == _SSH_PORT else f"[{change.host.lower()}]:{change.port}"
        lines = self._text(self._known_hosts).splitlines()
        # a host that was set up again keeps none of its old keys; a further type of key leaves the others alone
        gone = None if change.replaces else change.key_type
        kept = [left for line in lines if (left := _without(line, name, gone)) is not None]
        kept.append(f"{name} {change.key_type} {change.key}")
        write_whole(self._known_hosts, ("\n".join(kept) + "\n").encode("utf-8"), 0o600)

    def _text(self, path: Path) -> str:
        with storage_faults(path):
            try:
                return path.read_text("utf-8")
            except FileNotFoundError:
                return ""
            except UnicodeDecodeError as error:
                raise UsageFault(f"{path}: not UTF-8 text", reason="bad_file", next_step="save it as UTF-8") from error


def _named(inventory: Inventory, name: str) -> DeviceEntry:
    for entry in inventory.devices:
        if entry.name == name:
            return entry
    return inventory.find(name)  # raises, naming what there is


def _set(lines: list[str], start: int, stop: int, key: str, value: str) -> None:
    """Put `key = "value"` into the table at start..stop: over the old value, or below the last key."""
    for at in range(start + 1, stop):
        match = re.match(rf"""(\s*"?{key}"?\s*=\s*)("[^"]*"|'[^']*')(.*)""", lines[at], re.DOTALL)
        if match:
            lines[at] = f'{match[1]}"{value}"{match[3]}'
            return
    if not lines[stop - 1].endswith("\n"):
        lines[stop - 1] += "\n"
    lines.insert(stop, f'{key} = "{value}"\n')


def _without(line: str, name: str, key_type: str | None) -> str | None:
    """The line without this host's key; None when nothing of it is left. Marked lines and comments stay.

    key_type None: keys of every type go.
    """
    words = line.split()
    if len(words) < 3 or words[0].startswith(("#", "@")):
        return line
    if key_type not in {None, words[1]}:
        return line
    if words[0].startswith("|"):
        return None if _is_hash_of(words[0], name) else line
    names = words[0].split(",")
    left = [other for other in names if other.lower() != name]
    if len(left) == len(names):
        return line
    return line.replace(words[0], ",".join(left), 1) if left else None


def _is_hash_of(entry: str, name: str) -> bool:
    import base64
    import hashlib
    import hmac

    parts = entry.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except ValueError:
        return False
    # HMAC-SHA1 is the file's format; it hides names and decides no trust
    return hmac.compare_digest(hmac.new(salt, name.encode("utf-8"), hashlib.sha1).digest(), digest)

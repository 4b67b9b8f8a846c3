"""Which devices answer: every inventory entry and every hint is asked for its hello, side by side.

A hint that names an id of the inventory is an address to try for that device; the link then proves whether it is. A hint
without such an id is a stranger until its host key is trusted. Nothing here writes: what was found is shown, and adding a
device is a change of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from fieldops.deadline import Deadline
from fieldops.errors import FieldopsError, LinkFault, UsageFault
from fieldops.fleet import NAME_PATTERN, Address, DeviceEntry, Hint, parse_address
from fieldops.wire import Hello

SIDE_BY_SIDE = 16  # silent hosts cost a whole time limit each
HELLO_S = 5.0
LISTEN_S = 3.0  # announcements come within a second or two; silence must not cost the visit


@dataclass(frozen=True, slots=True)
class Found:
    """One device that was asked. known: it stands in the inventory. Exactly one of hello and error is None."""

    entry: DeviceEntry
    hello: Hello | None
    error: FieldopsError | None
    known: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """deaf: why this laptop could not listen for announcements; None: it could, or was not to."""

    found: tuple[Found, ...]
    deaf: LinkFault | None = None


def addressed(texts: Iterable[str]) -> list[Hint]:
    """LAN addresses that a person names. Raises UsageFault."""
    hints = []
    for text in texts:
        try:
            hints.append(Hint(name=text, lan=parse_address(text)))
        except ValueError as error:
            raise UsageFault(
                f"{text!r} is not {error}", reason="usage", next_step="write an address as 192.0.2.7:8443"
            ) from error
    return hints


def discover(
    entries: Iterable[DeviceEntry],
    hints: Iterable[Hint],
    hello: Callable[[DeviceEntry, Deadline], Hello],
    deadline: Deadline,
) -> tuple[Found, ...]:
    """Known devices first, in the inventory's order; then strangers. Raises Cancelled."""
    known = tuple(entries)
    wanted = [(entry, True) for entry in known]
    wanted += [(entry, is_known) for entry, is_known in _hinted(known, hints)]
    if not wanted:
        return ()
    with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(wanted)), thread_name_prefix="fieldops-hello") as pool:
        asked = list(pool.map(lambda pair: _ask(pair[0], pair[1], hello, deadline), wanted))
    if deadline.cancel.cancelled:
        deadline.check("discovery")
    return _merged(asked)


def _ask(entry: DeviceEntry, known: bool, hello: Callable[[DeviceEntry, Deadline], Hello], deadline: Deadline) -> Found:
    try:
        return Found(entry, hello(entry, deadline.within(HELLO_S)), None, known)
    except FieldopsError as error:
        return Found(entry, None, error.about(entry.name), known)


def _hinted(known: tuple[DeviceEntry, ...], hints: Iterable[Hint]) -> Iterator[tuple[DeviceEntry, bool]]:
    """Entries worth asking beside the inventory's own: new addresses of known devices, and strangers."""
    addresses = {entry.lan for entry in known if entry.lan} | {
        Address(entry.ssh.host, entry.ssh.port) for entry in known if entry.ssh
    }
    by_id = {entry.id: entry for entry in known if entry.id}
    names = {entry.name for entry in known}
    for hint in hints:
        if hint.lan in addresses:
            continue
        addresses.add(hint.lan)
        owner = by_id.get(hint.id) if hint.id else None
        if owner is not None:
            yield replace(owner, lan=hint.lan), True
        elif hint.ssh is None or Address(hint.ssh.host, hint.ssh.port) not in addresses:
            name = _free_name(hint, names)
            names.add(name)
            yield DeviceEntry(name=name, ssh=hint.ssh, lan=hint.lan), False


def _free_name(hint: Hint, taken: set[str]) -> str:
    """A name the inventory would accept: the hint's if it is one, else from its id or address."""
    base = hint.name.lower() if NAME_PATTERN.fullmatch(hint.name.lower()) else ""
    base = base or (f"dev-{hint.id[:8]}" if hint.id else "new")
    number, name = 2, base
    while name in taken:
        number, name = number + 1, f"{base[:58]}-{number}"
    return name


def _merged(asked: list[Found]) -> tuple[Found, ...]:
    """One line a known device: what answered counts, wherever it was asked."""
    best: dict[tuple[str, bool], Found] = {}
    for found in asked:
        key = (found.entry.name, found.known)
        if key not in best or (best[key].hello is None and found.hello is not None):
            best[key] = found
    return tuple(sorted(best.values(), key=lambda found: not found.known))

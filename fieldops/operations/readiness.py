"""What a visit needs that nobody can fetch on site: keys, trust that holds long enough, addresses, room, an empty queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from fieldops.fleet import DeviceEntry
from fieldops.operations.visit import utc
from fieldops.policy import Actor, PolicyDocument, role_of
from fieldops.ports import TrustFacts

DAY_S = 86400.0
LEAST_FREE_BYTES = 2 << 30  # a bundle, its copy, and the logs of a visit


class Finding(Struct, frozen=True, kw_only=True):
    """what: trust, person, device, stick, log or disk. next: what to do about it; "" where all is well."""

    what: str
    ok: bool
    detail: str
    next: str = ""


def of_trust(facts: TrustFacts, policy: PolicyDocument, actor: Actor, now: float, until: float) -> list[Finding]:
    """until: Unix seconds of the visit's end."""
    if not facts.root_version:
        return [_bad("trust", "no root is pinned", "`fieldops policy pin ROOT.json --expect-fingerprint HEX`")]
    found: list[Finding] = []
    if not facts.timestamp_version:
        found.append(_bad("trust", "no signed metadata was brought yet", "plug in a stick, then `fieldops stick list`"))
    elif facts.expires is not None and facts.expires <= until:
        when = "expired" if facts.expires <= now else "expires"
        found.append(_bad("trust", f"the signed metadata {when} {utc(facts.expires)}", "get a newer stick from the release team"))
    else:
        found.append(_good("trust", f"signed metadata {facts.timestamp_version}, good until {utc(facts.expires)}"))
    if facts.clock_behind:
        found.append(_bad("trust", "this laptop's clock is behind what is signed", "set the clock"))
    if facts.timestamp_version and not policy.roles:
        found.append(
            _bad("trust", "the signed metadata carries no policy", "get a stick with one: without it nothing may be changed")
        )
    if policy.roles:
        found.append(_of_person(policy, actor, now, until))
    return found


def _of_person(policy: PolicyDocument, actor: Actor, now: float, until: float) -> Finding:
    role = role_of(policy, actor, now)
    if role is None:
        return _bad("person", f"{actor} has no role", "set [person] key in config.toml, or ask to be listed")
    if role_of(policy, actor, until) is None:
        return _bad("person", f"your role {role} ends before the visit does", "ask the release team for a longer one")
    return _good("person", f"{actor}: {role}")


def of_devices(entries: Iterable[DeviceEntry], pinned: Iterable[str]) -> list[Finding]:
    """pinned: ids of devices whose certificate this laptop holds."""
    known = set(pinned)
    found: list[Finding] = []
    for entry in entries:
        if entry.ssh is None and (entry.lan is None or entry.id not in known):
            found.append(
                _bad("device", f"{entry.name} has no SSH address, and no LAN port that is pinned", "add `ssh =` in fleet.toml")
            )
        elif entry.id is None:
            found.append(
                _bad("device", f"{entry.name} was never enrolled", f"on site: `fieldops device enrol {entry.name}`; take a kit")
            )
        else:
            found.append(_good("device", f"{entry.name}: {entry.ssh or entry.lan}"))
    return found


def of_sticks(names: Sequence[str], usable: Sequence[str]) -> Finding:
    """usable: bundles on them that this laptop would take."""
    if not names:
        return _bad("stick", "no stick is plugged in", "take one that the release team signed; or its folder, by --from")
    if not usable:
        return _bad("stick", f"{', '.join(names)}: no bundle that can be used", "`fieldops stick verify PATH` says why")
    return _good("stick", f"{', '.join(names)}: {', '.join(usable)}")


def of_log(queued: int, telemetry: int, store: str | None) -> Finding:
    if store is None:
        return _good("log", f"{queued} entries; no central store is configured")
    if queued or telemetry:
        return _bad(
            "log", f"{queued} entries and {telemetry} records of telemetry are queued", "`fieldops audit sync` while online"
        )
    return _good("log", "the store has everything")


def of_disk(free_bytes: int) -> Finding:
    room = f"{free_bytes / 2**30:.1f} GiB free"
    return _good("disk", room) if free_bytes >= LEAST_FREE_BYTES else _bad("disk", room, "make room for a bundle and its copy")


def _good(what: str, detail: str) -> Finding:
    return Finding(what=what, ok=True, detail=detail)


def _bad(what: str, detail: str, next_step: str) -> Finding:
    return Finding(what=what, ok=False, detail=detail, next=next_step)

"""Is it the right host? Judged before anything of ours is sent.

A host is vouched for by known_hosts, by the signed policy, by the id under which the inventory knows the device (at whatever
address, and whoever had that address before), or by a fingerprint the person had from elsewhere. The policy's word stands above
these: a key that it does not list for a host it lists is a changed one. Where nothing vouches, the policy may allow trust on
first use; else the person may look, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from fieldops.edges.keys import ssh_fingerprint
from fieldops.edges.known_hosts import KnownHosts, Verdict, written
from fieldops.errors import HostKeyChanged, HostKeyUnknown, LinkFault
from fieldops.fleet import key_id

Names = tuple[tuple[str, int], ...]  # (host, port) as known_hosts may name it; the first is what ssh would look for

By = Literal["known_hosts", "policy", "device_id", "expected", "first_use", ""]


@dataclass(frozen=True, slots=True)
class Vouching:
    """What may vouch for a host beside known_hosts. fingerprints: of the signed policy, by device id, name or address.

    expected: had by another way, such as the device's label. look: an unknown host may be looked at.
    """

    fingerprints: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    expected: str | None = None
    first_use: bool = False
    look: bool = False

    def signed_for(self, labels: Sequence[str], names: Names) -> frozenset[str]:
        wanted = [*labels, *(written(host, port) for host, port in names), *(host.lower() for host, _ in names)]
        return frozenset(one for label in wanted for one in self.fingerprints.get(label, ()))


@dataclass(frozen=True, slots=True)
class Judged:
    """by "": nothing vouches, and unknown says so."""

    by: By
    unknown: HostKeyUnknown | None = None


def types_on_file(known: KnownHosts, names: Names) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for host, port in names for kind in known.key_types(host, port)))


def verdict_on(known: KnownHosts, names: Names, blob: bytes) -> Verdict:
    """The gravest of what is said under any of the names: revoked, then changed, then ok."""
    verdicts = [known.verify(host, port, blob) for host, port in names]
    for kind in ("revoked", "changed", "ok"):
        for verdict in verdicts:
            if verdict.kind == kind:
                return verdict
    return next((verdict for verdict in verdicts if verdict.by_authority), Verdict("unknown"))


def judge(
    key_type: str,
    blob: bytes,
    names: Names,
    known: KnownHosts,
    vouching: Vouching,
    *,
    labels: Sequence[str],
    device: str,
    ids: Sequence[str] = (),
) -> Judged:
    """labels: the device's id and name. ids: it has or had, of which one may be its host key's. Raises HostKeyChanged, LinkFault (host_key_revoked), HostKeyUnknown (no looking)."""
    where, got = written(*names[0]), ssh_fingerprint(blob)
    verdict = verdict_on(known, names, blob)
    if verdict.kind == "revoked":
        raise LinkFault(
            f"{where} shows {got}, which is revoked",
            reason="host_key_revoked",
            next_step="do not connect; report it: somebody holds a key that was withdrawn",
            device=device,
        )
    signed = vouching.signed_for(labels, names)
    own = key_id(blob) in ids
    if verdict.kind == "changed" and not own:
        on_file = ", ".join(f"{ssh_fingerprint(one)} ({kind})" for kind, one in verdict.known)
        raise _changed(where, got, key_type, on_file, device)
    if signed and got not in signed:
        raise _changed(where, got, key_type, f"{', '.join(sorted(signed))} by the signed policy", device)
    if vouching.expected is not None and vouching.expected != got:
        raise HostKeyUnknown(
            f"{where} shows the host key {got}, not the {vouching.expected} you expect",
            next_step="check the address; another machine may answer there",
            fingerprint=got,
            device=device,
        )
    by = _voucher(verdict, signed=bool(signed), own=own, vouching=vouching)
    if by:
        return Judged(by)
    unknown = _unknown(where, got, key_type, verdict, device)
    if not vouching.look:
        raise unknown
    return Judged("", unknown)


def _voucher(verdict: Verdict, *, signed: bool, own: bool, vouching: Vouching) -> By:
    if verdict.kind == "ok":
        return "known_hosts"
    if signed:
        return "policy"
    if own:
        return "device_id"
    if vouching.expected is not None:
        return "expected"
    return "first_use" if vouching.first_use else ""


def _changed(where: str, got: str, key_type: str, known: str, device: str) -> HostKeyChanged:
    return HostKeyChanged(
        f"the host key of {where} changed: known {known}, got {got} ({key_type})",
        next_step="compare with the label on the device; if it was really set up again: "
        f"fieldops device trust {device} --replace --expect-fingerprint {got}",
        known=known,
        got=got,
        device=device,
    )


def _unknown(where: str, got: str, key_type: str, verdict: Verdict, device: str) -> HostKeyUnknown:
    authority = "; only a certificate authority vouches for it, which is not supported" if verdict.by_authority else ""
    return HostKeyUnknown(
        f"the host key of {where} is not known: {got} ({key_type}){authority}",
        next_step=f"compare with the label on the device, then: fieldops device trust {device} --expect-fingerprint {got}",
        fingerprint=got,
        device=device,
    )

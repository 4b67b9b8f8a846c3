"""Who signs what: the roles, how many of whose signatures each needs, and what a change of keys makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Targets

from fieldops.bundles.trust import POLICY_CHANNEL
from fieldops.edges.tuf_keys import name_of
from fieldops.errors import UsageFault


@dataclass(frozen=True, slots=True)
class RolePlan:
    """keys: how many are made at init; threshold of them must sign; days: how long a signing is valid."""

    keys: int
    threshold: int
    days: int


PLAN: Mapping[str, RolePlan] = {
    "root": RolePlan(3, 2, 365),
    "targets": RolePlan(1, 1, 365),
    "stable": RolePlan(2, 2, 180),  # the model's owner and a release engineer
    "canary": RolePlan(1, 1, 180),
    POLICY_CHANNEL: RolePlan(2, 2, 180),
    "snapshot": RolePlan(1, 1, 120),  # longer than any stick, which it would cut short
    "timestamp": RolePlan(1, 1, 7),
}
CHANNELS = ("stable", "canary")
DELEGATED = (POLICY_CHANNEL, *CHANNELS)
TOP = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("snapshot", "timestamp")  # signed by publishing
OFFLINE = ("root", "targets", *DELEGATED)

Keys = Mapping[str, Sequence[Key]]  # role -> keys


def check_role(role: str) -> str:
    if role not in PLAN:
        raise UsageFault(f"there is no role {role!r}", reason="unknown_role", next_step=f"one of: {', '.join(PLAN)}")
    return role


def delegator_of(role: str) -> str:
    """The role that says whose signatures count for this one."""
    return "root" if role in TOP else "targets"


@dataclass(frozen=True, slots=True)
class Tally:
    """The signatures of one role's metadata, as one delegator counts them. Key names."""

    role: str
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]
    by: str = ""  # words for a person where there are two delegators

    @property
    def complete(self) -> bool:
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        said = f"{self.role}{self.by}: {len(self.signed)} of {self.threshold} signatures"
        if self.complete:
            return said
        return (
            f"{said}; to sign: {self.threshold - len(self.signed)} of {', '.join(self.missing) or 'nobody: it has too few keys'}"
        )


def keys_of(delegator: Root | Targets, role: str) -> list[Key]:
    found = _role(delegator, role)
    return [delegator.get_key(keyid) for keyid in found.keyids]


def tally(delegator: Root | Targets, role: str, metadata: Metadata[Any], *, by: str = "") -> Tally:
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return Tally(
        role,
        result.threshold,
        tuple(sorted(name_of(key) for key in result.signed.values())),
        tuple(sorted(name_of(key) for key in result.unsigned.values())),
        by,
    )


def first_root(keys: Keys, thresholds: Mapping[str, int], root: Root) -> Root:
    """`root` with the keys of the four top roles."""
    for role in TOP:
        for key in keys[role]:
            root.add_key(key, role)
        root.roles[role].threshold = thresholds[role]
        _check_enough(root, role)
    return root


def first_targets(keys: Keys, thresholds: Mapping[str, int], top: Targets) -> Targets:
    """`top` with one delegation for the policy and for each channel."""
    roles: dict[str, DelegatedRole] = {}
    top.delegations = Delegations(keys={}, roles=roles)
    for role in DELEGATED:
        roles[role] = DelegatedRole(role, [], thresholds[role], terminating=True, paths=[f"{role}/*/*/*"])
        for key in keys[role]:
            top.add_key(key, role)
        _check_enough(top, role)
    return top


def check_distinct(keys: Keys) -> None:
    """No key serves two roles, or twice in one: whoever holds it would count for two."""
    seen: dict[str, str] = {}
    for role in keys:
        for key in keys[role]:
            if key.keyid in seen:
                raise UsageFault(
                    f"{name_of(key)} and {seen[key.keyid]} are one key",
                    reason="same_key",
                    next_step="make a key for each role and holder with `fieldops release keygen`",
                )
            seen[key.keyid] = name_of(key)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Whose key goes (name, or start of its id), which comes, how many must sign from now on. Each may be absent."""

    out: str | None = None
    into: Key | None = None
    threshold: int | None = None

    def apply(self, delegator: Root | Targets, role: str) -> None:
        """Raises UsageFault (unknown_key, ambiguous, not_enough_keys)."""
        if self.out is not None:
            delegator.revoke_key(self._found(delegator, role, self.out).keyid, role)
        if self.into is not None:
            delegator.add_key(self.into, role)
        if self.threshold is not None:
            _role(delegator, role).threshold = self.threshold
        _check_enough(delegator, role)

    @staticmethod
    def _found(delegator: Root | Targets, role: str, wanted: str) -> Key:
        keys = keys_of(delegator, role)
        found = [key for key in keys if name_of(key) == wanted or (len(wanted) >= 8 and key.keyid.startswith(wanted))]
        if len(found) == 1:
            return found[0]
        names = ", ".join(sorted(f"{name_of(key)} ({key.keyid[:12]})" for key in keys))
        raise UsageFault(
            f"{role} has {'no' if not found else 'more than one'} key {wanted}",
            reason="ambiguous" if found else "unknown_key",
            next_step=f"its keys: {names}",
        )


def _role(delegator: Root | Targets, role: str) -> Role:
    return delegator.get_delegated_role(role)


def _check_enough(delegator: Root | Targets, role: str) -> None:
    found = _role(delegator, role)
    if not 1 <= found.threshold <= len(found.keyids):
        raise UsageFault(
            f"{role} would need {found.threshold} signatures and have {len(found.keyids)} keys",
            reason="not_enough_keys",
            next_step="hand in more keys, or choose another threshold",
        )

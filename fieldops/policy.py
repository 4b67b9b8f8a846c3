"""Who may do what: a signed document, and one function over it. Laptop and device ask the same function.

Two rules stand above the document: reverting to last-good never waits for anybody, and signed metadata may be brought by
anyone, since their signatures decide and not their bearer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Struct

from fieldops.errors import UsageFault
from fieldops.steps import Bench, Enrol, Revert, RotateTrust, Step, kind_of
from fieldops.wire import decode_signed, unb64

POLICY_LIMIT_BYTES = 256 * 1024
POLICY_V = 1
ANY = "*"


class Person(Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: str
    label: str = ""
    until: float | None = None  # Unix seconds after which the person has no role; None: no end


class PolicyDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Target `policy/rules/current/policy.json`. roles: role -> kinds of step it may take ("*": all).

    Devices and laptops of an older version pass over fields they do not know: a policy that they refused whole would leave them
    with people who were since revoked. A field that nobody may pass over raises `v`.
    """

    v: int
    roles: dict[str, list[str]]
    people: dict[str, Person]  # by SSH key fingerprint, `SHA256:...`
    laptops_revoked: list[str] = []  # laptop ids
    bench_while_serving: bool = True
    session_max_s: int = 12 * 3600
    max_stale_days: int = 0  # break-glass over expired metadata; 0: never
    trust_on_first_use: bool = False  # of SSH host keys
    host_keys: dict[str, list[str]] = {}  # by device id, name or address (`host`, `[host]:port`): `SHA256:...`
    ssh_passwords: bool = False  # whether passwords may be typed to log in to a host that is proved
    keep_samples: int = 0  # inputs a device keeps of each model for labelling; they may show people, so 0 unless said
    sample_recipients: list[str] = []  # base64 of X25519 keys (`samples keygen`) that can open kept inputs elsewhere
    samples_read_on_site: bool = True  # False: kept inputs are sealed for the recipients alone; no device or laptop reads them


NO_POLICY = PolicyDocument(v=1, roles={}, people={})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. person: fingerprint of the SSH key that proved the session; local: a name nobody vouches for."""

    kind: Literal["person", "local", "device"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Decision:
    """rule names what decided, as it stands in the audit log."""

    allowed: bool
    rule: str
    text: str


def role_of(policy: PolicyDocument, actor: Actor, now: float) -> str | None:
    """None: no role (a local name, a stranger, or a person whose time is over)."""
    if actor.kind != "person":
        return None
    person = policy.people.get(actor.name)
    if person is None or (person.until is not None and now >= person.until):
        return None
    return person.role


def may(
    policy: PolicyDocument, actor: Actor, step: Step, now: float, *, laptop: str | None = None, serving: bool = False
) -> Decision:
    """now: Unix seconds. laptop: id of the laptop that asks; None where the device itself does. serving: the model answers."""
    kind = kind_of(step)
    if laptop is not None and laptop in policy.laptops_revoked:
        return Decision(False, "laptops_revoked", f"laptop {laptop[:8]} is revoked")
    if isinstance(step, Revert) and step.to is None:
        return Decision(True, "always.revert_to_last_good", "reverting to last-good never waits for anybody")
    if isinstance(step, RotateTrust):
        return Decision(True, "always.signed_metadata", "signed metadata may be brought by anyone")
    if isinstance(step, Enrol) and not policy.roles:
        return Decision(True, "first.enrol", "the first laptop brings the root")
    role = role_of(policy, actor, now)
    if role is None:
        return Decision(False, "people", f"{actor} has no role in the signed policy")
    kinds = policy.roles.get(role)
    if kinds is None:
        return Decision(False, "roles", f"role {role!r} does not exist in the signed policy")
    if kind not in kinds and ANY not in kinds:
        return Decision(False, f"roles.{role}", f"role {role} may not {kind}")
    if isinstance(step, Bench) and serving and not policy.bench_while_serving:
        return Decision(False, "bench_while_serving", "benchmarks are not allowed while the model answers")
    return Decision(True, f"roles.{role}", f"role {role} may {kind}")


def decode_policy(data: bytes) -> PolicyDocument:
    """As a device or a laptop reads it. Raises UsageFault with what is wrong."""
    document = decode_signed(data, PolicyDocument, what="policy.json", limit=POLICY_LIMIT_BYTES)
    if document.v != POLICY_V:
        raise UsageFault(
            f"policy.json is of version {document.v}; this software knows {POLICY_V}",
            reason="malformed",
            next_step="update fieldops here first, then bring the policy again",
        )
    unknown = {person.role for person in document.people.values()} - document.roles.keys()
    if unknown:
        raise UsageFault(
            f"policy.json names roles that it does not define: {', '.join(sorted(unknown))}",
            reason="malformed",
            next_step="define them under `roles`, sign again",
        )
    if not all(_is_key(text) for text in document.sample_recipients):
        raise UsageFault(
            "policy.json: sample_recipients are base64 of 32 bytes each",
            reason="malformed",
            next_step="take them as `fieldops samples keygen` prints them, sign again",
        )
    return document


def decode_draft(data: bytes) -> PolicyDocument:
    """As the office reads it, where an unknown field is a slip, or of a newer version and would be lost. Raises UsageFault."""
    document = decode_policy(data)
    raw = json.loads(data)
    unknown = sorted(raw.keys() - set(PolicyDocument.__struct_fields__))
    for who, person in raw["people"].items():
        unknown += [f"people.{who}.{field}" for field in sorted(person.keys() - set(Person.__struct_fields__))]
    if unknown:
        raise UsageFault(
            f"policy.json has fields that this version does not know: {', '.join(unknown)}",
            reason="malformed",
            next_step="correct them, or update fieldops on this machine",
        )
    return document


def _is_key(text: str) -> bool:
    try:
        return len(unb64(text)) == 32
    except ValueError:
        return False


def encode_policy(document: PolicyDocument) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1)

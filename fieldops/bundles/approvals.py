"""What people sign so that a device may do what its rules refuse: take expired metadata, or go below its floor.

A statement names one version by its manifest, the devices, and an end. Whoever asks carries it with its signatures; laptop and
device each judge it by the policy they hold themselves. Nothing else is loosened by it: every other check stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from msgspec import Struct

from fieldops.bundles.manifest import VERSION_PATTERN
from fieldops.bundles.trust import PART_NAME, SHA256_HEX, refuse
from fieldops.decoding import decoder
from fieldops.errors import UsageFault
from fieldops.policy import ANY, Actor, PolicyDocument, role_of
from fieldops.steps import Approval
from fieldops.wire import decode_signed

APPROVAL_NAMESPACE = "fieldops-approval@v1"
APPROVE = "Approve"  # stands among a role's kinds of step in the policy
STATEMENT_LIMIT_BYTES = 64 << 10
MOST_APPROVALS = 16
STATEMENT_S = 3 * 86_400.0  # how long a new statement holds
LONGEST_S = 30 * 86_400  # from now to a statement's end
DAY_S = 86_400

Allow = Literal["accept_expired", "below_floor"]
# Expired metadata may hide a revocation from everybody, so two people; below the floor, one besides whoever asks.
NEEDED: Final[dict[Allow, int]] = {"accept_expired": 2, "below_floor": 1}

# (armoured signature, namespace, message) -> fingerprint of the key. Raises UsageFault.
VerifySignature = Callable[[str, str, bytes], str]


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="fieldops.statement/v1"):
    """devices: ids; never none. until: Unix seconds."""

    allow: Allow
    model: str
    version: str
    manifest_sha256: str
    devices: list[str]
    until: float
    reason: str = ""


class ApprovalFile(Struct, frozen=True, kw_only=True, tag_field="schema", tag="fieldops.approval/v1"):
    """What `fieldops approve` writes and `--approval` reads. by: fingerprint of the signer's key, for people only."""

    statement: str
    signature: str
    by: str


@dataclass(frozen=True, slots=True)
class Matter:
    """What is asked for. devices: the one that judges, or all that a laptop fetches for. asker: who asks; "" not known."""

    allow: Allow
    model: str
    version: str
    manifest_sha256: str
    devices: tuple[str, ...]
    asker: str = ""

    def __str__(self) -> str:
        words = {"accept_expired": "expired metadata", "below_floor": "a version below the floor"}
        return f"{words[self.allow]} for {self.model}@{self.version}"


def encode_statement(statement: Statement) -> str:
    return msgspec.json.format(msgspec.json.encode(statement), indent=1).decode("utf-8") + "\n"


def decode_statement(text: str) -> Statement:
    """Raises UsageFault (malformed, oversized)."""
    statement = decode_signed(text.encode("utf-8"), Statement, what="statement", limit=STATEMENT_LIMIT_BYTES)
    named = PART_NAME.fullmatch(statement.model) and VERSION_PATTERN.fullmatch(statement.version)
    if not named or not SHA256_HEX.fullmatch(statement.manifest_sha256) or not statement.devices:
        raise UsageFault(
            "the statement names no model, version, manifest and devices",
            reason="malformed",
            next_step="make it with `--statement FILE`",
        )
    return statement


def encode_approval(approval: ApprovalFile) -> str:
    return msgspec.json.format(msgspec.json.encode(approval), indent=1).decode() + "\n"


def decode_approval(text: str) -> Approval:
    """Of an approval file. Raises UsageFault (malformed)."""
    try:
        found = decoder(ApprovalFile).decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageFault(
            f"no approval: {error}", reason="malformed", next_step="give a file that `fieldops approve` wrote"
        ) from error
    return Approval(statement=found.statement, signature=found.signature)


def describe_statement(statement: Statement) -> str:
    what = {
        "accept_expired": "although its signed metadata has expired",
        "below_floor": "although it is below the lowest version that may be staged",
    }
    return f"{statement.model} {statement.version} on {len(statement.devices)} devices, {what[statement.allow]}"


def may_approve(policy: PolicyDocument, person: str, now: float) -> bool:
    role = role_of(policy, Actor("person", person), now)
    kinds = policy.roles.get(role or "", [])
    return APPROVE in kinds or ANY in kinds


def judge(
    approvals: Sequence[Approval], matter: Matter, policy: PolicyDocument, now: float, verify: VerifySignature
) -> tuple[str, ...]:
    """Fingerprints of the people whose signatures allow it. Raises TrustRefused (expired, below_floor) when they are too few."""
    needed = NEEDED[matter.allow]
    counted: list[str] = []
    others: list[str] = []
    for approval in approvals[:MOST_APPROVALS]:
        person, fault = _one(approval, matter, policy, now, verify)
        if fault:
            others.append(fault)
        elif person not in counted:
            counted.append(person)
    if len(counted) >= needed:
        return tuple(counted)
    why = f" ({'; '.join(others)})" if others else ""
    raise refuse(
        "expired" if matter.allow == "accept_expired" else "below_floor",
        f"{matter}: {len(counted)} of {needed} approvals{why}",
        next_step="write the statement with --statement FILE, have it signed (`fieldops approve FILE`), give each with --approval",
    )


def _one(approval: Approval, matter: Matter, policy: PolicyDocument, now: float, verify: VerifySignature) -> tuple[str, str]:
    """(person, why it does not count)."""
    try:
        statement = decode_statement(approval.statement)
        person = verify(approval.signature, APPROVAL_NAMESPACE, approval.statement.encode("utf-8"))
    except (UsageFault, UnicodeEncodeError) as error:
        return "", f"one is not valid: {error}"
    fault = _mismatch(statement, matter, now)
    if not fault and not may_approve(policy, person, now):
        fault = "that person's role may not approve"
    if not fault and matter.allow == "below_floor" and person == matter.asker:
        fault = "whoever asks cannot approve it alone"
    return person, f"{person[:15]}: {fault}" if fault else ""


def _mismatch(statement: Statement, matter: Matter, now: float) -> str:
    said = (statement.allow, statement.model, statement.version, statement.manifest_sha256)
    if said != (matter.allow, matter.model, matter.version, matter.manifest_sha256):
        return "signed for something else"
    if not set(matter.devices) <= set(statement.devices) or not matter.devices:
        return "signed for other devices"
    if now >= statement.until:
        return "its time is over"
    if statement.until > now + LONGEST_S:
        return f"it ends in more than {LONGEST_S // DAY_S} days"
    return ""


def check_age(matter: Matter, at: float, now: float, policy: PolicyDocument) -> None:
    """at: last instant at which the metadata was valid. Raises TrustRefused (expired) when that is too long ago."""
    age, longest = now - at, policy.max_stale_days * DAY_S
    if age > longest:
        rule = f"the signed policy allows {policy.max_stale_days} days" if longest else "the signed policy never allows it"
        raise refuse("expired", f"{matter}: it expired {age / DAY_S:.1f} days ago; {rule}")


def statement_of(matter: Matter, until: float, reason: str) -> Statement:
    return Statement(
        allow=matter.allow,
        model=matter.model,
        version=matter.version,
        manifest_sha256=matter.manifest_sha256,
        devices=list(matter.devices),
        until=until,
        reason=reason,
    )

"""The policy's files as the release team edits them: each is checked before it is drafted, people and laptops come and go.

Pure but for the golden set, which is unpacked in memory to be judged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping

import msgspec

from fieldops.bundles.trust import POLICY_DOCUMENT
from fieldops.errors import Fault, UsageFault
from fieldops.policy import ANY, Person, PolicyDocument, decode_draft, encode_policy
from fieldops.steps import STEP_KINDS
from fieldops.wire import SESSION_NAMESPACE

PEOPLE = "policy/people/current/allowed_signers"
_GOLDEN = re.compile(r"policy/golden/([^/]+)/set\.npz")
_LAPTOP = re.compile(r"[a-z2-7]{52}")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
)


def check_file(name: str, data: bytes, former: bytes | None) -> list[str]:
    """What the file says of itself, a line each; former: the one it replaces. Raises UsageFault for what nobody could use."""
    if name == POLICY_DOCUMENT:
        document = decode_draft(data)
        return [f"{len(document.people)} people, roles: {', '.join(sorted(document.roles)) or 'none'}"]
    if name.endswith("/runbook.yaml"):
        from fieldops.runbooks.format import parse

        parse(data, name)
        return []
    if name == PEOPLE:
        return [f"{_check_people(data)} keys"]
    if match := _GOLDEN.fullmatch(name):
        return _check_golden(match[1], data, former)
    return []


def _check_golden(task: str, data: bytes, former: bytes | None) -> list[str]:
    from fieldops.bundles.golden import decode_golden

    golden = decode_golden(data)
    if golden.task != task:
        raise UsageFault(
            f"this golden set is of the task {golden.task!r}",
            reason="bad_golden",
            next_step=f"set it as policy/golden/{golden.task}/set.npz",
        )
    said = [f"{golden.n} inputs of {task}, accuracy floor {golden.floor:g}"]
    if former is not None and (before := decode_golden(former)).floor > golden.floor:
        said.append(f"LOWER than before: the floor was {before.floor:g}; every signer should know why")
    return said


def _check_people(data: bytes) -> int:
    faults = []
    count = 0
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        at = next((index for index, word in enumerate(words) if word in _KEY_TYPES), 0)
        if not 1 <= at <= 2 or len(words) < at + 2 or _blob(words[at + 1]) is None:
            faults.append(Fault("allowed_signers", number, line[:60], 'PRINCIPAL namespaces="..." KEYTYPE BASE64'))
        count += 1
    if faults:
        raise UsageFault.in_file("allowed_signers", faults)
    return count


def with_person(files: Mapping[str, bytes], public_line: str, person: Person) -> tuple[str, dict[str, bytes]]:
    """The fingerprint, and the policy's files with that person. files: those there are now, by name.

    A policy that does not exist yet begins with two roles: technician (every step of today) and lead (all, later ones too).
    """
    words = public_line.split()
    blob = _blob(words[1]) if len(words) >= 2 and words[0] in _KEY_TYPES else None
    if blob is None:
        raise UsageFault(
            "this is no SSH public key", reason="bad_key", next_step="give the person's .pub file, such as id_ed25519.pub"
        )
    fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
    document = _document(files)
    if person.role not in document.roles:
        raise UsageFault(
            f"the policy has no role {person.role!r}",
            reason="unknown_role",
            next_step=f"one of: {', '.join(sorted(document.roles))}",
        )
    document = msgspec.structs.replace(document, people={**document.people, fingerprint: person})
    kept = [line for line in _people(files) if words[1] not in line.split()]
    line = f'{_principal(person.label or person.role)} namespaces="{SESSION_NAMESPACE}" {words[0]} {words[1]}'
    return fingerprint, {POLICY_DOCUMENT: encode_policy(document), PEOPLE: _text([*kept, line])}


def without(files: Mapping[str, bytes], who: str) -> dict[str, bytes]:
    """The policy's files without a person (fingerprint `SHA256:...`), or with a laptop (its id) revoked."""
    document = _document(files)
    if who in document.people:
        people = {key: person for key, person in document.people.items() if key != who}
        kept = [line for line in _people(files) if not _is_of(line, who)]
        return {POLICY_DOCUMENT: encode_policy(msgspec.structs.replace(document, people=people)), PEOPLE: _text(kept)}
    if _LAPTOP.fullmatch(who):
        if who in document.laptops_revoked:
            return {}
        revoked = [*document.laptops_revoked, who]
        return {POLICY_DOCUMENT: encode_policy(msgspec.structs.replace(document, laptops_revoked=revoked))}
    raise UsageFault(
        f"{who} is neither a person of the policy nor a laptop's whole id",
        reason="unknown_person",
        next_step=f"people: {', '.join(sorted(document.people)) or 'none'}",
    )


def _document(files: Mapping[str, bytes]) -> PolicyDocument:
    if POLICY_DOCUMENT in files:
        return decode_draft(files[POLICY_DOCUMENT])
    return PolicyDocument(v=1, roles={"technician": sorted(kind.__name__ for kind in STEP_KINDS), "lead": [ANY]}, people={})


def _people(files: Mapping[str, bytes]) -> list[str]:
    return files.get(PEOPLE, b"").decode("utf-8").splitlines()


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _is_of(line: str, fingerprint: str) -> bool:
    blobs = (_blob(word) for word in line.split())
    digests = (base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=") for blob in blobs if blob)
    return any(f"SHA256:{digest}" == fingerprint for digest in digests)


def _principal(label: str) -> str:
    """One word, as allowed_signers wants it."""
    return re.sub(r"[^a-z0-9.@_-]+", "-", label.lower()).strip("-") or "person"


def _blob(word: str) -> bytes | None:
    """The key in base64; its first field repeats the type, so no other word is taken for one."""
    try:
        blob = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return None
    return blob if len(blob) > 32 and blob[:3] == b"\0\0\0" else None

"""Accept an SSH host key: only after somebody compared its fingerprint, or gave the expected one from elsewhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from fieldops.errors import HostKeyChanged, HostKeyUnknown, LinkFault, UsageFault
from fieldops.fleet import DeviceEntry
from fieldops.operations.gate import Gate, Words
from fieldops.ports import InventoryFile
from fieldops.steps import TrustHostKey
from fieldops.wire import b64


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """What a host proved to hold, beside what known_hosts says of it. known: fingerprints on file for that host."""

    key_type: str
    blob: bytes
    fingerprint: str
    verdict: Literal["ok", "unknown", "changed", "revoked"]
    known: tuple[str, ...] = ()


def expected_in(text: str) -> str:
    """The fingerprint in what somebody typed or scanned from a label, as `SHA256:...`.

    That may be the fingerprint alone, with or without its prefix, `ssh-keygen -l`'s whole line, hexadecimal digits, or the public
    key itself. Raises UsageFault (bad_fingerprint).
    """
    if match := re.search(r"\b(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-\w+)\s+(AAAA[A-Za-z0-9+/]+={0,2})", text):
        try:
            return _written(hashlib.sha256(base64.b64decode(match[1], validate=True)).digest())
        except binascii.Error:
            raise _bad(text) from None
    if match := re.search(r"(?i)(?:^|\s)sha-?256[:\s]\s*(\S+)", text) or re.fullmatch(r"\s*(\S+)\s*", text):
        word = match[1].rstrip("=")
        if re.fullmatch(r"[A-Za-z0-9+/]{43}", word):
            return f"SHA256:{word}"
        digits = word.replace(":", "")
        if re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            return _written(bytes.fromhex(digits))
    raise _bad(text)


def _written(digest: bytes) -> str:
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _bad(text: str) -> UsageFault:
    return UsageFault(
        f"{text.strip()[:80]!r} is no SHA-256 fingerprint of a host key",
        reason="bad_fingerprint",
        next_step="give all 43 characters after SHA256:, as `ssh-keygen -lf` shows them on the device",
    )


def judge(entry: DeviceEntry, offered: OfferedKey, *, expected: str | None, replace: bool) -> None:
    """Refuse what may not be accepted at all. expected: the fingerprint got by another way; None: a person compares.

    Raises LinkFault (host_key_revoked), HostKeyUnknown (not the expected one), HostKeyChanged (without `replace`), UsageFault
    (bad_fingerprint).
    """
    expected = expected_in(expected) if expected is not None else None
    if offered.verdict == "revoked":
        raise LinkFault(
            f"its host key {offered.fingerprint} is marked @revoked",
            reason="host_key_revoked",
            next_step="do not use this device; ask who revoked the key",
            device=entry.name,
        )
    if expected is not None and expected != offered.fingerprint:
        raise HostKeyUnknown(
            f"it shows the host key {offered.fingerprint}, not the {expected} you expect",
            fingerprint=offered.fingerprint,
            next_step="check the address; another machine may answer there",
            device=entry.name,
        )
    if offered.verdict == "changed" and not replace:
        raise HostKeyChanged(
            f"its host key changed: known is {', '.join(offered.known)}, it shows {offered.fingerprint}",
            known=", ".join(offered.known),
            got=offered.fingerprint,
            next_step="if the device was set up again, compare the fingerprint there and give --replace; else stop: "
            "another machine may answer",
            device=entry.name,
        )


def in_words(entry: DeviceEntry, offered: OfferedKey) -> str:
    """What accepting it comes to; "": it is known already."""
    if offered.verdict == "ok":
        return ""
    instead = f" in place of {', '.join(offered.known)}" if offered.verdict == "changed" else ""
    return f"trust {offered.key_type} {offered.fingerprint} of {entry.ssh}{instead}"


def accept(gate: Gate, inventory: InventoryFile, entry: DeviceEntry, offered: OfferedKey, *, words: Words = Words()) -> None:
    """Write it to known_hosts, through the gate. Raises StorageFault."""
    if entry.ssh is None:
        raise UsageFault(
            "no SSH address", reason="no_ssh_address", next_step="write `ssh =` for it in fleet.toml", device=entry.name
        )
    change = TrustHostKey(
        host=entry.ssh.host,
        port=entry.ssh.port,
        key_type=offered.key_type,
        key=b64(offered.blob),
        replaces=offered.known[0] if offered.verdict == "changed" and offered.known else "",
    )
    gate.change(inventory, change, words=words, device=entry.id or "")

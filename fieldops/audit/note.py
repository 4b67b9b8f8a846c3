"""Signed notes, checkpoints and cosignatures as C2SP writes them (signed-note, tlog-checkpoint, tlog-cosignature).

A note is text, an empty line, and signature lines `— <key name> <base64 of key hash and signature>`. Signing and verifying
come as callables, so this module holds no key and needs no cryptography. What does not verify is a UsageFault, reason
`bad_signature` or `malformed`.

Names here: a laptop signs under its log's origin; a witness cosigns under `fieldops/device/<id>` or `fieldops/store/<id>`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

from msgspec import Struct

from fieldops.audit.merkle import HASH_BYTES
from fieldops.errors import UsageFault

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]  # (public key, signature, message)

ED25519 = 0x01
COSIGNATURE = 0x04  # Ed25519 over the note and the witness's time
NOTE_LIMIT = 64 << 10

_DASH = "\u2014 "
_HASH = 4
_TIME = 8
_SIGNATURE = 64
_ORIGIN = re.compile(r"fieldops/([a-z2-7]{52})/(0|[1-9]\d{0,17})")


def origin(laptop: str, epoch: int) -> str:
    """The name of a laptop's log."""
    return f"fieldops/{laptop}/{epoch}"


def parse_origin(log: str) -> tuple[str, int]:
    """(laptop id, epoch). Raises UsageFault."""
    match = _ORIGIN.fullmatch(log)
    if not match:
        raise _malformed(f"{log[:80]!r} is no log origin")
    return match[1], int(match[2])


def witness_name(witness: str) -> str:
    """The key name for `device:<id>` or `store:<id>`, as the journal names witnesses."""
    kind, _, name = witness.partition(":")
    return f"fieldops/{kind}/{name}"


# --- keys --------------------------------------------------------------------------------------------------------------


class VerifierKey(Struct, frozen=True):
    """A public key under a name. algorithm: ED25519 for those who write a log, COSIGNATURE for witnesses."""

    name: str
    public_key: bytes
    algorithm: int = ED25519

    @property
    def hash(self) -> bytes:
        """The 4 bytes before each signature; they only tell keys apart."""
        named = self.name.encode("utf-8") + b"\n" + bytes([self.algorithm]) + self.public_key
        return hashlib.sha256(named).digest()[:_HASH]

    def __str__(self) -> str:
        """The vkey line."""
        key = base64.b64encode(bytes([self.algorithm]) + self.public_key).decode("ascii")
        return f"{self.name}+{self.hash.hex()}+{key}"


def parse_vkey(text: str) -> VerifierKey:
    """Raises UsageFault."""
    name, _, rest = text.strip().partition("+")
    shown, _, encoded = rest.partition("+")
    data = _base64(encoded)
    if not _is_name(name) or len(data) != 1 + HASH_BYTES or data[0] not in {ED25519, COSIGNATURE}:
        raise _malformed("no vkey with an Ed25519 key")
    key = VerifierKey(name, data[1:], data[0])
    if key.hash.hex() != shown:
        raise _malformed(f"the vkey of {name} has the key hash {shown[:16]!r}, which is another key's")
    return key


# --- checkpoints -------------------------------------------------------------------------------------------------------


class Checkpoint(Struct, frozen=True):
    """A log at one size. root: the RFC 6962 root over its first `size` entries."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"


def parse_checkpoint(note: str) -> Checkpoint:
    """The checkpoint in a note or in its bare text; no signature is looked at. Raises UsageFault.

    Extension lines are refused: nobody here writes any, and what a reader skips is where things are hidden.
    """
    text = note.split("\n\n", 1)[0].removesuffix("\n")
    lines = text.split("\n")
    if len(note) > NOTE_LIMIT or len(lines) != 3 or not _is_name(lines[0]):
        raise _malformed("no checkpoint of three lines")
    if not re.fullmatch(r"0|[1-9]\d{0,17}", lines[1]):
        raise _malformed(f"{lines[1][:40]!r} is no size")
    root = _base64(lines[2])
    if len(root) != HASH_BYTES:
        raise _malformed("the root is no SHA-256")
    return Checkpoint(lines[0], int(lines[1]), root)


def sign_checkpoint(checkpoint: Checkpoint, public_key: bytes, sign: Sign) -> str:
    """The signed note; the log's own key signs under the origin."""
    key = VerifierKey(checkpoint.origin, public_key)
    return f"{checkpoint.text}\n{_line(key, sign(checkpoint.text.encode('utf-8')))}\n"


def open_checkpoint(note: str, public_key: bytes, verify: Verify) -> Checkpoint:
    """The checkpoint of a note that the log's own key signed. Raises UsageFault."""
    checkpoint = parse_checkpoint(note)
    key = VerifierKey(checkpoint.origin, public_key)
    for name, data in _signatures(note):
        if name == key.name and data[:_HASH] == key.hash:
            signature = data[_HASH:]
            if len(signature) == _SIGNATURE and verify(public_key, signature, checkpoint.text.encode("utf-8")):
                return checkpoint
            break  # a second line under the same key proves nothing
    raise UsageFault(
        f"the checkpoint of {checkpoint.origin} at size {checkpoint.size} is not signed by its own key",
        reason="bad_signature",
        next_step="keep both copies as evidence and run `fieldops audit verify`",
    )


# --- cosignatures ------------------------------------------------------------------------------------------------------


def cosign(checkpoint: Checkpoint, name: str, public_key: bytes, now: float, sign: Sign) -> str:
    """A witness's line: it saw this checkpoint, consistent with all it saw before, at `now` (Unix seconds)."""
    key = VerifierKey(name, public_key, COSIGNATURE)
    seconds = int(now)
    return _line(key, seconds.to_bytes(_TIME, "big") + sign(_cosigned(checkpoint, seconds)))


def verify_cosignature(checkpoint: Checkpoint, line: str, name: str, public_key: bytes, verify: Verify) -> int:
    """The witness's time (Unix seconds). Raises UsageFault when the line is not this witness's over this checkpoint."""
    key = VerifierKey(name, public_key, COSIGNATURE)
    found, data = parse_line(line)
    if found == key.name and data[:_HASH] == key.hash and len(data) == _HASH + _TIME + _SIGNATURE:
        seconds = int.from_bytes(data[_HASH : _HASH + _TIME], "big")
        if verify(public_key, data[_HASH + _TIME :], _cosigned(checkpoint, seconds)):
            return seconds
    raise UsageFault(
        f"{name} did not cosign {checkpoint.origin} at size {checkpoint.size} with this root",
        reason="bad_signature",
        next_step="keep the line as evidence and run `fieldops audit verify`",
    )


def with_cosignatures(note: str, lines: list[str]) -> str:
    """The note with these lines below its own signatures."""
    return note + "".join(f"{line}\n" for line in lines)


def parse_line(line: str) -> tuple[str, bytes]:
    """(key name, key hash and signature) of one signature line. Raises UsageFault."""
    name, _, encoded = line.strip("\n").removeprefix(_DASH).partition(" ")
    data = _base64(encoded)
    if not line.startswith(_DASH) or not _is_name(name) or len(data) <= _HASH:
        raise _malformed("no signature line")
    return name, data


def _cosigned(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.text}".encode()


def _line(key: VerifierKey, signature: bytes) -> str:
    return f"{_DASH}{key.name} {base64.b64encode(key.hash + signature).decode('ascii')}"


def _signatures(note: str) -> list[tuple[str, bytes]]:
    _, gap, tail = note.partition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise _malformed("a note ends with signature lines")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > 100:
        raise _malformed("a note with more than 100 signatures")
    return [parse_line(line) for line in lines]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or not char.isprintable() for char in name)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _malformed("no base64 where it should be") from None


def _malformed(what: str) -> UsageFault:
    return UsageFault(f"signed note: {what}", reason="malformed", next_step="get an intact copy")

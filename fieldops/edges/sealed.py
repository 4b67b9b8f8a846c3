"""Bytes that only the holders of some X25519 keys can open.

A fresh key seals the bytes (ChaCha20-Poly1305); that key is sealed for each recipient by HPKE (RFC 9180, base mode:
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305). Nothing here is loaded before it is used: the agent's long-lived
process asks only for whom something is sealed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import key_id
from fieldops.wire import b64, unb64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import Suite

KEY_BYTES = 32
VERSION = 2  # 1 was AES under the device's own key alone
_ABOUT = b"fieldops sample v2"
_ONCE = bytes(12)  # the nonce under a key that seals one thing


class _Sealed(Struct, frozen=True):
    """to: id of a recipient's public key -> the key of `body`, sealed for it."""

    v: int
    to: dict[str, bytes]
    body: bytes


def seal(data: bytes, recipients: Iterable[bytes]) -> bytes:
    """recipients: raw X25519 public keys; each of them alone can open it."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key, suite = os.urandom(KEY_BYTES), _suite()
    to = {key_id(raw): suite.encrypt(key, X25519PublicKey.from_public_bytes(raw), _ABOUT) for raw in recipients}
    return msgspec.msgpack.encode(_Sealed(VERSION, to, ChaCha20Poly1305(key).encrypt(_ONCE, data, _ABOUT)))


def unseal(private_key: bytes, sealed: bytes) -> bytes:
    """private_key: 32 raw bytes. Raises DeviceCannot (unreadable): it is for others, or damaged."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    held = _read(sealed)
    private = X25519PrivateKey.from_private_bytes(private_key)
    wrapped = held.to.get(key_id(private.public_key().public_bytes_raw()))
    if wrapped is None:
        raise _unreadable("it is sealed for other keys")
    try:
        return ChaCha20Poly1305(_suite().decrypt(wrapped, private, _ABOUT)).decrypt(_ONCE, held.body, _ABOUT)
    except (InvalidTag, ValueError) as error:
        raise _unreadable("it was damaged after it was sealed") from error


def sealed_for(sealed: bytes) -> frozenset[str]:
    """Ids of the keys that can open it; empty for what is no such thing."""
    try:
        return frozenset(_read(sealed).to)
    except DeviceCannot:
        return frozenset()


def public_key_of(private_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def key_text(private_key: bytes) -> str:
    """A key file: the private key for its holder, the public one for the policy."""
    public = b64(public_key_of(private_key))
    return f"# opens kept inputs of devices; keep it offline\n# sample_recipients of the policy: {public}\n{b64(private_key)}\n"


def read_key(text: str) -> bytes:
    """Raises UsageFault (bad_key)."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        key = unb64(lines[0]) if len(lines) == 1 else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageFault(
            "that is no key of `fieldops samples keygen`", reason="bad_key", next_step="give the private key file it wrote"
        )
    return key


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _read(sealed: bytes) -> _Sealed:
    try:
        held = msgspec.msgpack.decode(sealed, type=_Sealed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unreadable("it is nothing that was sealed here") from error
    if held.v != VERSION:
        raise _unreadable(f"it is of version {held.v}")
    return held


def _unreadable(what: str) -> DeviceCannot:
    return DeviceCannot(what, reason="unreadable", next_step="use the key that it was sealed for, or collect new inputs")

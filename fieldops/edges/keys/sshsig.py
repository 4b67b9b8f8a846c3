"""Signatures by a person's SSH key, in OpenSSH's SSHSIG (PROTOCOL.sshsig): `ssh-keygen -Y` reads ours and we read its."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from fieldops.edges.keys.ssh import Fields, ssh_fingerprint, ssh_string
from fieldops.errors import UsageFault

_TOUCH_S = 60  # how long `ssh-keygen` may wait for a person to touch a hardware key


_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES: dict[bytes, Callable[[bytes], bytes]] = {
    b"sha512": lambda data: hashlib.sha512(data).digest(),
    b"sha256": lambda data: hashlib.sha256(data).digest(),
}
_CURVES: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
}
_RSA: dict[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-512": hashes.SHA512(), b"rsa-sha2-256": hashes.SHA256()}


def _mpint(number: int) -> bytes:
    return ssh_string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


def sshsig_sign(key_file: Path, namespace: str, message: bytes, passphrase: bytes | None = None) -> str:
    """Armoured SSHSIG over `message`. An encrypted or hardware key without passphrase is asked of ssh-agent by `ssh-keygen`.

    Raises UsageFault: no_key, bad_key, key_locked.
    """
    try:
        private = serialization.load_ssh_private_key(key_file.read_bytes(), password=passphrase)
    except OSError as error:
        raise UsageFault(
            f"{key_file}: {error.strerror}", reason="no_key", next_step="name your SSH key under [person] in config.toml"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return _sign_elsewhere(key_file, namespace, message)
    signed = _MAGIC + ssh_string(namespace.encode()) + ssh_string(b"") + ssh_string(b"sha512")
    signed += ssh_string(hashlib.sha512(message).digest())
    match private:
        case Ed25519PrivateKey():
            signature = ssh_string(b"ssh-ed25519") + ssh_string(private.sign(signed))
        case rsa.RSAPrivateKey():
            signature = ssh_string(b"rsa-sha2-512") + ssh_string(private.sign(signed, padding.PKCS1v15(), hashes.SHA512()))
        case ec.EllipticCurvePrivateKey():
            kind, algorithm = _CURVES[private.curve.name]
            r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(algorithm)))
            signature = ssh_string(kind) + ssh_string(_mpint(r) + _mpint(s))
        case _:
            return _sign_elsewhere(key_file, namespace, message)
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    blob = (
        _MAGIC
        + struct.pack(">I", 1)
        + b"".join(
            ssh_string(part) for part in (base64.b64decode(line.split()[1]), namespace.encode(), b"", b"sha512", signature)
        )
    )
    text = base64.b64encode(blob).decode("ascii")
    return "\n".join([_BEGIN, *(text[at : at + 70] for at in range(0, len(text), 70)), _END, ""])


def _sign_elsewhere(key_file: Path, namespace: str, message: bytes) -> str:
    locked = UsageFault(
        f"{key_file} is locked, and ssh-agent does not hold it",
        reason="key_locked",
        next_step=f"unlock it for this session: ssh-add {key_file}",
    )
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", key_file],
            input=message,
            capture_output=True,
            timeout=_TOUCH_S,
            check=False,
            start_new_session=True,  # without a terminal it cannot stop to ask for a passphrase behind the console
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise locked from error
    if done.returncode != 0:
        raise locked
    return done.stdout.decode("ascii", "replace")


def sshsig_verify(armoured: str, namespace: str, message: bytes) -> str:
    """The fingerprint of the key that signed `message`. Whether that key means anything is the caller's question.

    Ed25519, ECDSA, RSA (>= 2048 bits, SHA-2) and FIDO Ed25519 keys. Raises UsageFault (reason bad_signature).
    """
    try:
        return _sshsig_verify(armoured, namespace.encode(), message)
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, KeyError) as error:
        raise UsageFault(
            f"no valid SSH signature for {namespace}: {error}".rstrip(": "),
            reason="bad_signature",
            next_step="sign it again with your SSH key",
        ) from error


def _sshsig_verify(armoured: str, namespace: bytes, message: bytes) -> str:
    match = re.fullmatch(rf"\s*{_BEGIN}([A-Za-z0-9+/=\s]{{1,20000}}){_END}\s*", armoured)
    if not match:
        raise ValueError("no armoured signature")
    fields = Fields(base64.b64decode("".join(match[1].split()), validate=True))
    if fields.take(6) != _MAGIC or fields.number() != 1:
        raise ValueError("not SSHSIG version 1")
    key, claimed, reserved, algorithm, signature = (fields.string() for _ in range(5))
    fields.end()
    if claimed != namespace:
        raise ValueError(f"it is for {claimed.decode('utf-8', 'replace')!r}")
    signed = (
        _MAGIC + ssh_string(namespace) + ssh_string(reserved) + ssh_string(algorithm) + ssh_string(_HASHES[algorithm](message))
    )
    _check_ssh(key, signature, signed)
    return ssh_fingerprint(key)


def _check_ssh(key: bytes, signature: bytes, signed: bytes) -> None:
    """Raises ValueError or InvalidSignature."""
    parts = Fields(signature)
    kind, value = parts.string(), parts.string()
    if kind == b"sk-ssh-ed25519@openssh.com":
        _check_fido(key, value, parts, signed)
        return
    parts.end()
    public = serialization.load_ssh_public_key(Fields(key).string() + b" " + base64.b64encode(key))
    match public:
        case Ed25519PublicKey() if kind == b"ssh-ed25519":
            public.verify(value, signed)
        case rsa.RSAPublicKey() if kind in _RSA and public.key_size >= 2048:
            public.verify(value, signed, padding.PKCS1v15(), _RSA[kind])
        case ec.EllipticCurvePublicKey() if kind == _CURVES[public.curve.name][0]:
            pair = Fields(value)
            r, s = int.from_bytes(pair.string(), "big"), int.from_bytes(pair.string(), "big")
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[public.curve.name][1]))
        case _:
            raise ValueError(f"a {kind.decode('ascii', 'replace')} signature of another key type")


def _check_fido(key: bytes, value: bytes, rest: Fields, signed: bytes) -> None:
    """A hardware key signs the hash of what it is given, with its flags and counter (PROTOCOL.u2f)."""
    flags_and_counter = rest.take(5)
    rest.end()
    fields = Fields(key)
    if fields.string() != b"sk-ssh-ed25519@openssh.com":
        raise ValueError("a signature of another key type")
    public, application = fields.string(), fields.string()
    fields.end()
    if not flags_and_counter[0] & 1:
        raise ValueError("the hardware key was not touched")
    whole = hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(signed).digest()
    Ed25519PublicKey.from_public_bytes(public).verify(value, whole)

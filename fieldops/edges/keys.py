"""Keys of laptop, agent and person: made once, kept 0600, and the signatures made and checked with them.

Laptop and agent hold a raw Ed25519 key; their TLS certificate follows from it (same key, same certificate, every time).
A person holds an ordinary SSH key; what is signed with it is OpenSSH's SSHSIG (PROTOCOL.sshsig), so that `ssh-keygen -Y`
reads ours and we read its. Nothing here decides who may do what.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import getpass
import hashlib
import os
import re
import secrets
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fieldops.decoding import decoder
from fieldops.edges.disk import link, make_folder, rename, storage_faults, sync_folder, unlink, write_whole
from fieldops.errors import NotAuthorised, StorageFault, UsageFault
from fieldops.fleet import LaptopId, key_id
from fieldops.policy import Actor
from fieldops.ports import Journal
from fieldops.wire import (
    ENVELOPE_LIMIT,
    SESSION_NAMESPACE,
    STEP_PAYLOAD_TYPE,
    Envelope,
    Session,
    SessionBody,
    decode_signed,
    encode,
    pre_authentication_encoding,
    unb64,
)

SESSION_S = 8 * 3600  # a working day; the 4 h below the limit of 12 are room for a device whose clock is behind
_TOUCH_S = 60  # how long `ssh-keygen` may wait for a person to touch a hardware key

# --- files ---------------------------------------------------------------------------------------------------------------


def _write_once(path: Path, data: bytes) -> None:
    """Put a whole, durable 0600 file at `path` unless there is one. Power loss leaves the file or nothing, plus a dot file."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    write_whole(part, data, 0o600)
    try:
        with contextlib.suppress(FileExistsError):
            link(part, path)  # never replaces: of two processes that start at once one wins and both read its key
    except OSError:  # a file system without hard links
        if not path.exists():
            rename(part, path)
    finally:
        unlink(part)
    sync_folder(path.parent)


# --- laptop and agent ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """Implements ports.Signer; the agent's key is one as well (`id` reads better there)."""

    _private: Ed25519PrivateKey = field(repr=False)
    public_key: bytes

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Ed25519Signer:
        return cls(private, private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """A key that lives in memory only."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> Ed25519Signer:
        """The key at `path` (PKCS#8 PEM, 0600), made there when there is none. Raises StorageFault."""
        with storage_faults(path):
            if not path.exists():
                _write_once(path, cls.generate().private_pem())
            data = path.read_bytes()
        try:
            private = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _no_key(path) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _no_key(path)
        return cls.of(private)

    @property
    def id(self) -> str:
        return key_id(self.public_key)

    @property
    def laptop(self) -> LaptopId:
        return LaptopId(self.id)

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def private_pem(self) -> bytes:
        """PKCS#8 PEM, unencrypted."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def _no_key(path: Path) -> StorageFault:
    return StorageFault(
        f"{path} is no unencrypted Ed25519 key",
        reason="corrupt",
        next_step="restore it from a backup; moving it away makes a new identity, which must be enrolled again",
    )


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519. False on anything that is no valid signature by this key, malformed keys included."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# --- certificates --------------------------------------------------------------------------------------------------------


def self_signed_certificate(signer: Ed25519Signer, name: str) -> str:
    """PEM, valid 1970..9999 (clocks in the field are wrong; what ends trust is removal from the pins).

    name: the DNS name it is for. The same signer and name give the same bytes, so it need not be kept.
    """
    private = signer._private  # noqa: SLF001 - same module; the key does not leave it otherwise
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # X.520 allows 64; the SAN holds all of it
    public = private.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(int.from_bytes(hashlib.sha256(signer.public_key + name.encode()).digest()[:16], "big") | 1)
        .not_valid_before(dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(private, None).public_bytes(serialization.Encoding.PEM).decode("ascii")


def certificate_file(signer: Ed25519Signer, name: str, path: Path) -> Path:
    """The certificate at `path`, written when it is not there or another key's (TLS libraries want files)."""
    pem = self_signed_certificate(signer, name).encode("ascii")
    with storage_faults(path):
        if not path.exists() or path.read_bytes() != pem:
            write_whole(path, pem, 0o644)
    return path


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except ValueError as error:
        raise UsageFault("no certificate in PEM", reason="malformed", next_step="enrol the device again") from error


def certificate_fingerprint(pem: str) -> str:
    """SHA-256 of the DER, hex: what `hashlib.sha256(ssl_object.getpeercert(True))` gives. Raises UsageFault."""
    return hashlib.sha256(_certificate(pem).public_bytes(serialization.Encoding.DER)).hexdigest()


def certificate_key(pem: str) -> bytes:
    """The raw Ed25519 key a certificate is for. Raises UsageFault when it is for another kind."""
    public = _certificate(pem).public_key()
    if not isinstance(public, Ed25519PublicKey):
        raise UsageFault("the certificate's key is not Ed25519", reason="malformed", next_step="enrol the device again")
    return public.public_bytes_raw()


# --- DSSE ----------------------------------------------------------------------------------------------------------------


def open_envelope(data: bytes, public_key: bytes) -> bytes:
    """The payload of a step's DSSE envelope, once its one signature by this raw Ed25519 key is checked.

    Raises UsageFault (malformed, oversized) or NotAuthorised (reason bad_signature).
    """
    envelope = decode_signed(data, Envelope, what="envelope", limit=ENVELOPE_LIMIT)
    if envelope.payloadType != STEP_PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise UsageFault(
            f"no step envelope: {len(envelope.signatures)} signatures over {envelope.payloadType!r}",
            reason="malformed",
            next_step="use a version of fieldops that this device understands",
        )
    try:
        payload, signature = unb64(envelope.payload), unb64(envelope.signatures[0].sig)
    except ValueError as error:
        raise UsageFault("envelope: no base64", reason="malformed", next_step="send it again") from error
    if not verify(public_key, signature, pre_authentication_encoding(envelope.payloadType, payload)):
        raise NotAuthorised(
            "the envelope is not signed by that laptop's key", reason="bad_signature", next_step="enrol this laptop again"
        )
    return payload


# --- SSH keys ------------------------------------------------------------------------------------------------------------


class _Fields:
    """Reads SSH's length-prefixed strings. Raises ValueError at any end that comes too early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self.at != len(self.data):
            raise ValueError("trailing bytes")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


def ssh_fingerprint(key: str | bytes) -> str:
    """`SHA256:...` as OpenSSH prints it. key: a public key line (`ssh-ed25519 AAAA... comment`) or the key blob itself."""
    if isinstance(key, str):
        try:
            key = _line_blob(key)
        except (ValueError, IndexError) as error:
            raise UsageFault(
                "no SSH public key line", reason="bad_key", next_step="give the line of a .pub file: type, base64, comment"
            ) from error
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def _line_blob(line: str) -> bytes:
    words = line.split()
    blob = base64.b64decode(words[1], validate=True)
    if _Fields(blob).string() != words[0].encode():
        raise ValueError("the line's type is not the key's")
    return blob


def _clear_blob(text: str) -> bytes:
    """OpenSSH's private format keeps the public key before the encrypted part."""
    if not text.startswith("-----"):
        return _line_blob(text)
    fields = _Fields(base64.b64decode(re.sub(r"-----[^-]+-----|\s", "", text), validate=True))
    if fields.take(15) != b"openssh-key-v1\0":
        raise ValueError("not OpenSSH's format")
    fields.string(), fields.string(), fields.string()
    if fields.number() != 1:
        raise ValueError("several keys")
    return fields.string()


def ssh_public_blob(key_file: Path) -> bytes:
    """The public key blob of a private key file, from the `.pub` beside it or its clear header; needs no passphrase.

    The `.pub` file itself may be named too. Raises UsageFault (no_key, bad_key).
    """
    beside = key_file.with_name(key_file.name + ".pub")
    try:
        return _line_blob(beside.read_text("utf-8")) if beside.is_file() else _clear_blob(key_file.read_text("utf-8"))
    except OSError as error:
        raise UsageFault(
            f"{key_file}: {error.strerror}", reason="no_key", next_step="name your SSH key under [person] in config.toml"
        ) from error
    except (ValueError, IndexError) as error:
        raise UsageFault(
            f"{key_file}: no OpenSSH key ({error})",
            reason="bad_key",
            next_step=f"put its public half beside it: ssh-keygen -y -f {key_file} > {key_file}.pub",
        ) from error


def ssh_keygen(path: Path, comment: str = "") -> str:
    """Make an unencrypted Ed25519 OpenSSH key pair at `path` and `path`.pub; its fingerprint. For the demo and tests."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    write_whole(path, pem, 0o600)
    write_whole(path.with_name(path.name + ".pub"), f"{line} {comment}".rstrip().encode() + b"\n", 0o644)
    return ssh_fingerprint(line)


# --- SSHSIG --------------------------------------------------------------------------------------------------------------

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
    signed = _MAGIC + _string(namespace.encode()) + _string(b"") + _string(b"sha512")
    signed += _string(hashlib.sha512(message).digest())
    match private:
        case Ed25519PrivateKey():
            signature = _string(b"ssh-ed25519") + _string(private.sign(signed))
        case rsa.RSAPrivateKey():
            signature = _string(b"rsa-sha2-512") + _string(private.sign(signed, padding.PKCS1v15(), hashes.SHA512()))
        case ec.EllipticCurvePrivateKey():
            kind, algorithm = _CURVES[private.curve.name]
            r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(algorithm)))
            signature = _string(kind) + _string(_mpint(r) + _mpint(s))
        case _:
            return _sign_elsewhere(key_file, namespace, message)
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    blob = (
        _MAGIC
        + struct.pack(">I", 1)
        + b"".join(_string(part) for part in (base64.b64decode(line.split()[1]), namespace.encode(), b"", b"sha512", signature))
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
    fields = _Fields(base64.b64decode("".join(match[1].split()), validate=True))
    if fields.take(6) != _MAGIC or fields.number() != 1:
        raise ValueError("not SSHSIG version 1")
    key, claimed, reserved, algorithm, signature = (fields.string() for _ in range(5))
    fields.end()
    if claimed != namespace:
        raise ValueError(f"it is for {claimed.decode('utf-8', 'replace')!r}")
    signed = _MAGIC + _string(namespace) + _string(reserved) + _string(algorithm) + _string(_HASHES[algorithm](message))
    _check_ssh(key, signature, signed)
    return ssh_fingerprint(key)


def _check_ssh(key: bytes, signature: bytes, signed: bytes) -> None:
    """Raises ValueError or InvalidSignature."""
    parts = _Fields(signature)
    kind, value = parts.string(), parts.string()
    if kind == b"sk-ssh-ed25519@openssh.com":
        _check_fido(key, value, parts, signed)
        return
    parts.end()
    public = serialization.load_ssh_public_key(_Fields(key).string() + b" " + base64.b64encode(key))
    match public:
        case Ed25519PublicKey() if kind == b"ssh-ed25519":
            public.verify(value, signed)
        case rsa.RSAPublicKey() if kind in _RSA and public.key_size >= 2048:
            public.verify(value, signed, padding.PKCS1v15(), _RSA[kind])
        case ec.EllipticCurvePublicKey() if kind == _CURVES[public.curve.name][0]:
            pair = _Fields(value)
            r, s = int.from_bytes(pair.string(), "big"), int.from_bytes(pair.string(), "big")
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[public.curve.name][1]))
        case _:
            raise ValueError(f"a {kind.decode('ascii', 'replace')} signature of another key type")


def _check_fido(key: bytes, value: bytes, rest: _Fields, signed: bytes) -> None:
    """A hardware key signs the hash of what it is given, with its flags and counter (PROTOCOL.u2f)."""
    flags_and_counter = rest.take(5)
    rest.end()
    fields = _Fields(key)
    if fields.string() != b"sk-ssh-ed25519@openssh.com":
        raise ValueError("a signature of another key type")
    public, application = fields.string(), fields.string()
    fields.end()
    if not flags_and_counter[0] & 1:
        raise ValueError("the hardware key was not touched")
    whole = hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(signed).digest()
    Ed25519PublicKey.from_public_bytes(public).verify(value, whole)


# --- the person ----------------------------------------------------------------------------------------------------------


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "unknown"


@dataclass(frozen=True, slots=True)
class PersonFile:
    """Implements ports.Technician: a person by an SSH key file, or a local name nobody vouches for.

    key: private key file (its public half may stand alone when ssh-agent holds the rest); None: no person.
    cache: where the proof of this session is kept (0600). passphrase: asked once per proof; None where nobody can be asked.
    """

    key: Path | None
    laptop: LaptopId
    cache: Path
    passphrase: Callable[[], bytes] | None = None

    def actor(self) -> Actor:
        if self.key is None:
            return Actor("local", _user())
        return Actor("person", ssh_fingerprint(ssh_public_blob(self.key)))

    def proof(self, journal: Journal, now: float) -> Session | None:
        if self.key is None:
            return None
        person = self.actor().name
        kept = self._kept(journal, now, person)
        if kept is not None:
            return kept
        body = SessionBody(
            laptop=self.laptop, log=journal.log, size=journal.size(), root=journal.root().hex(), until=now + SESSION_S
        )
        text = encode(body)
        passphrase = self.passphrase() if self.passphrase is not None else None
        signature = sshsig_sign(self.key, SESSION_NAMESPACE, text, passphrase)
        session = Session(body=text.decode(), signature=signature)
        write_whole(self.cache, encode(session), 0o600)
        return session

    def _kept(self, journal: Journal, now: float, person: str) -> Session | None:
        """The session on disk while it is this person's, this log's, and good for a minute more; a torn file is none."""
        try:
            session = decoder(Session).decode(self.cache.read_bytes())
            body = decoder(SessionBody).decode(session.body)
            signer = sshsig_verify(session.signature, SESSION_NAMESPACE, session.body.encode())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, UsageFault, binascii.Error):
            return None
        ours = signer == person and body.laptop == self.laptop and body.log == journal.log
        in_time = now + 60 < body.until <= now + SESSION_S + 60
        return session if ours and in_time and body.size <= journal.size() else None

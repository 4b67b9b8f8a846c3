"""The key of a laptop, an agent or a store: raw Ed25519, made once, kept 0600."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509 import Certificate, CertificateBuilder

from fieldops.edges.disk import link, make_folder, rename, storage_faults, sync_folder, unlink, write_whole
from fieldops.errors import StorageFault
from fieldops.fleet import LaptopId, key_id


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

    def certify(self, builder: CertificateBuilder) -> Certificate:
        return builder.sign(self._private, None)

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

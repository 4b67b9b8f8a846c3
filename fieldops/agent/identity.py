"""Who this device is. The key is loaded only to sign; id and certificate lie beside it, so a start needs no cryptography."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldops.edges.disk import write_whole
from fieldops.fleet import key_id, tls_name
from fieldops.wire import b64, unb64


@dataclass(frozen=True, slots=True)
class Identity:
    key_file: Path
    public_key: bytes
    certificate: str  # PEM, for the LAN listener

    @classmethod
    def load_or_create(cls, key_file: Path) -> Identity:
        """Made at the first start. Raises StorageFault when the key is no key."""
        public, certificate = key_file.with_suffix(".pub"), key_file.with_suffix(".crt")
        if not (key_file.exists() and public.exists() and certificate.exists()):
            from fieldops.edges.keys import Ed25519Signer, self_signed_certificate

            signer = Ed25519Signer.load_or_create(key_file)
            name = tls_name(key_id(signer.public_key))
            write_whole(certificate, self_signed_certificate(signer, name).encode("ascii"))
            write_whole(public, b64(signer.public_key).encode("ascii"))
        return cls(key_file, unb64(public.read_text("ascii")), certificate.read_text("ascii"))

    @property
    def id(self) -> str:
        return key_id(self.public_key)

    @property
    def certificate_file(self) -> Path:
        return self.key_file.with_suffix(".crt")

    def sign(self, message: bytes) -> bytes:
        """64 raw bytes. Loads cryptography when first used."""
        from fieldops.edges.keys import Ed25519Signer

        return Ed25519Signer.load_or_create(self.key_file).sign(message)

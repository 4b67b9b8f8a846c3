"""TLS certificates that follow from an Ed25519 key: same key, same certificate, every time."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fieldops.edges.disk import storage_faults, write_whole
from fieldops.edges.keys.ed25519 import Ed25519Signer
from fieldops.errors import UsageFault


def self_signed_certificate(signer: Ed25519Signer, name: str) -> str:
    """PEM, valid 1970..9999 (clocks in the field are wrong; what ends trust is removal from the pins).

    name: the DNS name it is for. The same signer and name give the same bytes, so it need not be kept.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # X.520 allows 64; the SAN holds all of it
    public = Ed25519PublicKey.from_public_bytes(signer.public_key)
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
    return signer.certify(builder).public_bytes(serialization.Encoding.PEM).decode("ascii")


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

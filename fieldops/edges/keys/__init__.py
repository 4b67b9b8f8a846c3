"""Keys of laptop, agent and person: made once, kept 0600, and the signatures made and checked with them.

Laptop and agent hold a raw Ed25519 key; their TLS certificate follows from it. A person holds an ordinary SSH key.
Nothing here decides who may do what.
"""

from __future__ import annotations

from fieldops.edges.keys.certificates import (
    certificate_file,
    certificate_fingerprint,
    certificate_key,
    self_signed_certificate,
)
from fieldops.edges.keys.ed25519 import Ed25519Signer, verify
from fieldops.edges.keys.envelopes import open_envelope
from fieldops.edges.keys.person import PersonFile, sign_as
from fieldops.edges.keys.ssh import ssh_fingerprint, ssh_keygen, ssh_public_blob
from fieldops.edges.keys.sshsig import sshsig_sign, sshsig_verify

__all__ = [
    "Ed25519Signer",
    "PersonFile",
    "certificate_file",
    "certificate_fingerprint",
    "certificate_key",
    "open_envelope",
    "self_signed_certificate",
    "sign_as",
    "ssh_fingerprint",
    "ssh_keygen",
    "ssh_public_blob",
    "sshsig_sign",
    "sshsig_verify",
    "verify",
]

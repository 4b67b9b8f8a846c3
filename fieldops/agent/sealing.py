"""Kept inputs at rest: AES-256-GCM under a key that stays on this device, in a worker so that the agent loads no cryptography.

This protects copies of the database (a backup, a folder sent away), not the whole device: whoever takes it has the key too.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fieldops.edges.disk import sync_folder
from fieldops.errors import DeviceCannot

KEY_BYTES = 32
NONCE_BYTES = 12
_ABOUT = b"fieldops sample v1"


def seal(key_file: Path, data: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(_key(key_file)).encrypt(nonce, data, _ABOUT)


def unseal(key_file: Path, sealed: bytes) -> bytes:
    """Raises DeviceCannot (unreadable)."""
    try:
        return AESGCM(_key(key_file)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _ABOUT)
    except (InvalidTag, ValueError) as error:
        raise DeviceCannot("sealed under another key", reason="unreadable", next_step="collect new inputs") from error


def _key(path: Path) -> bytes:
    """Made at the first need. On disk, with its name, before anything is sealed with it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return path.read_bytes()

"""Kept inputs at rest: sealed for the recipients of the signed policy and, where it lets them be labelled here, for this device.

In a worker, so that the agent loads no cryptography. The device's own key lies on the same disk: for it alone, sealing
protects copies of the database (a backup, a folder sent away), not the whole device. Where the policy says that inputs are
not read on site, only the recipients' keys open them, and none of those is here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fieldops.edges import sealed
from fieldops.edges.disk import sync_folder, write_whole
from fieldops.wire import unb64


def seal(key_file: Path, data: bytes, recipients: Sequence[str] = (), *, own: bool = True) -> bytes:
    """recipients: base64 of public keys. own: for this device as well."""
    keys = [unb64(text) for text in recipients]
    return sealed.seal(data, [*keys, *([sealed.public_key_of(_key(key_file))] if own else [])])


def unseal(key_file: Path, data: bytes) -> bytes:
    """Raises DeviceCannot (unreadable)."""
    return sealed.unseal(_key(key_file), data)


def _key(path: Path) -> bytes:
    """Made at the first need. On disk, with its name, before anything is sealed with it. One that is damaged is made anew."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_bytes()
        if len(found) != sealed.KEY_BYTES:
            write_whole(path, os.urandom(sealed.KEY_BYTES))
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(sealed.KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return path.read_bytes()

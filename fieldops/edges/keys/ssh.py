"""Public halves of SSH keys, read without a passphrase, and the length-prefixed strings they are made of."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fieldops.edges.disk import write_whole
from fieldops.errors import UsageFault


class Fields:
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


def ssh_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


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
    if Fields(blob).string() != words[0].encode():
        raise ValueError("the line's type is not the key's")
    return blob


def _clear_blob(text: str) -> bytes:
    """OpenSSH's private format keeps the public key before the encrypted part."""
    if not text.startswith("-----"):
        return _line_blob(text)
    fields = Fields(base64.b64decode(re.sub(r"-----[^-]+-----|\s", "", text), validate=True))
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

"""The release team's keys: files of one folder, by name (`stable-2`), each for one role alone.

    stable-2.pem      private, PKCS#8, encrypted with a passphrase (or not: the sample fleet's), 0600
    stable-2.signer   a program that signs: {"public_key": "<64 hex>", "command": ["/usr/bin/sign", "--slot", "2"]}
    stable-2.pub      public alone (PEM): what a holder elsewhere hands in for `init` and `rotate`

Programs: see tuf_program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from fieldops.decoding import decoder
from fieldops.edges.disk import storage_faults, sync_folder, write_whole
from fieldops.edges.tuf_program import Program, ProgramSigner
from fieldops.errors import UsageFault

Passphrase = Callable[[str], bytes]  # key name -> passphrase

NAME_FIELD = "x-fieldops-name"  # in signed metadata, beside the key: people know keys by name
KEY_NAME = re.compile(r"(root|targets|stable|canary|policy|snapshot|timestamp)-([1-9][0-9]{0,2})")
PATIENCE_S = 120.0  # for a hardware key to be touched
_PRIVATE = (".pem", ".signer")


def named(key: Key, name: str) -> Key:
    key.unrecognized_fields[NAME_FIELD] = name
    return key


def name_of(key: Key) -> str:
    """What people call a key; the start of its id where nobody named it."""
    name = key.unrecognized_fields.get(NAME_FIELD)
    return name if isinstance(name, str) and KEY_NAME.fullmatch(name) else key.keyid[:12]


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """passphrase: asked for each encrypted key, and when one is made; None: new keys are not encrypted."""

    folder: Path
    passphrase: Passphrase | None = None
    patience_s: float = PATIENCE_S

    def names(self, role: str, *, private: bool = True) -> list[str]:
        """The role's keys that lie here, in the order of their numbers."""
        kinds = _PRIVATE if private else (*_PRIVATE, ".pub")
        found = {path.stem for kind in kinds for path in self.folder.glob(f"{role}-*{kind}") if not path.name.startswith(".")}
        return sorted((name for name in found if _is_of(name, role)), key=lambda name: int(name.rpartition("-")[2]))

    def make(self, name: str) -> Key:
        """A new private key, and its public half beside it. Raises UsageFault when the name is taken."""
        self.check_free(name)
        private = Ed25519PrivateKey.generate()
        encryption: KeySerializationEncryption = NoEncryption()
        if self.passphrase is not None:
            encryption = BestAvailableEncryption(self.passphrase(name))
        path = self.folder / f"{name}.pem"
        with storage_faults(path):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.folder)
        return named(SSlibKey.from_crypto(private.public_key()), name)

    def attach(self, name: str, public: Path, command: list[str]) -> Key:
        """Let a program sign as `name`. public: its public key."""
        self.check_free(name)
        raw = _public(public)
        text = msgspec.json.encode(Program(public_key=raw.public_bytes_raw().hex(), command=command))
        write_whole(self.folder / f"{name}.signer", text + b"\n", 0o600)
        return named(SSlibKey.from_crypto(raw), name)

    def check_free(self, name: str) -> None:
        if not KEY_NAME.fullmatch(name):
            raise UsageFault(f"{name!r} names no key", reason="bad_name", next_step="write ROLE-NUMBER, such as stable-2")
        for kind in (*_PRIVATE, ".pub"):
            if (self.folder / f"{name}{kind}").exists():
                raise UsageFault(
                    f"{self.folder / name}{kind} exists already",
                    reason="exists",
                    next_step="keys are never replaced: take a new number",
                )

    def public_file(self, name: str) -> Path:
        """`<name>.pub` beside the key, written where it is missing: what its holder hands to the others."""
        path = self.folder / f"{name}.pub"
        if not path.exists():
            raw = _verifier(self.signer(name))
            write_whole(path, raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
        return path

    def public(self, name: str) -> Key:
        """Without a passphrase where a `.pub` or `.signer` lies here."""
        path = self.folder / f"{name}.pub"
        if path.exists():
            return public_key(path)
        return named(self.signer(name).public_key, name)

    def signer(self, name: str) -> Signer:
        """name: of a key here, or the path of one anywhere. Raises UsageFault (no_key, bad_key, key_locked, key_exposed)."""
        path = Path(name)
        if not (path.suffix in _PRIVATE or os.sep in name):
            path = next((self.folder / f"{name}{kind}" for kind in _PRIVATE if (self.folder / f"{name}{kind}").exists()), path)
        if path.suffix == ".signer":
            return self._program(path)
        return self._private(path)

    def _private(self, path: Path) -> Signer:
        data = _read(path)
        try:
            private = load_pem_private_key(data, password=None)
        except TypeError:
            private = self._unlocked(path, data)
        except ValueError as error:
            raise _bad(path, "is no PKCS#8 key") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _bad(path, "is no Ed25519 key")
        _check_hidden(path, 0o077)
        signer = CryptoSigner(private)
        named(signer.public_key, path.stem)
        return signer

    def _unlocked(self, path: Path, data: bytes) -> PrivateKeyTypes:
        if self.passphrase is None:
            raise UsageFault(
                f"{path} is locked by a passphrase",
                reason="key_locked",
                next_step="give --passphrase-file FILE, or run this at a terminal",
            )
        try:
            return load_pem_private_key(data, password=self.passphrase(path.stem))
        except ValueError as error:
            raise UsageFault(
                f"the passphrase does not open {path}", reason="key_locked", next_step="check the passphrase and the key's name"
            ) from error

    def _program(self, path: Path) -> Signer:
        data = _read(path)
        _check_hidden(path, 0o022)  # whoever may write here chooses the program that runs
        try:
            program = decoder(Program).decode(data)
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(program.public_key))
        except (msgspec.DecodeError, ValueError) as error:
            raise _bad(path, f"is no signer file: {error}") from error
        if not program.command:
            raise _bad(path, "names no program")
        return ProgramSigner(path, program, public, self.patience_s)


def passphrase_in(path: Path) -> Passphrase:
    """The file's first line opens every key. Raises UsageFault (bad_file, key_exposed)."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name the file with the passphrase") from error
    if not lines or not lines[0].strip():
        raise UsageFault(f"{path} is empty", reason="bad_file", next_step="write the passphrase into its first line")
    _check_hidden(path, 0o077)
    return lambda _name: lines[0]


def public_key(path: Path) -> Key:
    """The public key in a `.pub` file (PEM), named after the file."""
    return named(SSlibKey.from_crypto(_public(path)), path.stem)


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise _bad(path, "is no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad(path, "is no Ed25519 key")
    return key


def _verifier(signer: Signer) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.public_key.to_dict()["keyval"]["public"]))


def _is_of(name: str, role: str) -> bool:
    match = KEY_NAME.fullmatch(name)
    return match is not None and match[1] == role


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageFault(f"there is no key {path}", reason="no_key", next_step="give the folder with your release key") from error
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from error


def _bad(path: Path, what: str) -> UsageFault:
    return UsageFault(f"{path} {what}", reason="bad_key", next_step="make one with `fieldops release keygen`")


def _check_hidden(path: Path, forbidden: int) -> None:
    if os.name != "nt" and path.stat().st_mode & forbidden:
        raise UsageFault(
            f"{path} can be {'read' if forbidden & 0o044 else 'changed'} by others",
            reason="key_exposed",
            next_step=f"if nobody did, chmod 600 {path}; else rotate the key",
        )

"""A program that signs, such as one that asks a hardware token.

It gets the bytes to sign on stdin and prints the Ed25519 signature in base64. It is started by its list of words, never by a
shell, and what it prints counts only when it verifies.
"""

from __future__ import annotations

import base64
import binascii
import subprocess
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct
from securesystemslib.signer import Key, Signature, Signer, SSlibKey

from fieldops.errors import UsageFault


class Program(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    public_key: str  # hex, 32 bytes
    command: list[str]


class ProgramSigner(Signer):
    """Signs by asking a program."""

    def __init__(self, path: Path, program: Program, public: Ed25519PublicKey, patience_s: float) -> None:
        self._path = path
        self._program = program
        self._public = public
        self._patience_s = patience_s
        self._key: Key = SSlibKey.from_crypto(public)

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> Signer:
        raise NotImplementedError  # we make ours from a `.signer` file

    @property
    def public_key(self) -> Key:
        return self._key

    def sign(self, payload: bytes) -> Signature:
        program = self._program.command[0]
        try:
            done = subprocess.run(
                self._program.command, input=payload, capture_output=True, timeout=self._patience_s, check=False, shell=False
            )
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"{program} did not sign within {self._patience_s:.0f} s") from error
        except OSError as error:
            raise self._failed(f"{program} cannot be started: {error.strerror}") from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()[-300:]
            raise self._failed(f"{program} ended with {done.returncode}: {said}")
        try:
            signature = base64.b64decode(done.stdout.strip(), validate=True)
            self._public.verify(signature, payload)
        except (binascii.Error, InvalidSignature) as error:
            raise self._failed(f"{program} printed no signature of the key in {self._path.name}") from error
        return Signature(self._key.keyid, signature.hex())

    @staticmethod
    def _failed(what: str) -> UsageFault:
        return UsageFault(what, reason="signer_failed", next_step="run the program by hand with any bytes on its stdin")

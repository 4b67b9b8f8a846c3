"""Release keys: locked, hidden, held by a program, named in what they sign; one key never stands for two."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tuf.api.metadata import Metadata, Root

from fieldops.edges.tuf_keys import KeyFolder, passphrase_in
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.errors import UsageFault

World = Any

PROGRAM = """
import base64, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
key = load_pem_private_key(open(sys.argv[1], "rb").read(), None)
print(base64.b64encode(key.sign(sys.stdin.buffer.read())).decode())
"""


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.next_step
    return caught.value.reason


def locked(folder: Path, secret: bytes = b"correct horse") -> KeyFolder:
    return KeyFolder(folder, lambda _name: secret)


def test_a_locked_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    locked(tmp_path / "keys").make("stable-1")
    assert b"ENCRYPTED" in (tmp_path / "keys/stable-1.pem").read_bytes()
    assert stat.S_IMODE((tmp_path / "keys/stable-1.pem").stat().st_mode) == 0o600
    assert locked(tmp_path / "keys").signer("stable-1").sign(b"x").keyid
    assert refused(lambda: KeyFolder(tmp_path / "keys").signer("stable-1")) == "key_locked"
    assert refused(lambda: locked(tmp_path / "keys", b"wrong").signer("stable-1")) == "key_locked"
    assert refused(lambda: locked(tmp_path / "keys").make("stable-1")) == "exists"
    assert refused(lambda: locked(tmp_path / "keys").make("../stable-1")) == "bad_name"


def test_a_passphrase_file_is_ours_alone(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_bytes(b"correct horse\nsecond line\n")
    file.chmod(0o600)
    assert passphrase_in(file)("stable-1") == b"correct horse"
    file.chmod(0o644)
    assert refused(lambda: passphrase_in(file)) == "key_exposed"
    file.chmod(0o600)
    file.write_bytes(b"\n")
    assert refused(lambda: passphrase_in(file)) == "bad_file"


def test_a_key_that_others_can_read_signs_nothing(world: World) -> None:
    key = world.folder / "keys/stable-1.pem"
    key.chmod(0o640)
    assert refused(lambda: world.release.sign("stable", ["stable-1"])) == "key_exposed"
    assert any("stable-1" in line and "read by others" in line for line in world.release.doctor())


@pytest.fixture
def program(tmp_path: Path) -> tuple[Path, Path]:
    """(a program that signs, its secret key's file)."""
    script, secret = tmp_path / "sign.py", tmp_path / "secret.pem"
    script.write_text(PROGRAM)
    private = Ed25519PrivateKey.generate()
    secret.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    holder = KeyFolder(tmp_path / "elsewhere")
    holder.folder.mkdir()
    (holder.folder / "canary-9.pem").write_bytes(secret.read_bytes())
    (holder.folder / "canary-9.pem").chmod(0o600)
    holder.public_file("canary-9")
    return script, secret


def test_a_program_signs_and_what_it_prints_counts_only_when_it_verifies(
    world: World, program: tuple[Path, Path], tmp_path: Path
) -> None:
    script, secret = program
    keys = KeyFolder(world.folder / "keys", patience_s=20)
    key = keys.attach("canary-2", tmp_path / "elsewhere/canary-9.pub", [sys.executable, str(script), str(secret)])
    release = ReleaseRepo(world.release.repo, keys, world.clock)
    assert release.rotate("canary", out="canary-1", into="canary-2") == ["targets", "canary"]
    assert key.keyid != keys.public("canary-1").keyid
    for role in ("targets", "canary"):
        release.sign(role)
    release.publish()
    assert release.standing("canary")[0].signed == ("canary-2",)
    for words in (
        [sys.executable, "-c", "print('no base64')"],
        [sys.executable, "-c", "print('AAAA')"],
        [sys.executable, "-c", "raise SystemExit(3)"],
        [str(tmp_path / "nothing")],
    ):
        (keys.folder / "canary-2.signer").unlink()
        keys.attach("canary-2", tmp_path / "elsewhere/canary-9.pub", words)
        assert refused(lambda: release.sign("canary", ["canary-2"])) == "signer_failed"
    (keys.folder / "canary-2.signer").chmod(0o666)
    assert refused(lambda: release.sign("canary", ["canary-2"])) == "key_exposed"


def test_the_words_of_a_program_never_pass_a_shell(world: World, program: tuple[Path, Path], tmp_path: Path) -> None:
    script, secret = program
    keys = KeyFolder(tmp_path / "elsewhere")
    trap = tmp_path / "trap"
    keys.attach(
        "canary-2",
        tmp_path / "elsewhere/canary-9.pub",
        [sys.executable, str(script), str(secret), f"; touch {trap}", f"$(touch {trap})"],
    )
    assert keys.signer("canary-2").sign(b"x").keyid == keys.public("canary-9").keyid
    assert not trap.exists()


def test_one_key_never_stands_for_two(world: World, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    ReleaseRepo.init(tmp_path / "first", keys, world.clock)
    (keys / "stable-2.pem").write_bytes((keys / "stable-1.pem").read_bytes())
    assert refused(lambda: ReleaseRepo.init(tmp_path / "second", keys, world.clock)) == "same_key"
    assert not (tmp_path / "second").exists()
    (world.folder / "keys/canary-2.pem").write_bytes((world.folder / "keys/root-1.pem").read_bytes())
    os.chmod(world.folder / "keys/canary-2.pem", 0o600)  # noqa: PTH101
    assert refused(lambda: world.release.rotate("canary", out="canary-1", into="canary-2")) == "same_key"
    assert world.release.pending_roles() == []


def test_signed_metadata_calls_keys_by_name(world: World) -> None:
    root = Metadata[Root].from_bytes(world.release.root()).signed
    names = {key.unrecognized_fields["x-fieldops-name"] for key in root.keys.values()}
    assert {"root-1", "root-2", "root-3", "targets-1", "snapshot-1", "timestamp-1"} == names

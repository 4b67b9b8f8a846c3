"""Notes, checkpoints and cosignatures: the published example, round trips, and what must not open."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldops.audit import note
from fieldops.errors import UsageFault

KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"laptop of the tests").digest())
OTHER = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"another laptop").digest())
PUBLIC = KEY.public_key().public_bytes_raw()
LOG = note.origin("a" * 52, 0)
POINT = note.Checkpoint(LOG, 7, hashlib.sha256(b"root").digest())


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_the_vkey_of_the_specification_is_read_and_written() -> None:
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = note.parse_vkey(text)
    assert key.name == "PeterNeumann"
    assert str(key) == text


def test_the_signed_note_of_the_specification_verifies() -> None:
    key = note.parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    name, data = note.parse_line(line)
    assert name == key.name
    assert data[:4] == key.hash
    assert verify(key.public_key, data[4:], text.encode())


def test_a_checkpoint_opens_with_its_own_key_only() -> None:
    signed = note.sign_checkpoint(POINT, PUBLIC, KEY.sign)
    assert note.open_checkpoint(signed, PUBLIC, verify) == POINT
    assert note.parse_checkpoint(signed) == POINT
    with pytest.raises(UsageFault) as refused:
        note.open_checkpoint(signed, OTHER.public_key().public_bytes_raw(), verify)
    assert refused.value.reason == "bad_signature"


def test_another_keys_signature_under_the_logs_name_does_not_open() -> None:
    forged = note.sign_checkpoint(POINT, PUBLIC, OTHER.sign)
    with pytest.raises(UsageFault, match="not signed by its own key"):
        note.open_checkpoint(forged, PUBLIC, verify)


@given(st.integers(0, 400), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_of_a_note_opens_as_another_checkpoint(at: int, flip: int) -> None:
    signed = note.sign_checkpoint(POINT, PUBLIC, KEY.sign).encode()
    at %= len(signed)
    changed = signed[:at] + bytes([signed[at] ^ flip]) + signed[at + 1 :]
    try:
        opened = note.open_checkpoint(changed.decode("utf-8", "replace"), PUBLIC, verify)
    except UsageFault:
        return
    assert opened == POINT


def test_a_cosignature_names_the_time_and_covers_exactly_one_checkpoint() -> None:
    name = note.witness_name("device:" + "b" * 52)
    line = note.cosign(POINT, name, PUBLIC, 1_700_000_000.9, KEY.sign)
    assert note.verify_cosignature(POINT, line, name, PUBLIC, verify) == 1_700_000_000
    for other in (
        note.Checkpoint(LOG, 8, POINT.root),
        note.Checkpoint(LOG, 7, bytes(32)),
        note.Checkpoint(note.origin("a" * 52, 1), 7, POINT.root),
    ):
        with pytest.raises(UsageFault, match="did not cosign"):
            note.verify_cosignature(other, line, name, PUBLIC, verify)


def test_a_cosignature_is_no_signature_and_a_signature_no_cosignature() -> None:
    line = note.cosign(POINT, LOG, PUBLIC, 5, KEY.sign)
    with pytest.raises(UsageFault):
        note.open_checkpoint(f"{POINT.text}\n{line}\n", PUBLIC, verify)
    signed = note.sign_checkpoint(POINT, PUBLIC, KEY.sign)
    with pytest.raises(UsageFault):
        note.verify_cosignature(POINT, signed.split("\n\n")[1], LOG, PUBLIC, verify)


def test_a_cosigned_note_still_opens() -> None:
    signed = note.sign_checkpoint(POINT, PUBLIC, KEY.sign)
    line = note.cosign(POINT, "fieldops/store/x", PUBLIC, 5, KEY.sign)
    assert note.open_checkpoint(note.with_cosignatures(signed, [line]), PUBLIC, verify) == POINT


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"{LOG}\n1\n",
        f"{LOG}\n01\n{ROOT}\n",
        f"{LOG}\n-1\n{ROOT}\n",
        f"{LOG}\n{'9' * 30}\n{ROOT}\n",
        f"{LOG}\n1\nAAAA\n",
        f"{LOG}\n1\nnot base64!\n",
        f"{LOG}\n1\n{ROOT}\nan extension\n",
        f"two words\n1\n{ROOT}\n",
        f"a+b\n1\n{ROOT}\n",
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_malformed(text: str) -> None:
    with pytest.raises(UsageFault) as refused:
        note.parse_checkpoint(text)
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("text", ["", "x", "x+00000000+AAAA", "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"])
def test_what_is_no_vkey_is_refused(text: str) -> None:
    with pytest.raises(UsageFault):
        note.parse_vkey(text)


@pytest.mark.parametrize("log", ["", "fieldops/x/0", LOG + "/1", LOG + "\n", f"fieldops/{'a' * 52}/01", f"fieldops/{'A' * 52}/0"])
def test_what_is_no_origin_is_refused(log: str) -> None:
    with pytest.raises(UsageFault):
        note.parse_origin(log)
    assert note.parse_origin(LOG) == ("a" * 52, 0)

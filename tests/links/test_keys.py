"""Keys and signatures, each checked against the program that owns the format: ssh-keygen, ssl, sha256."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from fieldops.audit.entry import Draft, Entry
from fieldops.edges import keys
from fieldops.errors import NotAuthorised, StorageFault, UsageFault
from fieldops.fleet import LaptopId, key_id, tls_name
from fieldops.wire import (
    SESSION_NAMESPACE,
    STEP_PAYLOAD_TYPE,
    DsseSignature,
    Envelope,
    Session,
    SessionBody,
    b64,
    encode,
    pre_authentication_encoding,
)

NEEDS_SSH_KEYGEN = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's ssh-keygen")


def _real_key(folder: Path, *options: str, passphrase: str = "") -> Path:
    path = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, "-f", path, *options], check=True, stdin=subprocess.DEVNULL)
    return path


# --- laptop and agent ----------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "laptop.key"
    first = keys.Ed25519Signer.load_or_create(path)
    again = keys.Ed25519Signer.load_or_create(path)
    assert first.public_key == again.public_key
    assert first.laptop == key_id(first.public_key)
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["laptop.key"]


def test_a_signature_holds_for_its_message_and_key_only() -> None:
    signer, other = keys.Ed25519Signer.generate(), keys.Ed25519Signer.generate()
    signature = signer.sign(b"message")
    assert keys.verify(signer.public_key, signature, b"message")
    assert not keys.verify(signer.public_key, signature, b"massage")
    assert not keys.verify(other.public_key, signature, b"message")
    assert not keys.verify(b"short", signature, b"message")
    assert not keys.verify(signer.public_key, b"short", b"message")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_file_is_said_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "laptop.key"
    path.write_bytes(content)
    with pytest.raises(StorageFault) as caught:
        keys.Ed25519Signer.load_or_create(path)
    assert caught.value.reason == "corrupt"
    assert path.read_bytes() == content


def test_the_key_is_not_in_its_own_description() -> None:
    assert "PrivateKey" not in repr(keys.Ed25519Signer.generate())


# --- certificates --------------------------------------------------------------------------------------------------------


def test_a_certificate_follows_from_key_and_name(tmp_path: Path) -> None:
    signer = keys.Ed25519Signer.generate()
    name = tls_name(signer.id)
    pem = keys.self_signed_certificate(signer, name)
    assert pem == keys.self_signed_certificate(signer, name)
    assert keys.certificate_fingerprint(pem) == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert keys.certificate_key(pem) == signer.public_key
    path = keys.certificate_file(signer, name, tmp_path / "laptop.pem")
    assert path.read_text() == pem
    other = keys.Ed25519Signer.generate()
    keys.certificate_file(other, name, path)
    assert keys.certificate_key(path.read_text()) == other.public_key


def test_a_pinned_certificate_is_accepted_by_name_and_no_other(tmp_path: Path) -> None:
    """A whole TLS 1.3 handshake in memory, both sides pinned."""
    device, laptop, stranger = (keys.Ed25519Signer.generate() for _ in range(3))

    def context(side: int, own: keys.Ed25519Signer, name: str, pin: str) -> ssl.SSLContext:
        made = ssl.SSLContext(side)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        made.verify_mode = ssl.CERT_REQUIRED
        (tmp_path / f"{name}.key").write_bytes(own.private_pem())
        made.load_cert_chain(keys.certificate_file(own, name, tmp_path / f"{name}.pem"), tmp_path / f"{name}.key")
        made.load_verify_locations(cadata=pin)
        return made

    def handshake(pin: keys.Ed25519Signer) -> None:
        name = tls_name(device.id)
        server = context(
            ssl.PROTOCOL_TLS_SERVER, device, name, keys.self_signed_certificate(laptop, f"laptop-{laptop.id}.fieldops.internal")
        )
        client = context(
            ssl.PROTOCOL_TLS_CLIENT,
            laptop,
            f"laptop-{laptop.id}.fieldops.internal",
            keys.self_signed_certificate(pin, tls_name(pin.id)),
        )
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = client.wrap_bio(to_client, to_server, server_hostname=name)
        far = server.wrap_bio(to_server, to_client, server_side=True)
        waiting = [near, far]
        for _ in range(10):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    continue
        assert waiting == []
        assert far.getpeercert(binary_form=True) is not None

    handshake(device)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(stranger)


# --- DSSE ----------------------------------------------------------------------------------------------------------------


def _envelope(signer: keys.Ed25519Signer, payload: bytes, kind: str = STEP_PAYLOAD_TYPE, copies: int = 1) -> bytes:
    signature = DsseSignature(keyid=signer.id, sig=b64(signer.sign(pre_authentication_encoding(kind, payload))))
    return encode(Envelope(payloadType=kind, payload=b64(payload), signatures=[signature] * copies))


def test_an_envelope_opens_for_the_key_that_signed_it() -> None:
    signer = keys.Ed25519Signer.generate()
    assert keys.open_envelope(_envelope(signer, b'{"v":1}'), signer.public_key) == b'{"v":1}'
    with pytest.raises(NotAuthorised) as caught:
        keys.open_envelope(_envelope(signer, b"{}"), keys.Ed25519Signer.generate().public_key)
    assert caught.value.reason == "bad_signature"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"payloadType":"a","payloadType":"b","payload":"","signatures":[]}',
        _envelope(keys.Ed25519Signer.generate(), b"{}", kind="application/other"),
        _envelope(keys.Ed25519Signer.generate(), b"{}", copies=2),
        _envelope(keys.Ed25519Signer.generate(), b"{}", copies=0),
        encode(Envelope(payloadType=STEP_PAYLOAD_TYPE, payload="not base64", signatures=[DsseSignature(keyid="", sig="")])),
        b'{"payload":"' + b"A" * 300_000 + b'"}',
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(UsageFault):
        keys.open_envelope(data, keys.Ed25519Signer.generate().public_key)


# --- SSH keys and signatures ---------------------------------------------------------------------------------------------


@NEEDS_SSH_KEYGEN
def test_our_key_pair_and_fingerprint_are_ssh_keygens(tmp_path: Path) -> None:
    path = tmp_path / "person"
    fingerprint = keys.ssh_keygen(path, "a comment")
    said = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, check=True).stdout.split()
    assert fingerprint == said[1]
    assert said[2:4] == ["a", "comment"]
    derived = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
    assert keys.ssh_fingerprint(derived) == keys.ssh_fingerprint(keys.ssh_public_blob(path)) == fingerprint


@NEEDS_SSH_KEYGEN
def test_the_fingerprint_of_a_locked_key_needs_no_passphrase(tmp_path: Path) -> None:
    path = _real_key(tmp_path, "-t", "ed25519", passphrase="secret words")
    with_pub = keys.ssh_public_blob(path)
    line = path.with_name("id.pub")
    assert keys.ssh_public_blob(line) == with_pub
    line.unlink()
    assert keys.ssh_public_blob(path) == with_pub


@NEEDS_SSH_KEYGEN
@pytest.mark.parametrize(
    "options", [("-t", "ed25519"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "521"), ("-t", "rsa", "-b", "2048")]
)
def test_signatures_are_read_by_ssh_keygen_and_its_by_us(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = _real_key(tmp_path, *options)
    message = b"what the person agreed to\n"
    ours = keys.sshsig_sign(path, "fieldops-session@v1", message)
    signature = tmp_path / "message.sig"
    signature.write_text(ours)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"technician {path.with_name('id.pub').read_text()}")
    check: list[str | Path] = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        allowed,
        "-I",
        "technician",
        "-n",
        "fieldops-session@v1",
        "-s",
        signature,
    ]
    assert subprocess.run(check, input=message, capture_output=True, check=False).returncode == 0
    assert subprocess.run(check, input=b"else", capture_output=True, check=False).returncode != 0

    theirs = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-n", "fieldops-session@v1", "-f", path],
        input=message,
        capture_output=True,
        check=True,
    ).stdout.decode()
    fingerprint = keys.ssh_fingerprint(path.with_name("id.pub").read_text())
    for armoured in (ours, theirs):
        assert keys.sshsig_verify(armoured, "fieldops-session@v1", message) == fingerprint


def test_a_signature_does_not_pass_for_another_message_namespace_or_text(tmp_path: Path) -> None:
    keys.ssh_keygen(tmp_path / "person")
    armoured = keys.sshsig_sign(tmp_path / "person", "one@v1", b"message")
    assert keys.sshsig_verify(armoured, "one@v1", b"message").startswith("SHA256:")
    lines = armoured.splitlines()
    bad = [
        (armoured, "two@v1", b"message"),
        (armoured, "one@v1", b"massage"),
        ("", "one@v1", b"message"),
        (armoured.replace("SSH", "PGP"), "one@v1", b"message"),
        ("\n".join([lines[0], lines[1], lines[-1]]), "one@v1", b"message"),
        ("\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]), "one@v1", b"message"),
        ("\n".join([*lines[:-2], lines[-2][:-8] + "AAAAAAA=", lines[-1]]), "one@v1", b"message"),
    ]
    for text, namespace, message in bad:
        with pytest.raises(UsageFault) as caught:
            keys.sshsig_verify(text, namespace, message)
        assert caught.value.reason == "bad_signature"


@NEEDS_SSH_KEYGEN
def test_a_locked_key_says_how_to_unlock_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    path = _real_key(tmp_path, "-t", "ed25519", passphrase="secret words")
    with pytest.raises(UsageFault) as caught:
        keys.sshsig_sign(path, "one@v1", b"message")
    assert caught.value.reason == "key_locked"
    assert "ssh-add" in caught.value.next_step
    assert keys.sshsig_verify(keys.sshsig_sign(path, "one@v1", b"message", b"secret words"), "one@v1", b"message")


# --- the person ----------------------------------------------------------------------------------------------------------


@dataclass
class ListJournal:
    """ports.Journal as far as a proof asks: a log of a given size and root."""

    log: str
    entries: int = 3

    def append(self, draft: Draft) -> Entry:
        raise NotImplementedError

    def size(self) -> int:
        return self.entries

    def root(self) -> bytes:
        return hashlib.sha256(b"%d" % self.entries).digest()

    def checkpoint(self) -> str:
        raise NotImplementedError

    def consistency(self, old_size: int) -> list[bytes]:
        raise NotImplementedError

    def read(self, after: int = 0, limit: int = 1000) -> list[tuple[Entry, bytes]]:
        raise NotImplementedError

    def newest(self, act: str, device: str) -> Entry | None:
        raise NotImplementedError

    def open_intents(self) -> list[Entry]:
        return []

    def note_cosignature(self, witness: str, size: int, line: str) -> None:
        raise NotImplementedError

    def cosigned_size(self, witness: str) -> int:
        return 0


def test_one_proof_serves_a_session_and_a_new_one_is_made_when_it_ends(tmp_path: Path) -> None:
    laptop = LaptopId("a" * 52)
    fingerprint = keys.ssh_keygen(tmp_path / "person")
    person = keys.PersonFile(tmp_path / "person", laptop, tmp_path / "cache" / "session.json")
    journal = ListJournal(f"fieldops/{laptop}/1")
    now = 1_800_000_000.0
    assert str(person.actor()) == f"person:{fingerprint}"
    first = person.proof(journal, now)
    assert first is not None
    assert keys.sshsig_verify(first.signature, SESSION_NAMESPACE, first.body.encode()) == fingerprint
    body = msgspec.json.decode(first.body, type=SessionBody)
    assert (body.laptop, body.log, body.size, body.root) == (laptop, journal.log, 3, journal.root().hex())
    assert now < body.until <= now + 12 * 3600
    assert os.name == "nt" or stat.S_IMODE(person.cache.stat().st_mode) == 0o600

    journal.entries = 9
    assert person.proof(journal, now + 3600) == first
    later = person.proof(journal, body.until)
    assert later is not None
    assert later != first

    person.cache.write_bytes(b'{"body":"')  # the power went while it was written by something else
    assert person.proof(journal, body.until) is not None
    assert person.proof(ListJournal(f"fieldops/{laptop}/2"), body.until) != later

    keys.ssh_keygen(tmp_path / "other")
    other = keys.PersonFile(tmp_path / "other", laptop, person.cache)
    mine = other.proof(journal, body.until)
    assert mine is not None
    assert keys.sshsig_verify(mine.signature, SESSION_NAMESPACE, mine.body.encode()) == other.actor().name


def test_a_locked_key_is_opened_by_its_passphrase_and_only_then_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    fingerprint = keys.ssh_keygen(tmp_path / "person")
    asked: list[str] = []

    def proof(*answers: bytes | None) -> Session | None:
        left = list(answers)

        def passphrase() -> bytes | None:
            asked.append("once")
            return left.pop(0)

        session = tmp_path / f"session for {len(answers)}"
        person = keys.PersonFile(tmp_path / "person", LaptopId("a" * 52), session, passphrase)
        return person.proof(ListJournal(f"fieldops/{'a' * 52}/1"), 1_800_000_000.0)

    assert proof() is not None
    assert asked == []
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "word", "-f", tmp_path / "person"], check=True, capture_output=True, timeout=20
    )
    with pytest.raises(UsageFault, match="is locked"):
        proof(None)
    signed = proof(b"wrong", b"word")
    assert signed is not None
    assert asked == ["once"] * 3
    assert keys.sshsig_verify(signed.signature, SESSION_NAMESPACE, signed.body.encode()) == fingerprint


def test_nobody_is_a_local_name_without_proof(tmp_path: Path) -> None:
    nobody = keys.PersonFile(None, LaptopId("a" * 52), tmp_path / "session.json")
    assert nobody.actor().kind == "local"
    assert nobody.proof(ListJournal("fieldops/x/1"), 0.0) is None
    assert not nobody.cache.exists()

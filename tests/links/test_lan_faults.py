"""The agent's LAN port when things go wrong: a device that hangs, one that was shut out, certificates out of their time."""

# ruff: noqa: F811 - fixtures are imported by name
from __future__ import annotations

import datetime as dt
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from fieldops.edges import keys
from fieldops.edges.lan import lan_device
from fieldops.edges.usb import FolderSource
from fieldops.errors import DeadlinePassed, FieldopsError, LinkFault, LinkLost, NotAuthorised, Unreachable
from fieldops.fleet import Address, DeviceEntry, DeviceId, key_id, tls_name
from fieldops.operations.enrol import enrol
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.steps import RotateTrust
from fieldops.wiring import Laptop
from tests.links.bench import Bench, bench, enrolled, near, over_ssh  # noqa: F401 - fixtures
from tests.links.conftest import SshServer, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_a_device_that_hangs_is_a_lost_link_for_all_who_wait(enrolled: Bench, near: SshServer) -> None:
    """Its kernel goes on taking connections and bytes."""
    device = enrolled.over_lan(enrolled.entry(near))
    device.hello(soon())
    ended: dict[str, tuple[float, FieldopsError | httpx.HTTPError]] = {}
    threads: list[threading.Thread] = []

    def waits(name: str, work: Callable[[], object]) -> None:
        def run() -> None:
            began = time.monotonic()
            try:
                work()
            except (FieldopsError, httpx.HTTPError) as error:
                ended[name] = (time.monotonic() - began, error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    def body() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    enrolled.process.send_signal(signal.SIGSTOP)
    try:
        waits("read", lambda: device.resources(soon(30)))
        waits("record", lambda: device.record(f"{enrolled.laptop.signer.laptop}.1.1", soon(30)))
        waits("put", lambda: device._pipe.client.put(f"/v1/blobs/{'a' * 64}", content=body(), timeout=9))
        waits("open", lambda: enrolled.over_lan(enrolled.entry(near)))
        waits("impatient", lambda: device.models(soon(0.5)))
        for thread in threads:
            thread.join(30)
    finally:
        enrolled.process.send_signal(signal.SIGCONT)
    assert {name: type(error) for name, (_, error) in ended.items()} == {
        "read": LinkLost,
        "record": Unreachable,
        "put": httpx.ConnectTimeout,
        "open": Unreachable,
        "impatient": DeadlinePassed,
    }
    assert {name: round(after) for name, (after, _) in ended.items() if after > 11} == {}
    opened = ended["open"][1]
    assert isinstance(opened, Unreachable)
    assert (opened.phase, opened.exit_code) == ("tls", 5)
    assert not device.alive
    device.close()
    with closing(enrolled.over_lan(enrolled.entry(near))) as again:
        assert again.resources(soon()).cpu_count >= 1


@pytest.fixture
def guest(enrolled: Bench, near: SshServer, tmp_path: Path) -> Iterator[Laptop]:
    """A second laptop, enrolled by the same person."""
    home = tmp_path / "guest"
    home.mkdir()
    for name in ("config.toml", "known_hosts", "fleet.toml"):
        (home / name).write_text((enrolled.laptop.home / name).read_text())
    with Laptop.open(home) as laptop:
        laptop.trust.pin(enrolled.repo.root(1), None)
        laptop.trust.refresh(FolderSource(enrolled.folder / "stick" / "FIELDOPS"), soon(60))
        with closing(over_ssh(near)) as device:
            enrol(laptop.gate(), device, laptop.inventory_file, laptop.trust, laptop.certificate, lambda *_: None, soon(60))
        yield laptop


def test_a_revoked_laptop_is_out_at_its_next_request_and_the_agent_is_not_restarted(
    enrolled: Bench, near: SshServer, guest: Laptop, identity: Path
) -> None:
    out = enrolled.over_lan(enrolled.entry(near), signer=guest.signer)
    assert out.hello(soon()).device == enrolled.device
    person = keys.ssh_fingerprint(identity.with_name("id.pub").read_text())
    policy = PolicyDocument(
        v=1,
        roles={"technician": ["*"]},
        people={person: Person(role="technician")},
        laptops_revoked=[guest.signer.laptop],
    )
    enrolled.repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    enrolled.repo.sign("policy")
    enrolled.repo.publish()
    stick = enrolled.repo.export_stick(enrolled.folder / "revoking")
    laptop = enrolled.laptop
    laptop.trust.refresh(FolderSource(stick), soon(60))
    version, _, payload = laptop.trust.policy_payload()
    with closing(enrolled.over_lan(enrolled.entry(near))) as device:
        laptop.gate().perform(device, RotateTrust(timestamp_version=version), soon(60), payload=payload)
        with pytest.raises(LinkFault) as caught:  # over the connection that was open all the time
            out.resources(soon())
        assert (caught.value.reason, caught.value.exit_code) == ("not_enrolled", 5)
        out.close()
        with pytest.raises(NotAuthorised) as caught:
            enrolled.over_lan(enrolled.entry(near), signer=guest.signer)
        assert caught.value.reason == "not_enrolled"
        assert device.resources(soon()).cpu_count >= 1
    assert enrolled.process.poll() is None


# --- what is no agent of ours ------------------------------------------------------------------------------------------------


def certificate(folder: Path, begins: int, ends: int) -> tuple[str, Path, DeviceId]:
    """A device's, but for the years in which it holds. PEM, the file with its key, and the id."""
    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    name = tls_name(key_id(raw))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(dt.datetime(begins, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(ends, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(private, None)
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode("ascii")
    file = folder / "device.pem"
    key = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key + pem.encode())
    return pem, file, DeviceId(key_id(raw))


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[Address]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with conn:
                talk(conn)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Address("127.0.0.1", listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _asked(address: Address, pem: str, device: DeviceId, folder: Path, seconds: float = 20.0) -> LinkFault:
    own = keys.Ed25519Signer.generate()
    key = folder / "laptop.key"
    key.write_bytes(own.private_pem())
    entry = DeviceEntry(name="press", lan=address, id=device)
    with pytest.raises(LinkFault) as caught:
        lan_device(entry, pem, keys.self_signed_certificate(own, "laptop-x.fieldops.internal"), key, soon(seconds))
    assert (caught.value.exit_code, caught.value.device) == (5, "press")
    assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize(("begins", "ends", "said"), [(1999, 2000, "expired"), (2200, 2300, "not yet valid")])
def test_a_certificate_out_of_its_time_is_said_as_that(begins: int, ends: int, said: str, tmp_path: Path) -> None:
    """Ours hold from 1970 to 9999; what was pinned may still be somebody else's."""
    pem, file, device = certificate(tmp_path, begins, ends)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def talk(conn: socket.socket) -> None:
        with pytest.raises(OSError), context.wrap_socket(conn, server_side=True):  # the laptop ends it
            pass

    with listening(talk) as address:
        fault = _asked(address, pem, device, tmp_path)
    assert fault.reason == "certificate_time"
    assert said in fault.message
    assert "clock" in fault.next_step


def test_a_port_that_takes_connections_and_says_nothing(tmp_path: Path) -> None:
    pem, _, device = certificate(tmp_path, 1970, 9999)
    over = threading.Event()

    def silent(_: socket.socket) -> None:
        over.wait()

    with listening(silent) as address:
        began = time.monotonic()
        fault = _asked(address, pem, device, tmp_path, seconds=0.5)
        assert time.monotonic() - began < 5
        over.set()
    assert isinstance(fault, Unreachable)
    assert fault.phase == "tls"


def test_a_port_that_is_no_tls(tmp_path: Path) -> None:
    pem, _, device = certificate(tmp_path, 1970, 9999)
    with listening(lambda conn: conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address:
        fault = _asked(address, pem, device, tmp_path)
    assert isinstance(fault, Unreachable)
    assert fault.phase == "tls"

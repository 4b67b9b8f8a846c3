"""The laptop's links as the front ends get them: who may be looked at, who changed, what is kept open and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldops.edges import keys
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.ssh import Vouching
from fieldops.edges.ssh.hostkeys import judge
from fieldops.errors import FieldopsError, HostKeyChanged, HostKeyUnknown, LinkFault
from fieldops.steps import Revert
from fieldops.wiring import Laptop
from tests.links.conftest import SshServer, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def laptop(tmp_path: Path, server: SshServer) -> Iterator[Laptop]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[ssh]\nidentities = ["{server.identity}"]\nconfig = "none"\n')
    with Laptop.open(home) as opened:
        yield opened


def test_a_host_that_nothing_vouches_for_may_be_looked_at_and_never_changed(laptop: Laptop, server: SshServer) -> None:
    with laptop.connect(server.entry, soon()) as device:
        assert device.link == "ssh UNVERIFIED"
        with pytest.raises(LinkFault) as caught:
            laptop.gate().perform(device, Revert(model="digits"), soon())
        assert caught.value.reason == "host_key_unknown"
    acts = [(entry.act, entry.phase, entry.decision) for entry, _ in laptop.journal.read()]
    assert acts == [("Revert", "note", "unverified_host")]  # refused before any intent


def test_an_unknown_host_is_not_enrolled(laptop: Laptop, server: SshServer) -> None:
    from fieldops.operations.gate import Words

    with pytest.raises(HostKeyUnknown):
        laptop.enrolment.enrol(server.entry, soon(), Words())


BLOB = b"\x00\x00\x00\x0bssh-ed25519" + bytes(36)
OTHER = b"\x00\x00\x00\x0bssh-ed25519" + bytes(35) + b"\x01"
MINE, ANOTHER = keys.ssh_fingerprint(BLOB), keys.ssh_fingerprint(OTHER)


def known_as(blob: bytes) -> KnownHosts:
    import base64

    return KnownHosts.parse(f"press ssh-ed25519 {base64.b64encode(blob).decode()}")


@pytest.mark.parametrize(
    ("known", "vouching", "wanted"),
    [
        (known_as(BLOB), Vouching(), "known_hosts"),
        (KnownHosts(), Vouching({"press": [MINE]}), "policy"),
        (KnownHosts(), Vouching({"the-name": [ANOTHER, MINE]}), "policy"),
        (KnownHosts(), Vouching({"the-id": [MINE]}), "policy"),
        (KnownHosts(), Vouching(expected=MINE), "expected"),
        (KnownHosts(), Vouching(first_use=True), "first_use"),
        (KnownHosts(), Vouching(look=True), ""),
        (KnownHosts(), Vouching(), HostKeyUnknown),
        (KnownHosts(), Vouching(expected=ANOTHER, look=True, first_use=True), HostKeyUnknown),
        (KnownHosts(), Vouching({"press": [ANOTHER]}, look=True, first_use=True), HostKeyChanged),
        (known_as(BLOB), Vouching({"press": [ANOTHER]}), HostKeyChanged),  # the signed policy stands above known_hosts
        (known_as(OTHER), Vouching({"press": [MINE]}, first_use=True), HostKeyChanged),
        (known_as(OTHER), Vouching(look=True, first_use=True), HostKeyChanged),
    ],
)
def test_who_vouches_for_a_host(known: KnownHosts, vouching: Vouching, wanted: str | type[FieldopsError]) -> None:
    def ask() -> str:
        return judge("ssh-ed25519", BLOB, (("press", 22),), known, vouching, labels=("the-id", "the-name"), device="the-name").by

    if isinstance(wanted, str):
        assert ask() == wanted
    else:
        with pytest.raises(wanted):
            ask()


def test_a_link_is_kept_until_what_it_stands_on_changes(laptop: Laptop, server: SshServer) -> None:
    public = (server.folder / "host_key.pub").read_text()
    assert server.entry.ssh is not None
    (laptop.home / "known_hosts").write_text(f"[127.0.0.1]:{server.entry.ssh.port} {public}")
    with laptop.connect(server.entry, soon()) as first, laptop.connect(server.entry, soon()) as at_once:
        assert first is at_once
        assert first.link == "ssh"
    with laptop.connect(server.entry, soon()) as again:
        assert again is first
    (laptop.home / "known_hosts").write_text(f"@revoked * {public}")
    with pytest.raises(LinkFault) as caught, laptop.connect(server.entry, soon()):
        pass
    assert caught.value.reason == "host_key_revoked"
    (laptop.home / "known_hosts").write_text(f"# new\n[127.0.0.1]:{server.entry.ssh.port} {public}")
    with laptop.connect(server.entry, soon()) as anew:
        assert anew is not first


def test_a_laptop_that_stands_alone_asks_no_known_hosts_but_its_own(
    laptop: Laptop, server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = tmp_path / "person"
    (person / ".ssh").mkdir(parents=True)
    (person / ".ssh" / "known_hosts").write_text("@revoked * " + (server.folder / "host_key.pub").read_text())
    monkeypatch.setenv("HOME", str(person))
    with laptop.connect(server.entry, soon()) as device:
        assert device.link == "ssh UNVERIFIED"
    config = (laptop.home / "config.toml").read_text()
    (laptop.home / "config.toml").write_text(config.replace('config = "none"\n', ""))
    with Laptop.open(laptop.home) as asking, pytest.raises(LinkFault) as caught, asking.connect(server.entry, soon()):
        pass
    assert caught.value.reason == "host_key_revoked"

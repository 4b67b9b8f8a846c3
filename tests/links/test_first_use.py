"""A host that is met for the first time: looked at, trusted by its label, by the policy at first use, or by the device's id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fieldops.edges import keys, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.errors import HostKeyChanged, HostKeyUnknown, LinkFault, UsageFault
from fieldops.fleet import DeviceId, key_id
from fieldops.operations import hostkeys
from fieldops.operations.gate import Words
from fieldops.policy import PolicyDocument, encode_policy
from fieldops.steps import Revert
from fieldops.wiring import Laptop
from tests.links.conftest import SshServer, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def laptop(tmp_path: Path, server: SshServer) -> Iterator[Laptop]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[ssh]\nidentities = ["{server.identity}"]\nconfig = "none"\n')
    (home / "fleet.toml").write_text(f'[[device]]\nname = "one"\nssh = "{server.entry.ssh}"\n')
    with Laptop.open(home) as opened:
        yield opened


@pytest.fixture(scope="module", params=[True, False], ids=["allowed", "forbidden"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, ReleaseRepo, Path]:
    """A signed policy that lets hosts be trusted at first use, or not."""
    folder = tmp_path_factory.mktemp("office")
    with Laptop.open(folder / "clock") as any_laptop:
        repo = ReleaseRepo.init(folder / "repo", folder / "keys", any_laptop.clock)
    document = PolicyDocument(v=1, roles={"technician": ["*"]}, people={}, trust_on_first_use=request.param)
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(document))
    repo.sign("policy")
    repo.publish()
    return request.param, repo, repo.export_stick(folder / "stick")


def acts(laptop: Laptop) -> list[tuple[str, str, str]]:
    return [(entry.act, entry.phase, entry.reason) for entry, _ in laptop.journal.read() if entry.act == "TrustHostKey"]


def shown_by(server: SshServer) -> str:
    return keys.ssh_fingerprint((server.folder / "host_key.pub").read_text())


def test_first_use_is_as_the_signed_policy_says(
    laptop: Laptop, server: SshServer, policy: tuple[bool, ReleaseRepo, Path]
) -> None:
    allowed, repo, stick = policy
    laptop.trust.pin(repo.root(1), None)
    laptop.trust.refresh(FolderSource(stick), soon(60))
    with laptop.connect(server.entry, soon()) as device:
        assert device.link == ("ssh" if allowed else "ssh UNVERIFIED")
        if not allowed:
            with pytest.raises(LinkFault) as caught:
                laptop.gate().perform(device, Revert(model="digits"), soon())
            assert caught.value.reason == "host_key_unknown"
    known = laptop.home / "known_hosts"
    assert known.exists() is allowed
    assert [act[:2] for act in acts(laptop)] == ([("TrustHostKey", "intent"), ("TrustHostKey", "outcome")] if allowed else [])
    if allowed:
        assert "first use" in acts(laptop)[0][2]
        assert server.entry.ssh is not None
        verdict = KnownHosts.load([known]).verify("127.0.0.1", server.entry.ssh.port, ssh.host_key(server.entry, soon())[1])
        assert verdict.kind == "ok"
        with laptop.connect(server.entry, soon()) as again:
            assert again.link == "ssh"
        assert len(acts(laptop)) == 2  # written down once
        # trust at first use trusts no second key
        keys.ssh_keygen(laptop.home / "other")
        other = (laptop.home / "other.pub").read_text()
        known.write_text(f"[127.0.0.1]:{server.entry.ssh.port} {other}")
        with pytest.raises(HostKeyChanged), laptop.connect(server.entry, soon()):
            pass


def test_a_label_that_was_typed_or_scanned_trusts_the_host_that_shows_it_and_no_other(laptop: Laptop, server: SshServer) -> None:
    entry = laptop.inventory().find("one")
    for text, error in ((f"SHA256:{'x' * 43}", HostKeyUnknown), ("SHA256:cut-off", UsageFault)):
        with pytest.raises(error):
            laptop.links.trust_expected(entry, text, soon(), Words())
    assert acts(laptop) == []
    assert not (laptop.home / "known_hosts").exists()
    for _ in range(2):
        laptop.links.trust_expected(entry, f"256 {shown_by(server)} root@one (ED25519)", soon(), Words(reason="label"))
    assert acts(laptop) == [("TrustHostKey", "intent", "label"), ("TrustHostKey", "outcome", "label")]
    with laptop.connect(entry, soon()) as device:
        assert device.link == "ssh"


def test_a_changed_key_is_accepted_only_when_that_is_said_and_the_record_names_both(laptop: Laptop, server: SshServer) -> None:
    entry = laptop.inventory().find("one")
    assert entry.ssh is not None
    old = keys.ssh_keygen(laptop.home / "other")
    (laptop.home / "known_hosts").write_text(f"[127.0.0.1]:{entry.ssh.port} {(laptop.home / 'other.pub').read_text()}")
    with pytest.raises(HostKeyChanged):
        laptop.links.trust_expected(entry, shown_by(server), soon(), Words())
    offered = laptop.links.host_key(entry, soon())
    assert (offered.verdict, offered.known, offered.fingerprint) == ("changed", (old,), shown_by(server))
    hostkeys.judge(entry, offered, expected=shown_by(server), replace=True)
    hostkeys.accept(laptop.gate(), laptop.inventory_file, entry, offered, words=Words(reason="set up again"))
    assert [act[:2] for act in acts(laptop)] == [("TrustHostKey", "intent"), ("TrustHostKey", "outcome")]
    said = " ".join(str(entry) for entry, _ in laptop.journal.read() if entry.act == "TrustHostKey")
    assert old in said
    assert shown_by(server) in said
    with laptop.connect(entry, soon()) as device:
        assert device.link == "ssh"


def test_a_device_known_by_its_id_is_the_same_at_a_new_address_and_a_swapped_one_is_another(
    laptop: Laptop, server: SshServer
) -> None:
    own = DeviceId(key_id(ssh.host_key(server.entry, soon())[1]))
    assert server.entry.ssh is not None
    with laptop.connect(replace(server.entry, formerly=own), soon()) as device:  # its host key's id, from before it was enrolled
        assert device.link == "ssh"
    keys.ssh_keygen(laptop.home / "other")
    other = (laptop.home / "other.pub").read_text()
    (laptop.home / "known_hosts").write_text(f"[127.0.0.1]:{server.entry.ssh.port} {other}")
    with laptop.connect(replace(server.entry, id=own), soon()) as device:  # another had this address before it
        assert device.link == "ssh"
    stranger = DeviceId(key_id(os.urandom(32)))
    with pytest.raises(HostKeyChanged), laptop.connect(replace(server.entry, id=stranger, formerly=stranger), soon()):
        pass
    (laptop.home / "known_hosts").write_text(f"@revoked * {(server.folder / 'host_key.pub').read_text()}")
    with pytest.raises(LinkFault) as caught, laptop.connect(replace(server.entry, id=own), soon()):
        pass
    assert caught.value.reason == "host_key_revoked"

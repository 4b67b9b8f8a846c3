"""A laptop, a stick and a real agent behind a real SSH server, enrolled or not; fixtures of a module, imported by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from fieldops.bundles.manifest import Manifest
from fieldops.edges import keys
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.lan import lan_device
from fieldops.edges.over_ssh import ssh_device
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.fleet import Address, DeviceEntry, DeviceId
from fieldops.operations.enrol import enrol
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.ports import TrustedBundle
from fieldops.wiring import Laptop, data_dir
from tests.links.conftest import SshServer, asyncssh_server, soon

STAGE = "stable"


@dataclass
class Bench:
    """A laptop, a stick and one device with its agent."""

    laptop: Laptop
    folder: Path
    agent_program: list[str]
    runtime: Path
    lan_port: int
    device: DeviceId
    repo: ReleaseRepo
    process: subprocess.Popen[bytes]
    pins: dict[str, str] = field(default_factory=dict)

    def entry(self, server: SshServer, *, lan_port: int | None = None) -> DeviceEntry:
        return replace(server.entry, lan=Address("127.0.0.1", lan_port or self.lan_port))

    def over_lan(self, entry: DeviceEntry, *, signer: keys.Ed25519Signer | None = None, pin: str | None = None) -> AgentDevice:
        own = signer or self.laptop.signer
        key = self.folder / f"{own.id}.key"
        key.write_bytes(own.private_pem())
        certificate = keys.self_signed_certificate(own, f"laptop-{own.id}.fieldops.internal")
        return lan_device(entry, pin or self.pins[self.device], certificate, key, soon())

    def bundle(self, version: str) -> TrustedBundle:
        return self.laptop.trust.fetch(FolderSource(self.folder / "stick" / "FIELDOPS"), f"digits@{version}", soon(60))


def _release(folder: Path, fingerprint: str, laptop: Laptop) -> ReleaseRepo:
    repo = ReleaseRepo.init(folder / "repo", folder / "release-keys", laptop.clock)
    digits = data_dir("sample_fleet") / "digits"
    policy = PolicyDocument(v=1, roles={"technician": ["*"]}, people={fingerprint: Person(role="technician")})
    repo.add_policy_target("policy/golden/digits/set.npz", (digits / "golden.npz").read_bytes())
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        manifest = msgspec.json.decode((digits / version / "spec.json").read_bytes(), type=Manifest)
        # `release add` would measure each tier; this bench does not judge them
        tiers = [msgspec.structs.replace(tier, accuracy=0.9, p50_ms=1.0) for tier in manifest.tiers]
        repo.add_bundle(STAGE, digits / version, msgspec.structs.replace(manifest, tiers=tiers))
    for role in ("policy", STAGE):
        repo.sign(role)
    repo.publish()
    repo.export_stick(folder / "stick")
    return repo


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, identity: Path, short_folder: Path) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[person]\nkey = "{identity}"\n')
    laptop = Laptop.open(home)
    repo = _release(folder, keys.ssh_fingerprint(identity.with_name("id.pub").read_text()), laptop)
    laptop.trust.pin(repo.root(1), None)
    laptop.trust.refresh(FolderSource(folder / "stick" / "FIELDOPS"), soon(60))

    runtime, agent_home = short_folder / "agent", folder / "agent"
    agent_home.mkdir()
    (agent_home / "agent.toml").write_text(
        f'class = "test-board"\n[lan]\nlisten = "127.0.0.1:0"\n[runtime]\nfolder = "{runtime}"\n'
    )
    program = [sys.executable, "-m", "fieldops.agent"]
    process = subprocess.Popen(
        [*program, "serve", "--home", agent_home, "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the agent did not start; its own tests say why"
        ready = json.loads(line)
        yield Bench(laptop, folder, program, runtime, ready["lan_port"], DeviceId(ready["device"]), repo, process)
    finally:
        laptop.close()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(15)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def near(bench: Bench, tmp_path_factory: pytest.TempPathFactory, identity: Path) -> Iterator[SshServer]:
    """The sample fleet's SSH server in front of the agent."""
    environment = {"FIELDOPS_AGENT_RUNTIME": str(bench.runtime)}
    with asyncssh_server(tmp_path_factory.mktemp("near"), identity, str(bench.runtime / "agent.sock"), environment) as server:
        home = bench.laptop.home
        assert server.entry.ssh is not None
        public = (server.folder / "host_key.pub").read_text()
        (home / "known_hosts").write_text(f"[127.0.0.1]:{server.entry.ssh.port} {public}")
        (home / "fleet.toml").write_text(
            f'# mine\n[[device]]\nname = "one"\nssh = "technician@127.0.0.1:{server.entry.ssh.port}"\n'
            f'lan = "127.0.0.1:{bench.lan_port}"\n'
        )
        yield server


def over_ssh(server: SshServer, entry: DeviceEntry | None = None) -> AgentDevice:
    device = ssh_device(entry or server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=soon())
    assert isinstance(device, AgentDevice)
    return device


@pytest.fixture(scope="module")
def enrolled(bench: Bench, near: SshServer) -> Bench:
    """After this the agent knows the laptop, and the laptop the agent."""
    laptop = bench.laptop
    device = over_ssh(near)
    try:
        hello = enrol(
            laptop.gate(), device, laptop.inventory_file, laptop.trust, laptop.certificate, bench.pins.__setitem__, soon(60)
        )
    finally:
        device.close()
    assert hello.enrolled
    return bench

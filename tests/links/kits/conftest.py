"""Devices without internet: a real kit, made once a test run, and an empty home behind Debian's sshd."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from fieldops import __version__
from fieldops.bundles.kit import KIT_FILE, REQUIREMENTS_FILE, WHEELS, KitEntry
from fieldops.edges import keys
from fieldops.edges.clock import SystemClock
from fieldops.edges.install_script import INSTALL
from fieldops.edges.kit import KitFolder, build, read
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.errors import LinkFault
from fieldops.fleet import DeviceEntry, toml_table
from fieldops.operations.gate import Words
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.wiring import Laptop
from fieldops.wiring.enrolment import Installed
from tests.links.conftest import HAS_SSHD, SshServer, openssh_server, soon

CLOCK = SystemClock()
DIGITS = Path(__file__).parents[3] / "sample_fleet" / "digits"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORM = f"linux-{os.uname().machine}"

SLOW_S = 600  # of one test with what it needs: a download, and installations on a machine that others use as well

needs_sshd = [
    pytest.mark.needs_sshd,
    pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server"),
]


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> KitFolder:
    """One for all processes of a test run: it is downloaded."""
    base = tmp_path_factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = place / "kit-of-this-run"
    try:
        with (place / "kit.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return read(folder) if folder.exists() else build(PLATFORM, PYTHON, folder, soon(300), lambda _: None)
    except LinkFault as error:
        if os.environ.get("FIELDOPS_TESTS_SKIP_NOTHING"):
            raise
        pytest.skip(f"a kit needs a package index: {error}")


@pytest.fixture(scope="session")
def software(kit: KitFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the kit becomes on a device, installed as there; its folder has the kit's id. For devices that have it already."""
    base = tmp_path_factory.mktemp("software")
    (base / "kit").mkdir()
    for file in kit.files():
        os.link(file, base / "kit" / file.name)
    python = Path(sys.base_prefix) / "bin" / f"python{PYTHON}"
    subprocess.run(["sh", "-c", INSTALL, "sh", base, kit.id, python], check=True, stdout=subprocess.DEVNULL)
    return base / "software" / kit.id


def give_software(software: Path, agent_home: Path) -> None:
    """A device whose software is whole, so that enrolling it takes no copy."""
    (agent_home / "software").mkdir(parents=True)
    subprocess.run(["cp", "-a", software, agent_home / "software"], check=True)
    (agent_home / "agent").symlink_to(f"software/{software.name}")


@dataclass(frozen=True)
class Team:
    """stick: with the policy alone. person: the key of somebody who may do everything."""

    repo: ReleaseRepo
    stick: Path
    person: Path

    def release(self, kit: KitFolder, dest: Path, channel: str = "stable") -> Path:
        """A stick with this agent alone."""
        self.repo.add_agent(channel, kit.folder, kit.kit)
        self.repo.sign(channel)
        self.repo.publish()
        return self.repo.export_stick(dest, refs=[f"{kit.kit.agent}@{kit.kit.version}"])


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A release team whose policy lets one person do everything."""
    base = tmp_path_factory.mktemp("release")
    fingerprint = keys.ssh_keygen(base / "person")
    repo = ReleaseRepo.init(base / "repo", base / "keys", CLOCK)
    policy = PolicyDocument(v=1, roles={"technician": ["*"]}, people={fingerprint: Person(role="technician")}, ssh_passwords=True)
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    repo.add_policy_target("policy/golden/digits/set.npz", (DIGITS / "golden.npz").read_bytes())
    repo.sign("policy")
    repo.publish()
    return Team(repo, repo.export_stick(base / "stick"), base / "person")


@dataclass(frozen=True)
class Site:
    """A laptop, and a device of which it knows nothing but the host key. home: the login's, empty at first."""

    laptop: Laptop
    server: SshServer
    home: Path

    @property
    def entry(self) -> DeviceEntry:
        return self.laptop.inventory().find("one")

    @property
    def agent_home(self) -> Path:
        return self.home / ".local/share/fieldops-agent"

    def install(self, kit: KitFolder, **more: object) -> Installed:
        return self.laptop.enrolment.install(self.entry, kit.folder, soon(300), Words(), **more)  # type: ignore[arg-type]

    def remove(self) -> None:
        self.laptop.enrolment.remove_agent(self.entry, soon(120), Words())

    def know(self, port: int) -> None:
        """The host's key is known under this port, as through a cable."""
        with (self.laptop.home / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{port} {(self.server.folder / 'host_key.pub').read_text()}")

    def running(self) -> list[int]:
        """Processes of this device's agent and its supervisor."""
        mark = str(self.agent_home).encode()
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and mark in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
        return found


@contextlib.contextmanager
def bare_site(short: Path, folder: Path, identity: Path, team: Team) -> Iterator[Site]:
    """short: for the device's home, whose sockets' paths are limited. folder: for the laptop and the server."""
    home = short / f"h{time.monotonic_ns() % 10**8}"
    home.mkdir()
    (folder / "sshd").mkdir()
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    with openssh_server(folder / "sshd", identity, {"HOME": str(home), "PATH": path}) as server:
        laptop_home = folder / "laptop"
        laptop_home.mkdir()
        (laptop_home / "config.toml").write_text(f'[person]\nkey = "{team.person}"\n[ssh]\nidentities = ["{identity}"]\n')
        (laptop_home / "fleet.toml").write_text(toml_table(replace(server.entry, name="one")))
        with Laptop.open(laptop_home) as laptop:
            laptop.trust.pin(team.repo.root(), None)
            laptop.trust.refresh(FolderSource(team.stick), soon())
            made = Site(laptop, server, home)
            assert server.entry.ssh is not None
            made.know(server.entry.ssh.port)
            yield made
            if made.agent_home.exists():
                made.remove()


@pytest.fixture
def site(short_folder: Path, tmp_path: Path, identity: Path, team: Team) -> Iterator[Site]:
    with bare_site(short_folder, tmp_path, identity, team) as made:
        yield made


# --- releases of an agent ---------------------------------------------------------------------------------------------------

HANGS = "import time\n\n\ndef run(words):\n    time.sleep(600)\n"


def next_version(kit: KitFolder, dest: Path, version: str, serve: str | None = None) -> KitFolder:
    """The same kit as another version of the agent. serve: what stands in its serve.py instead."""
    shutil.copytree(kit.folder, dest, copy_function=os.link)
    (old,) = (dest / WHEELS).glob("fieldops-*.whl")
    with zipfile.ZipFile(old) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    old.unlink()
    files = {name.replace(f"-{__version__}.", f"-{version}."): data for name, data in files.items()}
    for name in ("fieldops/__init__.py", f"fieldops-{version}.dist-info/METADATA"):
        files[name] = files[name].replace(__version__.encode(), version.encode())
    if serve is not None:
        files["fieldops/agent/serving_agent.py"] = files["fieldops/agent/serve.py"]  # for one that goes on to it
        files["fieldops/agent/serve.py"] = serve.encode()
    new = dest / WHEELS / f"fieldops-{version}-py3-none-any.whl"
    with zipfile.ZipFile(new, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    digest = hashlib.sha256(new.read_bytes()).hexdigest()
    entry = KitEntry(name=new.name, sha256=digest, size=new.stat().st_size)
    before = (dest / REQUIREMENTS_FILE).read_text()
    text = f"{before[: before.index('fieldops==')]}fieldops=={version} --hash=sha256:{digest}\n"
    (dest / REQUIREMENTS_FILE).unlink()
    (dest / REQUIREMENTS_FILE).write_text(text)
    changed = msgspec.structs.replace(
        kit.kit,
        version=version,
        requirements=hashlib.sha256(text.encode()).hexdigest(),
        files=[*(each for each in kit.kit.files if each.name != old.name), entry],
    )
    (dest / KIT_FILE).unlink()
    (dest / KIT_FILE).write_bytes(msgspec.json.encode(changed))
    return read(dest)

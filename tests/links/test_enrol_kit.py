"""A device without internet and without an agent: a real kit, Debian's sshd, an empty home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from fieldops.edges import keys
from fieldops.edges.clock import SystemClock
from fieldops.edges.kit import KitFolder, build, read
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.errors import DeviceCannot, LinkFault, UsageFault
from fieldops.fleet import DeviceEntry, toml_table
from fieldops.operations.gate import Words
from fieldops.operations.trail import verify
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.wiring import Installed, Laptop
from tests.links.conftest import HAS_SSHD, SshServer, openssh_server, soon

CLOCK = SystemClock()
DIGITS = Path(__file__).parents[2] / "sample_fleet" / "digits"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORM = f"linux-{os.uname().machine}"

needs_sshd = [
    pytest.mark.needs_sshd,
    pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server"),
]


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> KitFolder:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    try:
        return build(PLATFORM, PYTHON, folder, soon(300), lambda _: None)
    except LinkFault as error:
        if os.environ.get("FIELDOPS_TESTS_SKIP_NOTHING"):
            raise
        pytest.skip(f"a kit needs a package index: {error}")


@pytest.fixture(scope="session")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Path]:
    """(stick, root, the person's key)."""
    base = tmp_path_factory.mktemp("release")
    fingerprint = keys.ssh_keygen(base / "person")
    repo = ReleaseRepo.init(base / "repo", base / "keys", CLOCK)
    policy = PolicyDocument(v=1, roles={"technician": ["*"]}, people={fingerprint: Person(role="technician")})
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    repo.add_policy_target("policy/golden/digits/set.npz", (DIGITS / "golden.npz").read_bytes())
    repo.sign("policy")
    repo.publish()
    return repo.export_stick(base / "stick"), repo.root(), base / "person"


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
        return self.laptop.enrolment.install(self.entry, kit.folder, soon(110), Words(), **more)  # type: ignore[arg-type]

    def remove(self) -> None:
        self.laptop.enrolment.remove_agent(self.entry, soon(60), Words())

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


@pytest.fixture
def site(short_folder: Path, tmp_path: Path, identity: Path, pinned: tuple[Path, bytes, Path]) -> Iterator[Site]:
    home = short_folder / f"h{time.monotonic_ns() % 10**8}"
    home.mkdir()
    (tmp_path / "sshd").mkdir()
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    with openssh_server(tmp_path / "sshd", identity, {"HOME": str(home), "PATH": path}) as server:
        stick, root, person = pinned
        folder = tmp_path / "laptop"
        folder.mkdir()
        (folder / "config.toml").write_text(f'[person]\nkey = "{person}"\n[ssh]\nidentities = ["{identity}"]\n')
        (folder / "fleet.toml").write_text(toml_table(replace(server.entry, name="one")))
        host_key = (server.folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{server.entry.ssh.port if server.entry.ssh else 0} {host_key}")
        with Laptop.open(folder) as laptop:
            laptop.trust.pin(root, None)
            laptop.trust.refresh(FolderSource(stick), soon())
            made = Site(laptop, server, home)
            yield made
            if made.agent_home.exists():
                made.remove()


class TestOnSshd:
    pytestmark = needs_sshd

    def test_an_agent_from_a_kit_comes_back_after_logout_and_restart_and_goes_without_a_trace(
        self, site: Site, kit: KitFolder
    ) -> None:
        (site.home / "app").mkdir()
        shutil.copy(DIGITS / "1.0.0" / "core.onnx", site.home / "app" / "digits.onnx")
        made = site.install(kit, foreign=("digits", str(site.home / "app" / "digits.onnx")), adopt=True)
        assert "supervised" in (site.agent_home / "proof").read_text()
        assert made.proof.startswith("it answers after logout and after a restart of a supervisor")
        assert site.entry.id == made.hello.device
        with site.laptop.connect(site.entry, soon()) as device:
            assert device.link == "ssh"
            (slot,) = device.models(soon()).slots
            assert (slot.active, slot.last_good) == ("0.0.0", "0.0.0")

        before = json.loads((site.agent_home / "proof").read_text())["processes"]
        assert len(set(before)) == 2
        (site.agent_home / "current").unlink()  # what a technician may find: broken by hand
        site.install(kit)
        with site.laptop.connect(site.entry, soon()) as device:
            assert device.hello(soon()).device == made.hello.device

        acts = [(entry.act, entry.phase) for entry, _ in site.laptop.journal.read()]
        assert acts[:2] == [("Enrol", "intent"), ("Enrol", "outcome")]
        assert ("Adopt", "outcome") in acts

        site.remove()
        report = verify(site.laptop.journal)
        assert (report.ok, report.problems) == (True, ())
        assert report.unchecked == 0
        assert [path.name for path in site.home.iterdir()] == ["app"]
        assert site.running() == []
        assert (site.entry.id, site.entry.formerly) == (keys_id(site), made.hello.device)

    def test_software_that_cannot_run_there_never_takes_the_place_of_what_does(
        self, site: Site, kit: KitFolder, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(kit.folder, other)
        entries = [entry for entry in kit.kit.files if not entry.name.startswith("tuf-")]
        (other / "kit.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(kit.kit, files=entries)))
        with pytest.raises(DeviceCannot) as refused:
            site.install(read(other))
        assert refused.value.reason == "install_failed"
        assert site.running() == []
        outcome = site.laptop.journal.read()[-1][0].result
        assert outcome is not None
        assert (outcome.status, outcome.reason) == ("failed", "install_failed")

    def test_a_kit_for_another_machine_is_refused_before_a_byte_is_pushed(
        self, site: Site, kit: KitFolder, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(kit.folder, other)
        document = json.loads((other / "kit.json").read_bytes())
        (other / "kit.json").write_text(json.dumps(document | {"platform": "linux-riscv64"}))
        with pytest.raises(DeviceCannot) as refused:
            site.install(read(other))
        assert refused.value.reason == "wrong_kit"
        assert list(site.home.iterdir()) == []


def keys_id(site: Site) -> str:
    from fieldops.fleet import key_id

    return key_id(keys.ssh_public_blob(site.server.folder / "host_key"))


def test_a_kit_that_changed_is_no_kit(kit: KitFolder, tmp_path: Path) -> None:
    other = tmp_path / "kit"
    shutil.copytree(kit.folder, other)
    wheel = other / "wheels" / kit.kit.files[0].name
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(UsageFault, match=r"not as it was built: anyio"):
        read(other)


def test_a_kit_is_refused_at_the_office_where_no_wheel_exists(kit: KitFolder, tmp_path: Path) -> None:
    assert kit.kit.platform == PLATFORM
    with pytest.raises(DeviceCannot, match=r"linux-riscv64.*onnxruntime") as refused:
        build("linux-riscv64", PYTHON, tmp_path / "none", soon(100), lambda _: None)
    assert refused.value.reason == "no_wheel"
    assert list(tmp_path.iterdir()) == []


def test_what_a_kit_holds_runs_without_anything_else(kit: KitFolder, tmp_path: Path) -> None:
    """No console, no SSH, and every library that the agent and its children import."""
    names = {entry.name.partition("-")[0] for entry in kit.kit.files}
    assert not names & {"textual", "paramiko", "typer", "httpx", "rich"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    python = tmp_path / "v" / "bin" / "python"
    pip = next((kit.folder / "wheels").glob("pip-*.whl")) / "pip"
    words = ["--no-index", "--require-hashes", "--no-deps", "--no-compile", "--find-links", str(kit.folder / "wheels")]
    subprocess.run([python, pip, "-q", "install", *words, "-r", kit.folder / "requirements.txt"], check=True)
    done = subprocess.run(
        [python, "-m", "fieldops.agent", "selftest", "--home", tmp_path / "home"], capture_output=True, check=False
    )
    assert json.loads(done.stdout)["faults"] == [], done.stderr

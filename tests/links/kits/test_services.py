"""Real systemd keeps the agent: a service of the system, of root and by sudo, and one of a login that lingers.

systemd, sshd, accounts and sudoers live in a process and mount namespace of their own; nothing of this machine changes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fieldops.edges import keys
from fieldops.edges.kit import KitFolder
from fieldops.edges.usb import FolderSource
from fieldops.errors import DeviceCannot, LinkFault, NotAuthorised
from fieldops.fleet import DeviceEntry, SshAddress, toml_table
from fieldops.operations import upgrade
from fieldops.operations.gate import Words
from fieldops.ports import Question
from fieldops.wiring import Laptop
from fieldops.wiring.enrolment import Installed
from tests.links.conftest import HAS_SSHD, SSHD, free_port, soon
from tests.links.kits.conftest import SLOW_S, Team, give_software, next_version

SYSTEMD = Path("/lib/systemd/systemd")
PASSWORD = "open-sesame-7461"  # of the account `tech`; `free` needs none for sudo
UIDS = {"tech": 4242, "free": 4243}

BOOT = r"""set -e
D=$1 python=$2
mount --make-rprivate /
mount -t tmpfs tmpfs /run; mkdir -p /run/lock /run/sshd
mount -t tmpfs tmpfs /etc/systemd/system
mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/systemd/linger /var/lib/sudo
mkdir -p "$D/none" "$D/python"
for t in sysinit multi-user local-fs; do
 if [ -d /lib/systemd/system/$t.target.wants ]; then mount --bind "$D/none" /lib/systemd/system/$t.target.wants; fi; done
for f in passwd shadow group sudoers; do mount --bind "$D/$f" /etc/$f; done
case $python in ~root/*)  # which other accounts may not enter
 mount --bind "$python" "$D/python"; mount -t tmpfs -o mode=755 tmpfs ~root; mkdir -p "$python"; mount --bind "$D/python" "$python";; esac
cp -r "$D"/units/. /etc/systemd/system/
touch /var/lib/systemd/linger/tech
exec env -i container=docker PATH="$PATH" /lib/systemd/systemd --system --unit=fieldops-test.target --log-target=console
"""
UNITS = {
    "fieldops-test.target": "[Unit]\nDefaultDependencies=no\nWants=test-sshd.service user@4242.service\n",
    "test-sshd.service": "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={sshd} -D -e -f {folder}/sshd_config\n",
    # what logind and its PAM module do for a login that lingers
    "user-runtime-dir@.service": (
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=/bin/sh -c 'mkdir -p /run/user/%i && chown %i /run/user/%i && chmod 700 /run/user/%i'\n"
    ),
    "user@.service.d/runtime.conf": "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n",
}


def _why_not() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "this machine allows no systemd in a namespace of its own: not root, or not Linux"
    if not (SYSTEMD.exists() and shutil.which("sudo") and HAS_SSHD and shutil.which("openssl")):
        return "needs apt-get install systemd sudo openssh-server openssl"
    allowed = subprocess.run(["unshare", "-mpf", "--mount-proc", "true"], capture_output=True, check=False)
    return "" if allowed.returncode == 0 else "this machine allows no namespaces"


pytestmark = [pytest.mark.needs_sshd, pytest.mark.timeout(SLOW_S), pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "-")]


@dataclass(frozen=True)
class Machine:
    """A booted systemd with an sshd. init: its process on this side."""

    folder: Path
    entry: DeviceEntry
    init: int

    def run(self, *words: str) -> str:
        """As root inside."""
        command = ["nsenter", "-t", str(self.init), "-m", "-p", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def home(self, login: str) -> Path:
        return self.folder / "home" / login


def _accounts(folder: Path) -> None:
    for name in ("passwd", "shadow", "group"):
        shutil.copy(Path("/etc") / name, folder / name)
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout.strip()
    for login, uid in UIDS.items():
        home = folder / "home" / login
        home.mkdir(parents=True)
        os.chown(home, uid, uid)
        for name, line in (
            ("passwd", f"{login}:x:{uid}:{uid}::{home}:/bin/sh"),
            ("shadow", f"{login}:{hashed}:19000:0:99999:7:::"),
            ("group", f"{login}:x:{uid}:"),
        ):
            with (folder / name).open("a") as file:
                file.write(f"{line}\n")
    (folder / "sudoers").write_text(
        "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\ntech ALL=(ALL) ALL\nfree ALL=(ALL) NOPASSWD: ALL\n"
    )
    (folder / "sudoers").chmod(0o440)


@pytest.fixture(scope="module")
def machine(identity: Path) -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="fo-"))
    folder.chmod(0o755)
    _accounts(folder)
    keys.ssh_keygen(folder / "host_key")
    shutil.copy(identity.with_name("id.pub"), folder / "authorized_keys")
    port = free_port()
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    settings = [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        *("PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin yes"),
        f"SetEnv PATH={path}",
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    for name, text in UNITS.items():
        (folder / "units" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "units" / name).write_text(text.format(sshd=SSHD, folder=folder))
    with (folder / "boot.log").open("wb") as log:
        command = ["unshare", "-mpf", "--mount-proc", "--kill-child", "sh", "-c", BOOT, "sh", str(folder), sys.base_prefix]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "boot.log").read_text()
            assert time.monotonic() < until, (folder / "boot.log").read_text()
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Machine(folder, DeviceEntry(name="one", ssh=SshAddress("root", "127.0.0.1", port)), int(children[0]))
    finally:
        process.kill()
        process.wait()
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@dataclass
class Desk:
    """A laptop that logs in as one account. asked: what somebody was asked for."""

    laptop: Laptop
    asked: list[Question]

    @property
    def entry(self) -> DeviceEntry:
        return self.laptop.inventory().find("one")

    def install(self, kit: KitFolder, *, sudo: bool = False) -> Installed:
        return self.laptop.enrolment.install(self.entry, kit.folder, soon(300), Words(), sudo=sudo)

    def remove(self) -> None:
        self.laptop.enrolment.remove_agent(self.entry, soon(120), Words())

    def answered_by(self, *answers: str) -> None:
        left = list(answers)

        def ask(question: Question) -> str | None:
            self.asked.append(question)
            return left.pop(0) if left else None

        self.laptop.ask = ask


@contextlib.contextmanager
def desk(machine: Machine, login: str, folder: Path, identity: Path, team: Team) -> Iterator[Desk]:
    assert machine.entry.ssh is not None
    entry = replace(machine.entry, ssh=replace(machine.entry.ssh, user=login))
    (folder / "laptop").mkdir()
    (folder / "laptop" / "config.toml").write_text(f'[person]\nkey = "{team.person}"\n[ssh]\nidentities = ["{identity}"]\n')
    (folder / "laptop" / "fleet.toml").write_text(toml_table(entry))
    host_key = (machine.folder / "host_key.pub").read_text()
    (folder / "laptop" / "known_hosts").write_text(f"[127.0.0.1]:{machine.entry.ssh.port} {host_key}")
    with Laptop.open(folder / "laptop") as laptop:
        laptop.trust.pin(team.repo.root(), None)
        laptop.trust.refresh(FolderSource(team.stick), soon())
        yield Desk(laptop, [])


def given(machine: Machine, software: Path, login: str) -> Path:
    """The login's home on the device already holds the software. The agent's folder there."""
    place = machine.home(login) / ".local/share/fieldops-agent"
    give_software(software, place)
    subprocess.run(["chown", "-hR", f"{UIDS[login]}:{UIDS[login]}", machine.home(login)], check=True)
    return place


def test_a_service_made_by_sudo_with_a_password_runs_as_the_login_and_the_password_stays_nowhere(
    machine: Machine, kit: KitFolder, software: Path, tmp_path: Path, identity: Path, team: Team
) -> None:
    home = given(machine, software, "tech")
    with desk(machine, "tech", tmp_path, identity, team) as at:
        with pytest.raises(NotAuthorised) as refused:
            at.install(kit, sudo=True)
        assert refused.value.reason == "sudo_refused"
        at.answered_by("wrong")
        with pytest.raises(NotAuthorised, match="did not take the password"):
            at.install(kit, sudo=True)
        at.asked.clear()
        at.answered_by(PASSWORD)
        made = at.install(kit, sudo=True)
        assert made.proof == "it answers after logout and after a restart of a systemd service"
        (question,) = at.asked  # once for the whole installation
        assert (question.kind, question.echo, question.device) == ("password", False, "one")
        assert question.host_key.startswith("SHA256:")

        unit = machine.run("systemctl", "show", "-p", "MainPID,User", "fieldops-agent")
        assert "User=tech" in unit
        assert {path.lstat().st_uid for path in home.rglob("*")} == {UIDS["tech"]}
        held = subprocess.run(["grep", "-rlF", PASSWORD, tmp_path, home], capture_output=True, check=False)
        assert held.stdout == b""
        assert PASSWORD not in (machine.folder / "boot.log").read_text()

        machine.run("systemctl", "kill", "-s", "KILL", "fieldops-agent")
        answers_again(at)
        at.answered_by()
        with pytest.raises(NotAuthorised):
            at.remove()
        at.answered_by(PASSWORD)
        at.remove()
        assert list(machine.home("tech").iterdir()) == []
        assert machine.run("sh", "-c", "ls /etc/systemd/system | grep -c fieldops-agent || true").strip() == "0"


def answers_again(at: Desk) -> None:
    until = soon(120)
    while True:
        with contextlib.suppress(LinkFault, DeviceCannot), at.laptop.links.anew(at.entry, soon(5)) as device:
            device.models(soon(5))
            return
        until.check("the agent after a kill")


def test_by_sudo_without_a_password(
    machine: Machine, kit: KitFolder, software: Path, tmp_path: Path, identity: Path, team: Team
) -> None:
    given(machine, software, "free")
    with desk(machine, "free", tmp_path, identity, team) as at:
        assert at.install(kit, sudo=True).proof.endswith("a restart of a systemd service")
        at.remove()
        assert list(machine.home("free").iterdir()) == []


@pytest.mark.slow_faults
def test_an_upgrade_under_systemd(
    machine: Machine, kit: KitFolder, software: Path, tmp_path: Path, identity: Path, team: Team
) -> None:
    given(machine, software, "free")
    stick = team.release(next_version(kit, tmp_path / "kit", "0.9.5"), tmp_path / "stick")
    with desk(machine, "free", tmp_path, identity, team) as at:
        assert at.install(kit, sudo=True).proof.endswith("a restart of a systemd service")
        laptop = at.laptop
        gate = laptop.gate()
        with laptop.links.anew(at.entry, soon()) as device:
            planned = upgrade.plan(gate, laptop.trust, device, [FolderSource(stick)], soon(60))
        upgrade.run(gate, laptop.links.anew, at.entry, planned, soon(300))
        machine.run("systemctl", "restart", "fieldops-agent")
        answers_again(at)
        with laptop.links.anew(at.entry, soon()) as device:
            assert device.hello(soon()).agent == "0.9.5"
        at.remove()
        assert list(machine.home("free").iterdir()) == []


def test_a_login_that_lingers_keeps_it_by_its_own_systemd(
    machine: Machine, kit: KitFolder, software: Path, tmp_path: Path, identity: Path, team: Team
) -> None:
    home = given(machine, software, "tech")
    with desk(machine, "tech", tmp_path, identity, team) as at:
        made = at.install(kit)
        assert made.proof == "it answers after logout and after a restart of a systemd service of this login, which lingers"
        assert 'kind = "user"' in (home / "agent.toml").read_text()
        at.remove()
        assert not home.exists()
        assert not (machine.home("tech") / ".config/systemd/user/fieldops-agent.service").exists()


def test_root_gets_a_service_of_the_system(
    machine: Machine, kit: KitFolder, software: Path, tmp_path: Path, identity: Path, team: Team
) -> None:
    place = "/var/lib/fieldops-agent"
    machine.run("mkdir", "-p", f"{place}/software")
    shutil.copytree(software, machine.folder / "seed", symlinks=True)
    machine.run("cp", "-a", str(machine.folder / "seed"), f"{place}/software/{kit.id}")
    machine.run("ln", "-s", f"software/{kit.id}", f"{place}/agent")
    with desk(machine, "root", tmp_path, identity, team) as at:
        assert at.install(kit).proof == "it answers after logout and after a restart of a systemd service"
        assert machine.run("stat", "-c", "%a %U", "/run/fieldops-agent/agent.sock") == "660 root\n"
        at.remove()
        assert machine.run("ls", "/var/lib").split() == ["sudo", "systemd"]


@pytest.mark.parametrize("mode", ["system", "login", "user"])
def test_units_hold_before_systemd_s_own_judgement(tmp_path: Path, mode: str) -> None:
    from fieldops.edges.install_script import unit

    (tmp_path / "agent/bin").mkdir(parents=True)
    (tmp_path / "agent/bin/python").symlink_to(sys.executable)
    text = unit(str(tmp_path), "user" if mode == "user" else "system", "daemon" if mode == "login" else "")
    (tmp_path / "fieldops-agent.service").write_text(text)
    words = ["systemd-analyze", *(["--user"] if mode == "user" else []), "verify", "--man=no", "--recursive-errors=no"]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [*words, tmp_path / "fieldops-agent.service"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")

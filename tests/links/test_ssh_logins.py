"""Ways to a device: over jump hosts, by keys with a passphrase, by passwords where the policy lets them; and a real Dropbear."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.server import InteractiveQuery

from fieldops.edges import keys, probe, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.ssh_config import SshConfig
from fieldops.errors import HostKeyUnknown, NotAuthorised, Unreachable
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.ports import Question
from tests.links.conftest import HAS_SSHD, SshServer, free_port, openssh_server, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")

needs_sshd = [
    pytest.mark.needs_sshd,
    pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server"),
]


# --- jump hosts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, identity: Path) -> Iterator[SshServer]:
    with openssh_server(tmp_path_factory.mktemp("gate"), identity, {}) as server:
        yield server


def _known(*servers: SshServer) -> KnownHosts:
    return KnownHosts(tuple(line for server in servers for line in server.known_hosts.lines))


def _terms(folder: Path, text: str) -> ssh.Terms:
    (folder / "config").write_text(text)
    return ssh.Terms(config=SshConfig((folder / "config",), folder, "root"))


@pytest.mark.needs_sshd
@pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server")
def test_over_two_jump_hosts_with_everything_from_the_configuration(server: SshServer, gate: SshServer, tmp_path: Path) -> None:
    assert server.entry.ssh is not None
    assert gate.entry.ssh is not None
    user = server.entry.ssh.user or "root"
    text = f"""Host cabinet
      HostName 127.0.0.1
      Port {server.entry.ssh.port}
      User {user}
      HostKeyAlias press-7
      ProxyJump outer,inner
      IdentityFile {server.identity}
    Host outer inner
      HostName localhost
      Port {gate.entry.ssh.port}
      HostKeyAlias the-gate
      IdentityFile {gate.identity}
    """
    lines = [f"press-7 {(server.folder / 'host_key.pub').read_text()}", f"the-gate {(gate.folder / 'host_key.pub').read_text()}"]
    entry = DeviceEntry(name="one", ssh=SshAddress(None, "cabinet", 22))
    terms = _terms(tmp_path, text)
    link = ssh.connect(entry, known_hosts=KnownHosts.parse("\n".join(lines)), identities=[], deadline=soon(), terms=terms)
    with closing(link):
        assert link.run(["printf", "here"], soon()).out == b"here"
    with pytest.raises(HostKeyUnknown, match="jump host"):
        ssh.connect(entry, known_hosts=KnownHosts.parse(lines[0]), identities=[], deadline=soon(), terms=terms)
    key = ssh.host_key(entry, soon(), known_hosts=KnownHosts.parse(lines[1]), terms=terms)
    assert keys.ssh_fingerprint(key[1]) == keys.ssh_fingerprint((server.folder / "host_key.pub").read_text())


def test_a_jump_host_that_does_not_answer_fails_within_its_connect_timeout(server: SshServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        text = f"Host cabinet\n ProxyJump 127.0.0.1:{port}\nHost 127.0.0.1\n ConnectTimeout 1\n"
        entry = DeviceEntry(name="one", ssh=SshAddress(None, "cabinet", 22))
        began = time.monotonic()
        with pytest.raises(Unreachable, match="jump host"):
            ssh.connect(entry, known_hosts=KnownHosts(), identities=[], deadline=soon(30), terms=_terms(tmp_path, text))
        assert time.monotonic() - began < 5


# --- who logs in ---------------------------------------------------------------------------------------------------------


class Person(paramiko.ServerInterface):
    """Lets in who says the password. said: every credential it was sent."""

    def __init__(self, ways: str) -> None:
        self.ways = ways
        self.said: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return self.ways

    def check_auth_password(self, username: str, password: str) -> int:
        self.said.append(password)
        return AUTH_SUCCESSFUL if password == "open sesame" else AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        return InteractiveQuery("door", "who is there", ("Word: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.said += responses
        return AUTH_SUCCESSFUL if responses == ["open sesame"] else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


@contextmanager
def door(person: Person, folder: Path) -> Iterator[tuple[DeviceEntry, KnownHosts]]:
    keys.ssh_keygen(folder / "host")
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(conn)
            transport.add_server_key(paramiko.PKey.from_path(folder / "host"))
            transports.append(transport)
            try:
                transport.start_server(server=person)
            except (paramiko.SSHException, EOFError, OSError):
                conn.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield (
            DeviceEntry(name="door", ssh=SshAddress("me", "127.0.0.1", port)),
            KnownHosts.parse(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"),
        )
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for transport in transports:
            transport.close()
            transport.join()
            transport.sock.close()


@pytest.mark.parametrize("ways", ["password", "keyboard-interactive", "publickey,password"])
def test_a_password_is_asked_for_and_sent_only_where_the_policy_allows_and_the_host_is_proved(
    ways: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    questions: list[Question] = []

    def ask(question: Question) -> str:
        questions.append(question)
        return "open sesame"

    def go(known: KnownHosts, *, allowed: bool, somebody: bool = True, look: bool = False) -> None:
        terms = ssh.Terms(vouching=ssh.Vouching(look=look), keys=ssh.Keys(ask if somebody else None), passwords=allowed)
        ssh.connect(entry, known_hosts=known, identities=[], deadline=soon(), terms=terms).close()

    person = Person(ways)
    with door(person, tmp_path) as (entry, known):
        for refused in (
            {"known": known, "allowed": False},
            {"known": known, "allowed": True, "somebody": False},
            {"known": KnownHosts(), "allowed": True, "look": True},
        ):
            with pytest.raises(NotAuthorised):
                go(**refused)  # type: ignore[arg-type]
        assert (person.said, questions) == ([], [])
        go(known, allowed=True)
        assert person.said == ["open sesame"]
        assert [question.kind for question in questions] == ["answer" if ways.startswith("keyboard") else "password"]
        host = keys.ssh_fingerprint((tmp_path / "host.pub").read_text())
        assert (questions[0].device, questions[0].host_key) == ("door", host)


def test_a_key_with_a_passphrase_is_opened_once_and_only_where_somebody_answers(server: SshServer, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    private = serialization.load_ssh_private_key(server.identity.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.BestAvailableEncryption(b"word")
        )
    )
    locked.chmod(0o600)
    answers = ["wrong", "word"]
    ring = ssh.Keys(lambda _: answers.pop(0))
    for _ in range(2):
        ssh.connect(
            server.entry,
            known_hosts=server.known_hosts,
            identities=[locked],
            deadline=soon(),
            terms=ssh.Terms(config=SshConfig(), keys=ring),
        ).close()
    assert answers == []
    declining = ssh.Keys(lambda _: answers.pop(0) if answers else None)
    terms = ssh.Terms(config=SshConfig(), keys=declining)
    with pytest.raises(NotAuthorised, match="not given"):
        ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[locked], deadline=soon(), terms=terms)
    answers.append("word")
    with pytest.raises(NotAuthorised, match="locked"):
        ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[locked], deadline=soon(), terms=terms)
    declining.ask_again()
    ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[locked], deadline=soon(), terms=terms).close()
    with pytest.raises(NotAuthorised, match="locked"):
        ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[locked], deadline=soon())


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent: apt-get install openssh-client")
def test_a_key_that_a_real_ssh_agent_holds(
    server: SshServer, tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = short_folder / f"held-{server.kind}"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(at))
    try:
        until = time.monotonic() + 10
        while not at.exists():
            assert time.monotonic() < until
        keys.ssh_keygen(tmp_path / "another")
        for key in (tmp_path / "another", server.identity):  # the right one is not the first
            subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True, timeout=10)
        with closing(ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[], deadline=soon())) as link:
            assert link.run(["printf", "in"], soon()).out == b"in"
        terms = _terms(tmp_path, f"Host *\n IdentitiesOnly yes\n IdentityFile {tmp_path / 'another'}\n")
        with pytest.raises(NotAuthorised) as caught:  # the configuration keeps the agent out
            ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[], deadline=soon(), terms=terms)
        assert "ssh-agent" not in caught.value.message
    finally:
        agent.terminate()
        agent.wait(10)


# --- another server --------------------------------------------------------------------------------------------------------

DROPBEAR = shutil.which("dropbear") or "/usr/sbin/dropbear"


@pytest.fixture
def dropbear(tmp_path: Path, identity: Path) -> Iterator[tuple[DeviceEntry, KnownHosts]]:
    port = free_port()
    home = tmp_path / "dropbear"
    (home / ".ssh").mkdir(parents=True)
    made = subprocess.run(
        ["dropbearkey", "-t", "ed25519", "-f", home / "host"], capture_output=True, text=True, check=True, timeout=20
    )
    public = next(line for line in made.stdout.splitlines() if line.startswith("ssh-ed25519"))
    (home / ".ssh" / "authorized_keys").write_text(identity.with_name("id.pub").read_text())
    (home / ".ssh" / "authorized_keys").chmod(0o600)
    # it takes keys only from the home that the system knows, so it gets another one there, which nobody else sees
    run = f'mount --bind "$1" {pwd.getpwuid(os.geteuid()).pw_dir} && exec {DROPBEAR} -F -E -e -s -p 127.0.0.1:{port} -r "$1/host" -P "$1/pid"'
    process = subprocess.Popen(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", run, "sh", home],
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                assert time.monotonic() < until
        yield (
            DeviceEntry(name="dropbear", ssh=SshAddress(None, "127.0.0.1", port)),
            KnownHosts.parse(f"[127.0.0.1]:{port} {public}"),
        )
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.needs_dropbear
@pytest.mark.skipif(not Path(DROPBEAR).exists(), reason="needs Dropbear: apt-get install dropbear-bin")
def test_a_real_dropbear(dropbear: tuple[DeviceEntry, KnownHosts], identity: Path, tmp_path: Path) -> None:
    entry, known = dropbear
    (tmp_path / "local").write_bytes(bytes(range(256)) * 12_000)
    with closing(ssh.connect(entry, known_hosts=known, identities=[identity], deadline=soon())) as link:
        assert link.run("printf out; printf err >&2; exit 3", soon()) == ssh.Result(3, b"out", b"err")
        assert link.run(["cat"], soon(), stdin=b"x" * 200_000).out == b"x" * 200_000
        assert probe.read_facts(link, soon()).text("end") == "1"
        link.upload(tmp_path / "local", str(tmp_path / "far"), soon())
        assert (tmp_path / "far").read_bytes() == (tmp_path / "local").read_bytes()
        link.download(str(tmp_path / "far"), tmp_path / "back", soon())
        assert (tmp_path / "back").read_bytes() == (tmp_path / "local").read_bytes()
        assert link.run("echo job", soon(), job=True).out == b"job\n"
        assert [link.run(["printf", str(turn)], soon()).out for turn in range(50)] == [str(turn).encode() for turn in range(50)]

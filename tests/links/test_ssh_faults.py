"""Servers that misbehave and links that die: each ends in its typed error, in time, and no credential goes to a stranger."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import keys, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.errors import Cancelled, FieldopsError, HostKeyChanged, HostKeyUnknown, LinkLost, Unreachable
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.ports import Progress
from tests.links.conftest import SshServer, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")

STALLS = ("banner", "kex", "auth", "open")


@dataclass
class Stalling(paramiko.ServerInterface):
    """Goes along until its phase, then does not answer. logins: what it was sent of credentials."""

    phase: str
    over: threading.Event = field(default_factory=threading.Event)
    logins: list[str] = field(default_factory=list)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.logins.append(username)
        if self.phase == "auth":
            self.over.wait()
        return AUTH_SUCCESSFUL

    def check_auth_none(self, username: str) -> int:
        self.logins.append(username)
        return AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if self.phase == "open":
            self.over.wait()
        return OPEN_SUCCEEDED


@dataclass(frozen=True)
class Bad:
    entry: DeviceEntry
    known_hosts: KnownHosts
    logins: list[str]


@contextmanager
def bad_server(phase: str, host_key: Path) -> Iterator[Bad]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Stalling(phase)
    open_ends: list[socket.socket | paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            if phase == "banner":
                open_ends.append(conn)
            elif phase == "kex":
                conn.sendall(b"SSH-2.0-stalls\r\n")
                open_ends.append(conn)
            else:
                transport = paramiko.Transport(conn)
                transport.add_server_key(paramiko.PKey.from_path(host_key))
                open_ends.append(transport)
                try:
                    transport.start_server(server=server)
                except (paramiko.SSHException, EOFError, OSError):
                    conn.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        public = host_key.with_name(host_key.name + ".pub").read_text()
        yield Bad(
            DeviceEntry(name="bad", ssh=SshAddress("technician", "127.0.0.1", port)),
            KnownHosts.parse(f"[127.0.0.1]:{port} {public}"),
            server.logins,
        )
    finally:
        server.over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for end in open_ends:
            end.close()
            if isinstance(end, paramiko.Transport):
                end.join()
                end.sock.close()


@pytest.fixture
def host_key(tmp_path: Path) -> Path:
    keys.ssh_keygen(tmp_path / "host")
    return tmp_path / "host"


def _go(bad: Bad, identity: Path, deadline: Deadline) -> None:
    link = ssh.connect(bad.entry, known_hosts=bad.known_hosts, identities=[identity], deadline=deadline)
    try:
        link.run(["true"], deadline)
    finally:
        link.close()


@pytest.mark.parametrize("phase", STALLS)
def test_a_server_that_stops_answering_fails_in_the_callers_time_and_names_the_phase(
    phase: str, host_key: Path, identity: Path
) -> None:
    with bad_server(phase, host_key) as bad:
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            _go(bad, identity, soon(1.0))
        assert caught.value.phase == phase
        assert (caught.value.device, caught.value.exit_code) == ("bad", 5)
        assert caught.value.next_step
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("phase", STALLS)
def test_a_server_that_stops_answering_can_be_given_up_by_hand(phase: str, host_key: Path, identity: Path) -> None:
    token = CancelToken()
    with bad_server(phase, host_key) as bad:
        threading.Timer(0.5, token.cancel).start()
        with pytest.raises(Cancelled):
            _go(bad, identity, Deadline.after(30, time.monotonic, token))


@pytest.mark.parametrize(
    ("known", "error"), [("another", HostKeyChanged), ("nothing", HostKeyUnknown)], ids=["changed", "unknown"]
)
def test_no_credential_is_sent_to_a_host_that_is_not_proved(
    known: str, error: type[FieldopsError], host_key: Path, identity: Path, tmp_path: Path
) -> None:
    keys.ssh_keygen(tmp_path / "another")
    with bad_server("none", host_key) as bad:
        assert bad.entry.ssh is not None
        other = (tmp_path / "another.pub").read_text()
        lines = f"[127.0.0.1]:{bad.entry.ssh.port} {other}" if known == "another" else ""
        with pytest.raises(error):
            _go(Bad(bad.entry, KnownHosts.parse(lines), bad.logins), identity, soon())
        assert bad.logins == []
        link = ssh.connect(bad.entry, known_hosts=bad.known_hosts, identities=[identity], deadline=soon())
        link.close()
        assert bad.logins == ["technician"]  # the server does record what it is sent


def test_what_is_no_ssh_server_is_said(host_key: Path, identity: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            conn, _ = listener.accept()
            with conn:
                conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        entry = DeviceEntry(name="web", ssh=SshAddress("x", "127.0.0.1", listener.getsockname()[1]))
        with pytest.raises(Unreachable) as caught:
            ssh.connect(entry, known_hosts=KnownHosts(), identities=[identity], deadline=soon(10))
        assert caught.value.phase == "banner"
        thread.join()


def _signal(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):  # a command of before may just have ended
            os.kill(pid, number)


def test_a_peer_that_hangs_is_noticed_within_ten_seconds_by_all_who_wait(
    server: SshServer, runtime: Path, tmp_path: Path
) -> None:
    """The kernel of a stopped process goes on acknowledging, so no TCP timer ever helps."""
    link = ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=soon())
    client = link.http(str(runtime / "agent.sock"), deadline=soon())
    assert client.get("/hello").status_code == 200
    for name in ("up", "down"):
        (tmp_path / name).write_bytes(bytes(16 << 20))
    ended: dict[str, tuple[float, BaseException]] = {}
    began = 0.0
    threads: list[threading.Thread] = []

    def waits(name: str, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except (FieldopsError, httpx.HTTPError) as error:
                ended[name] = (time.monotonic() - began, error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    def body() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    under_way, stopped = [threading.Event(), threading.Event()], threading.Event()

    def holding(event: threading.Event) -> Callable[[Progress], None]:
        """A copy that waits in its middle until the peer hangs."""

        def tell(_: Progress) -> None:
            event.set()
            stopped.wait()

        return tell

    waits("upload", lambda: link.upload(tmp_path / "up", str(tmp_path / "far"), soon(60), holding(under_way[0])))
    waits("download", lambda: link.download(str(tmp_path / "down"), tmp_path / "near", soon(60), holding(under_way[1])))
    waits("run", lambda: link.run("sleep 30", soon(60)))
    assert all(event.wait(10) for event in under_way)
    assert link.run(["true"], soon()).rc == 0  # the sleep was begun before this one ended
    # the server's own process and, for sshd, the two that serve the connection
    serving = [server.process.pid] if server.kind == "asyncssh" else server.children()
    _signal(serving, signal.SIGSTOP)
    try:
        began = time.monotonic()
        stopped.set()
        waits("open", lambda: link.run(["true"], soon(60)))
        waits("put", lambda: client.put("/count", content=body(), timeout=60))
        waits("request", lambda: client.get("/hello", timeout=60))
        for thread in threads:
            thread.join(20)
    finally:
        _signal(serving, signal.SIGCONT)
    assert sorted(ended) == ["download", "open", "put", "request", "run", "upload"]
    assert {name: round(after) for name, (after, _) in ended.items() if after > 10} == {}
    assert {name for name, (_, error) in ended.items() if isinstance(error, LinkLost)} >= {"run", "open", "upload", "download"}
    assert not link.alive
    with pytest.raises(LinkLost):
        link.run(["true"], soon())
    link.close()


def test_a_silence_of_an_idle_link_is_no_death(server: SshServer) -> None:
    """Long enough for the watchdog to have asked; the answer of either server counts as a sign of life."""
    link = ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=soon())
    heard = link._sock.heard_at
    assert not threading.Event().wait(ssh.PING_S + 1.5)
    assert link.alive
    assert link._sock.heard_at > heard
    assert link.run(["true"], soon()).rc == 0
    link.close()

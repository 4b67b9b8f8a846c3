"""Real SSH servers on loopback: the sample fleet's own (asyncssh) and, where it is installed, OpenSSH's sshd."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fieldops.deadline import Deadline
from fieldops.edges import keys, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.fleet import DeviceEntry, SshAddress

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
HAS_SSHD = Path(SSHD).exists()


def soon(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds, time.monotonic)


@dataclass(frozen=True)
class SshServer:
    """A running server and what it takes to get in. process: the listening one."""

    kind: str
    entry: DeviceEntry
    known_hosts: KnownHosts
    identity: Path
    folder: Path
    process: subprocess.Popen[bytes]

    def known_under(self, port: int) -> KnownHosts:
        """What is known when the server is reached through another port, as through a cable."""
        return _known(port, self.folder / "host_key")

    def children(self) -> list[int]:
        """Process ids below the server's, the ones that speak with a client first."""
        found: list[int] = []
        waiting = [self.process.pid]
        while waiting:
            parent = waiting.pop()
            below = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            found += [int(pid) for pid in below]
            waiting += [int(pid) for pid in below]
        return found


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """Paths of unix sockets are limited to 107 bytes; pytest's own folders are longer."""
    folder = Path(tempfile.mkdtemp(prefix="fo-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("person") / "id"
    keys.ssh_keygen(path)
    return path


def _known(port: int, host_key: Path) -> KnownHosts:
    return KnownHosts.parse(f"[127.0.0.1]:{port} {host_key.with_name(host_key.name + '.pub').read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def asyncssh_server(folder: Path, identity: Path, agent_socket: str, environment: dict[str, str]) -> Iterator[SshServer]:
    keys.ssh_keygen(folder / "host_key")
    document = {
        "authorized_keys": str(identity.with_name("id.pub")),
        "devices": [
            {
                "name": "one",
                "port": 0,
                "host_key": str(folder / "host_key"),
                "home": str(folder),
                "socket": agent_socket or None,
                "environment": {"PATH": os.environ["PATH"], **environment},
            }
        ],
    }
    (folder / "doors.json").write_text(json.dumps(document))
    process = subprocess.Popen(
        [sys.executable, "-m", "fieldops.demo.ssh_server", folder / "doors.json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["ports"]["one"]
        entry = DeviceEntry(name="one", ssh=SshAddress("technician", "127.0.0.1", port))
        yield SshServer("asyncssh", entry, _known(port, folder / "host_key"), identity, folder, process)
    finally:
        _stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def openssh_server(
    folder: Path, identity: Path, environment: dict[str, str], *more: str, inside: Sequence[str] = ()
) -> Iterator[SshServer]:
    """inside: a command that runs it, such as one that gives it file systems of its own."""
    keys.ssh_keygen(folder / "host_key")
    environment = {"SHLVL": "5", **environment}
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    port = free_port()
    settings = [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {identity.with_name('id.pub')}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "LogLevel ERROR",
        "PermitRootLogin yes",
        # bash reads the person's ~/.bashrc for commands over SSH, unless it believes to be inside another shell
        f"SetEnv {' '.join(f'{key}={value}' for key, value in environment.items())}",
        *more,
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    with (folder / "sshd.log").open("wb") as log:
        command = [*inside, SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "sshd.log").read_text()
            assert time.monotonic() < until
        entry = DeviceEntry(name="one", ssh=SshAddress(None, "127.0.0.1", port))
        yield SshServer("sshd", entry, _known(port, folder / "host_key"), identity, folder, process)
    finally:
        _stop(process)


# --- a program behind a unix socket, where the agent would be --------------------------------------------------------------


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello " + request.headers.get("host", ""))


async def _count(request: Request) -> Response:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))


async def _much(request: Request) -> Response:
    return StreamingResponse(iter([b"x" * 65536] * int(request.query_params["pieces"])))


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def serving(app: Callable[..., object], path: Path) -> Iterator[Path]:
    """An app on a unix socket, in a thread of this process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    server = _Quiet(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield path
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def runtime(short_folder: Path) -> Iterator[Path]:
    """A folder that looks like an agent's runtime folder, with an HTTP program on agent.sock."""
    folder = short_folder / "run"
    folder.mkdir()
    app = Starlette(routes=[Route("/hello", _hello), Route("/count", _count, methods=["PUT"]), Route("/much", _much)])
    with serving(app, folder / "agent.sock"):
        yield folder


KINDS = [
    "asyncssh",
    pytest.param(
        "sshd",
        marks=[
            pytest.mark.needs_sshd,
            pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server"),
        ],
    ),
]


@pytest.fixture(scope="session", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, identity: Path, runtime: Path
) -> Iterator[SshServer]:
    folder = tmp_path_factory.mktemp(str(request.param))
    environment = {"FIELDOPS_AGENT_RUNTIME": str(runtime)}
    starting = (
        asyncssh_server(folder, identity, str(runtime / "agent.sock"), environment)
        if request.param == "asyncssh"
        else openssh_server(folder, identity, environment)
    )
    with starting as running:
        yield running


def linked(server: SshServer, deadline: Deadline | None = None) -> ssh.SshLink:
    return ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=deadline or soon())


def stranger_to(server: SshServer) -> SshServer:
    """The same server, of which nothing is known."""
    return replace(server, known_hosts=KnownHosts())


# --- a cable that can be pulled --------------------------------------------------------------------------------------------


class Cable:
    """A TCP relay to another port. pull() cuts all that runs over it; new connections pass again.

    delay_s: how much later what goes in comes out, each way. rate: bytes a second, each way; 0: as they come.
    """

    def __init__(self, port: int, *, delay_s: float = 0.0, rate: float = 0.0) -> None:
        self._target = port
        self._delay_s = delay_s
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._swallow = threading.Event()
        self.pulled = 0
        self.stalled = threading.Event()  # set: nothing passes until it is cleared
        self.carried_out = 0
        self.carried_back = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def pull(self) -> None:
        with self._lock:
            self.pulled += 1
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def pull_at_next_answer(self) -> None:
        """What goes out arrives; the first thing that comes back is lost, and the connection with it."""
        self._swallow.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.stalled.clear()
        self.pull()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with self._lock:
                self._pairs.append((near, far))
            both = [
                threading.Thread(target=self._relay, args=(near, far, False), daemon=True),
                threading.Thread(target=self._relay, args=(far, near, True), daemon=True),
            ]
            self._threads += both
            for thread in both:
                thread.start()

    def _relay(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        if self._delay_s or self._rate:
            self._relay_slowly(source, sink)
            return
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self._swallow.is_set():
                    self._swallow.clear()
                    self.pull()
                    break
                while self.stalled.is_set():
                    threading.Event().wait(0.02)
                if answers:
                    self.carried_back += len(data)
                else:
                    self.carried_out += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _relay_slowly(self, source: socket.socket, sink: socket.socket) -> None:
        """One thread reads and stamps, this one lets out; what waits in between is what a long wire holds, and no more."""
        wire: queue.Queue[tuple[float, bytes]] = queue.Queue()
        free = threading.Semaphore(64)

        def read() -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(16384):
                    free.acquire()
                    wire.put((time.monotonic() + self._delay_s, data))
            wire.put((0.0, b""))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        clear_at = 0.0
        with contextlib.suppress(OSError):
            while True:
                due, data = wire.get()
                if not data:
                    break
                if self._rate:
                    due = clear_at = max(due, clear_at) + len(data) / self._rate
                threading.Event().wait(max(0.0, due - time.monotonic()))
                free.release()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for _ in range(64):
            free.release()
        reader.join()
        source.close()


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """What a test began has ended a moment after it: threads of links, of their watchdogs, of paramiko.

    Those of the HTTP program behind the socket (AnyIO's) are no link's.
    """
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 10
    while left := [thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith("AnyIO")]:
        assert time.monotonic() < until, left
        threading.Event().wait(0.02)

"""SSH links against a real sshd on loopback: copies beside scp and SFTP, requests beside direct ones, facts of many hosts.

OpenSSH's figures include its start and connect, since that is what a person waits for; ours include hashing on both sides.
Ansible stands beside the facts only where it is installed.
"""

from __future__ import annotations

import contextlib
import gc
import getpass
import hashlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import paramiko
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.bars import Bar, minima, timed
from fieldops.deadline import Deadline
from fieldops.edges import keys, probe, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.pool import Pool
from fieldops.fleet import DeviceEntry, SshAddress

SIZE = 256 << 20
TURNS = 3
COPIES = 7
FRESH = 6
HOSTS = 50
PORTS_EACH = 10
REQUESTS = 50
REQUEST_TURNS = 20  # short turns, of which one at least falls between a neighbour's
GCM = "aes128-gcm@openssh.com"


def soon() -> Deadline:
    return Deadline.after(300, time.monotonic)


@contextlib.contextmanager
def sshd(folder: Path, ports: int) -> Iterator[list[DeviceEntry]]:
    """Servers that listen on several ports each (sshd takes 16 at most): for us, as many hosts."""
    keys.ssh_keygen(folder / "host")
    keys.ssh_keygen(folder / "id")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(ports)]
        numbers = [sock.getsockname()[1] for sock in held]
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for first in range(0, ports, PORTS_EACH):
            config = folder / f"sshd-{first}"
            lines = [f"ListenAddress 127.0.0.1:{number}" for number in numbers[first : first + PORTS_EACH]]
            config.write_text("\n".join([*lines, *_settings(folder)]) + "\n")
            started.append(subprocess.Popen([program, "-D", "-f", config], stdin=subprocess.DEVNULL))
        until = time.monotonic() + 10
        for number in numbers:
            while time.monotonic() < until:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", number), 1):
                    break
        yield [DeviceEntry(name=f"host-{number}", ssh=SshAddress(None, "127.0.0.1", number)) for number in numbers]
    finally:
        for process in started:
            process.terminate()
            process.wait(10)


def _settings(folder: Path) -> list[str]:
    return [
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'id.pub'}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "LogLevel ERROR",
        "MaxStartups 200",
        "Subsystem sftp internal-sftp",
        "SetEnv SHLVL=5",
    ]


def linked(entry: DeviceEntry, folder: Path, known: KnownHosts) -> ssh.SshLink:
    return ssh.connect(entry, known_hosts=known, identities=[folder / "id"], deadline=soon())


def known_hosts(folder: Path, entries: list[DeviceEntry]) -> KnownHosts:
    public = (folder / "host.pub").read_text()
    return KnownHosts.parse("".join(f"[127.0.0.1]:{entry.ssh.port} {public}" for entry in entries if entry.ssh))


def _openssh(program: str, folder: Path, *words: str) -> Callable[[], None]:
    options = ["-q", "-F", "none", "-i", str(folder / "id"), "-c", GCM, "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null"]

    def go() -> None:
        subprocess.run([program, *options, *words], check=True, timeout=300, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    return go


def _bare(entry: DeviceEntry, folder: Path) -> paramiko.Transport:
    assert entry.ssh is not None
    transport = paramiko.Transport((entry.ssh.host, entry.ssh.port))
    transport.connect(username=getpass.getuser(), pkey=paramiko.PKey.from_path(folder / "id"))
    return transport


def copies(folder: Path, entry: DeviceEntry, known: KnownHosts) -> Iterator[Bar]:
    assert entry.ssh is not None
    near, far, back = folder / "near", folder / "far", folder / "back"
    with near.open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    port, host = str(entry.ssh.port), "127.0.0.1"
    link = linked(entry, folder, known)
    transport = _bare(entry, folder)
    sftp = paramiko.SFTPClient.from_transport(transport)
    assert sftp is not None
    ours, scp, put = minima(
        COPIES,
        lambda: link.upload(near, str(far), soon()),
        _openssh("scp", folder, "-P", port, str(near), f"{host}:{folder / 'far-scp'}"),
        lambda: sftp.put(str(near), str(folder / "far-put")),
    )
    yield Bar("upload over SSH", "scp aes128-gcm", ours, scp, 0.65, at_least=True, note="256 MiB, digest checked")
    yield Bar("upload over SSH", "paramiko SFTPClient.put", ours, put, 1.4, at_least=True)
    ours, get = minima(
        COPIES,
        lambda: link.download(str(far), back, soon()),
        _openssh("sftp", folder, "-P", port, f"{host}:{far}", str(folder / "back-sftp")),
    )
    yield Bar("download over SSH", "sftp get aes128-gcm", ours, get, 0.7, at_least=True, note="256 MiB, digest checked")
    same = hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(near.read_bytes()).digest()
    assert same
    transport.close()
    link.close()
    for way in ("upload", "download"):
        grown = _grown(way, folder, entry, near, far)
        yield Bar(f"memory growth, {way}", "20 MB", grown, 20e6, 1, note="256 MiB", unit="B")


_COPY = """
import sys
from pathlib import Path
from benchmarks.links import known_hosts, linked, soon
from fieldops.fleet import DeviceEntry, SshAddress

way, folder, port, near, far = sys.argv[1:]
entry = DeviceEntry(name="one", ssh=SshAddress(None, "127.0.0.1", int(port)))
link = linked(entry, Path(folder), known_hosts(Path(folder), [entry]))
link.run(["true"], soon())


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = memory("VmRSS")
link.upload(Path(near), far, soon()) if way == "upload" else link.download(far, Path(near + "-back"), soon())
print(memory("VmHWM") - before)
link.close()
"""


def _grown(way: str, folder: Path, entry: DeviceEntry, near: Path, far: Path) -> int:
    """Bytes, in a process of its own: what this one has grown to already would hide it."""
    assert entry.ssh is not None
    words = [way, str(folder), str(entry.ssh.port), str(near), str(far)]
    done = subprocess.run([sys.executable, "-c", _COPY, *words], check=True, capture_output=True, text=True, timeout=300)
    return int(done.stdout)


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(path: Path) -> Iterator[None]:
    async def hello(_: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(16)
    server = _Quiet(uvicorn.Config(Starlette(routes=[Route("/hello", hello)]), log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def requests(folder: Path, entries: list[DeviceEntry], known: KnownHosts) -> Iterator[Bar]:
    path = str(folder / "s")
    with served(folder / "s"), contextlib.closing(linked(entries[0], folder, known)) as link:
        over = link.http(path, deadline=soon())
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://agent") as direct:

            def many(client: httpx.Client) -> None:
                for _ in range(REQUESTS):
                    client.get("/hello")

            ours, peer = (each / REQUESTS for each in minima(REQUEST_TURNS, lambda: many(over), lambda: many(direct)))
        stall = max(_first(path, entry, folder, known) for entry in entries[:FRESH])
    note = f"{(ours - peer) * 1e3:+.2f} ms a request"
    yield Bar("kept-alive request over SSH", "the same socket + 1 ms", ours, peer + 1e-3, 1, note=note)
    note = f"median of the first 20 over a fresh link, the worst of {FRESH}"
    yield Bar("first requests over SSH", "a Nagle stall", stall, 0.04, 0.5, note=note)


def _first(path: str, entry: DeviceEntry, folder: Path, known: KnownHosts) -> float:
    with contextlib.closing(linked(entry, folder, known)) as link:
        client = link.http(path, deadline=soon())
        return statistics.median(timed(lambda: client.get("/hello")) for _ in range(20))


def commands(folder: Path, entry: DeviceEntry, known: KnownHosts) -> Iterator[Bar]:
    """Eight threads on one link, with the collector as it is and with one that runs all the time."""
    wrong: list[str] = []

    def work(link: ssh.SshLink, number: int) -> None:
        for turn in range(1000):
            said = link.run(["printf", "%s", f"{number}.{turn}"], soon()).out.decode()
            if said != f"{number}.{turn}":
                wrong.append(said)

    def all_of_them() -> None:
        with contextlib.closing(linked(entry, folder, known)) as link, ThreadPoolExecutor(8) as workers:
            for done in [workers.submit(work, link, number) for number in range(8)]:
                done.result()

    usual = timed(all_of_them)
    before = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        eager = timed(all_of_them)
    finally:
        gc.set_threshold(*before)
    yield Bar(
        "8 threads x 1,000 commands, one link", "with gc (50, 2, 2)", usual, eager, None, note=f"{len(wrong)} errors in both"
    )


def facts(folder: Path, entries: list[DeviceEntry], known: KnownHosts) -> Iterator[Bar]:
    pool: Pool[ssh.SshLink] = Pool(time.monotonic)
    bare = {entry.name: _bare(entry, folder) for entry in entries}

    def ours(entry: DeviceEntry) -> None:
        with pool.borrow(entry.name, None, lambda: linked(entry, folder, known), soon()) as link:
            probe.read_facts(link, soon())

    def peer(entry: DeviceEntry) -> None:
        channel = bare[entry.name].open_session(timeout=30)
        channel.exec_command(ssh.line_of(probe.SCRIPT))
        while channel.recv(65536):
            pass
        channel.recv_exit_status()
        channel.close()

    with ThreadPoolExecutor(16) as workers:
        warm, theirs = minima(TURNS + 2, lambda: list(workers.map(ours, entries)), lambda: list(workers.map(peer, entries)))
    ansible = "" if shutil.which("ansible") else "ansible is not installed, so not beside it"
    yield Bar(f"facts of {len(entries)} sshd, warm", "bare paramiko pool", warm, theirs, 1.2, note=ansible)
    pool.close()
    for transport in bare.values():
        transport.close()
    if not ansible:
        yield from _ansible(folder, entries, warm)


def _ansible(folder: Path, entries: list[DeviceEntry], warm: float) -> Iterator[Bar]:
    lines = [
        f"{entry.name} ansible_host=127.0.0.1 ansible_port={entry.ssh.port} ansible_ssh_private_key_file={folder / 'id'}"
        " ansible_python_interpreter=auto_silent"
        for entry in entries
        if entry.ssh
    ]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    start = time.perf_counter()
    subprocess.run(
        ["ansible", "all", "-i", folder / "hosts", "-m", "setup", "-f", str(len(entries))],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_SSH_ARGS": "-o UserKnownHostsFile=/dev/null"},
        timeout=600,
    )
    yield Bar("facts, warm", "ansible -m setup", warm, time.perf_counter() - start, 10, at_least=True)


def bars() -> Iterator[Bar]:
    if shutil.which("sshd") is None and not Path("/usr/sbin/sshd").exists():
        sys.stderr.write("links: no sshd here (Debian: apt-get install openssh-server)\n")
        return
    with tempfile.TemporaryDirectory(prefix="fo-") as name:
        folder = Path(name)
        with sshd(folder, HOSTS) as entries:
            known = known_hosts(folder, entries)
            yield from requests(folder, entries, known)
            yield from facts(folder, entries, known)
            yield from copies(folder, entries[0], known)
            yield from commands(folder, entries[0], known)

"""Jobs that end with whoever began them, and sudo: what is on the device afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import ssh
from fieldops.errors import Cancelled, DeadlinePassed, NotAuthorised
from tests.links.conftest import SshServer, asyncssh_server, linked, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")


def alive(mark: str) -> list[int]:
    """Processes whose environment or command carries the mark."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in line and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def gone_within(mark: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(mark):
        if time.monotonic() > until:
            return False
        threading.Event().wait(0.02)
    return True


@pytest.fixture
def link(server: SshServer) -> Iterator[ssh.SshLink]:
    with closing(linked(server)) as made_link:
        yield made_link


def _job(mark: str) -> str:
    return f"sh -c 'exec sleep 300 # {mark}' & sh -c 'sleep 300; : {mark}' & echo begun; wait # {mark}"


def test_a_job_gives_its_output_as_it_comes_and_its_status(link: ssh.SshLink) -> None:
    seen: list[bytes] = []
    done = link.run("echo one; echo two >&2; exit 7", soon(), job=True, on_output=seen.append)
    assert (done.rc, done.out, done.err, b"".join(seen)) == (7, b"one\n", b"two\n", b"one\n")
    assert link.run("cat", soon(), job=True).out == b""


def test_a_cancelled_job_is_gone_from_the_device_in_two_seconds(link: ssh.SshLink, tmp_path: Path) -> None:
    mark, token = f"cancel-{tmp_path.name}-{os.getpid()}", CancelToken()
    with pytest.raises(Cancelled):
        link.run(_job(mark), Deadline.after(30, time.monotonic, token), job=True, on_output=lambda _: token.cancel())
    assert gone_within(mark, 2)
    assert link.run(["true"], soon()).rc == 0


def test_a_job_ends_with_its_deadline(link: ssh.SshLink, tmp_path: Path) -> None:
    mark = f"late-{tmp_path.name}-{os.getpid()}"
    with pytest.raises(DeadlinePassed):
        link.run(_job(mark), soon(0.5), job=True)
    assert gone_within(mark, 2)


LAPTOP = """
import sys, time
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges import ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.fleet import DeviceEntry, parse_ssh_address
at, known, identity, script = sys.argv[1:]
entry = DeviceEntry(name="one", ssh=parse_ssh_address(at))
link = ssh.connect(entry, known_hosts=KnownHosts.load([Path(known)]), identities=[Path(identity)],
                   deadline=Deadline.after(20, time.monotonic))
link.run(script, Deadline.after(300, time.monotonic), job=True, on_output=lambda data: print(data.decode(), flush=True))
"""


def test_a_job_ends_with_its_laptop(server: SshServer, tmp_path: Path) -> None:
    mark = f"killed-{tmp_path.name}-{os.getpid()}"
    assert server.entry.ssh is not None
    public = (server.folder / "host_key.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.entry.ssh.port} {public}")
    laptop = subprocess.Popen(
        [sys.executable, "-c", LAPTOP, str(server.entry.ssh), tmp_path / "known", server.identity, _job(mark)],
        stdout=subprocess.PIPE,
    )
    assert laptop.stdout is not None
    with laptop.stdout:
        assert laptop.stdout.readline() == b"begun\n"
        laptop.send_signal(signal.SIGKILL)
        laptop.wait()
    assert gone_within(mark, 2)


# --- sudo: the device's program is stood in for by one that asks as sudo does ------------------------------------------------

SUDO = """#!/bin/sh
# as `sudo -S -p PROMPT -- COMMAND...`: asks on stderr, reads one line of stdin, at most three times
prompt=$3; shift 4
[ "$SUDO_PASSWORD" = none ] && exec "$@"
for n in 1 2 3; do
  printf %s "$prompt" >&2; IFS= read -r said || exit 1
  [ "$said" = "$SUDO_PASSWORD" ] && exec "$@"
  echo 'Sorry, try again.' >&2
done
exit 1
"""
ID = '#!/bin/sh\n[ "$1" = -u ] && { echo 1000; exit; }\nexec /usr/bin/id "$@"\n'


@pytest.fixture(params=["secret", "none"])
def asked(request: pytest.FixtureRequest, identity: Path, tmp_path: Path) -> Iterator[tuple[str, ssh.SshLink]]:
    """A login that is not root, on a device whose sudo wants this password."""
    for name, text in (("sudo", SUDO), ("id", ID)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SUDO_PASSWORD": str(request.param)}
    with asyncssh_server(tmp_path, identity, "", environment) as server, closing(linked(server)) as link:
        yield str(request.param), link


def test_sudo_with_its_password_and_without(asked: tuple[str, ssh.SshLink]) -> None:
    password, link = asked
    questions: list[str] = []

    def person() -> str:
        questions.append("password")
        return "secret"

    sudo = ssh.Sudo(person)
    done = link.run("echo out; echo err >&2; cat; exit 3", soon(), sudo=sudo)
    assert (done.rc, done.out, done.err) == (3, b"out\n", b"err\n")
    assert questions == (["password"] if password == "secret" else [])
    # what is given to the command is all that it reads: the password stays with sudo
    assert link.run(["cat"], soon(), sudo=sudo, stdin=b"input\n" * 9).out == b"input\n" * 9
    assert link.run("echo job", soon(), sudo=sudo, job=True).out == b"job\n"


def test_a_password_that_sudo_does_not_take_is_said_at_once(asked: tuple[str, ssh.SshLink]) -> None:
    password, link = asked
    for sudo in (ssh.Sudo(), ssh.Sudo(lambda: "wrong"), ssh.Sudo(lambda: None)):
        if password == "none":
            assert link.run("echo fine", soon(), sudo=sudo).out == b"fine\n"
            continue
        with pytest.raises(NotAuthorised) as caught:
            link.run("echo never", soon(5), sudo=sudo)
        assert caught.value.reason == "sudo_refused"
    assert link.run(["true"], soon()).rc == 0


def test_no_sudo_there_is_said(server: SshServer, link: ssh.SshLink) -> None:
    """A login that is root needs none; on the servers of these tests that depends on who runs them."""
    if os.geteuid() == 0:
        assert link.run("echo fine", soon(), sudo=ssh.Sudo()).out == b"fine\n"
        return
    with pytest.raises(NotAuthorised):
        link.run("echo never", soon(5), sudo=ssh.Sudo())

"""Long matrices; `make faults` runs them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fieldops.edges import ssh
from fieldops.fleet import DeviceEntry, SshAddress
from tests.links.conftest import HAS_SSHD, Cable, SshServer, linked, openssh_server, soon

pytestmark = pytest.mark.slow_faults


@pytest.fixture(params=[None, (50, 2, 2)], ids=["default-gc", "eager-gc"])
def collector(request: pytest.FixtureRequest) -> Iterator[None]:
    before = gc.get_threshold()
    if request.param:
        gc.set_threshold(*request.param)
    yield
    gc.set_threshold(*before)


@pytest.mark.timeout(900)
def test_eight_threads_and_a_thousand_commands_each(server: SshServer, collector: None) -> None:
    wrong: list[object] = []

    def work(link: ssh.SshLink, number: int) -> None:
        for turn in range(1000):
            done = link.run(["printf", "%s", f"{number}.{turn}"], soon(60))
            if done.out != f"{number}.{turn}".encode() or done.rc != 0:
                wrong.append(done)

    with closing(linked(server)) as link:
        threads = [threading.Thread(target=work, args=(link, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert link.alive
    assert wrong == []
    log = server.folder / "sshd.log"
    assert not log.exists() or b"nonexistent channel" not in log.read_bytes()


def _busy(link: ssh.SshLink, much: str) -> list[object]:
    """Much data in one command while others come and go."""
    wrong: list[object] = []
    over = threading.Event()

    def short() -> None:
        while not over.is_set():
            done = link.run(["printf", "on"], soon(60))
            if done.out != b"on":
                wrong.append(done)

    threads = [threading.Thread(target=short) for _ in range(3)]
    for thread in threads:
        thread.start()
    done = link.run(much, soon(120))
    over.set()
    for thread in threads:
        thread.join()
    if done.rc != 0 or not done.truncated:
        wrong.append(done.rc)
    return wrong


@pytest.mark.timeout(300)
def test_a_gigabyte_over_one_link_while_commands_come_and_go(server: SshServer) -> None:
    """Twice what makes paramiko ask for new keys, which deadlocked against a channel that closed just then."""
    with closing(linked(server)) as link:
        assert _busy(link, "head -c 1200000000 /dev/zero") == []
        assert link.alive


@pytest.mark.needs_sshd
@pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server")
@pytest.mark.timeout(300)
def test_a_server_that_wants_new_keys_all_the_time(identity: Path, tmp_path: Path) -> None:
    with openssh_server(tmp_path, identity, {}, "RekeyLimit 1M") as server, closing(linked(server)) as link:
        assert _busy(link, "head -c 100000000 /dev/zero") == []
        assert link.alive


@pytest.mark.timeout(300)
def test_a_link_that_stalls_for_five_seconds_again_and_again_is_never_closed(server: SshServer) -> None:
    assert server.entry.ssh is not None
    cable = Cable(server.entry.ssh.port)
    entry = DeviceEntry(name="one", ssh=SshAddress(server.entry.ssh.user, "127.0.0.1", cable.port))
    try:
        link = ssh.connect(entry, known_hosts=server.known_under(cable.port), identities=[server.identity], deadline=soon())
        with closing(link):
            for _ in range(5):
                cable.stalled.set()
                threading.Event().wait(5)
                cable.stalled.clear()
                assert link.run(["printf", "on"], soon(10)).out == b"on"
            assert link.alive
    finally:
        cable.close()

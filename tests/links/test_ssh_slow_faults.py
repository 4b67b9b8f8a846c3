"""Long matrices; `make faults` runs them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from fieldops.edges import ssh
from fieldops.fleet import DeviceEntry, SshAddress
from tests.links.conftest import Cable, SshServer, linked, soon

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

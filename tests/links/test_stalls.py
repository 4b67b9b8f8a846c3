"""Copies over a bad way: a device that stops and goes on, one that stops for good, a long slow wire."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from fieldops.edges import ssh
from fieldops.errors import FieldopsError, LinkLost
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.ports import Progress
from tests.links.conftest import Cable, SshServer, linked, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")
MEBI = 1 << 20


def serving(server: SshServer) -> list[int]:
    """The processes that speak for the device: the server's own and, for sshd, those of its connections."""
    return [server.process.pid] if server.kind == "asyncssh" else server.children()


def send(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):  # a command of before may just have ended
            os.kill(pid, number)


def copying(
    server: SshServer, near: Path, far: Path, way: str
) -> tuple[ssh.SshLink, Callable[[Callable[[Progress], None]], object]]:
    """A link, and the copy over it that tells how far it is."""
    link = linked(server)
    near.write_bytes(random.Random(3).randbytes(24 * MEBI))
    if way == "down":
        near.rename(far)
        return link, lambda tell: link.download(str(far), near, soon(120), tell)
    return link, lambda tell: link.upload(near, str(far), soon(120), tell)


def stalled(server: SshServer, tmp_path: Path, way: str, seconds: float, times: int) -> None:
    """At each of a few places of the copy the device stops, and goes on."""
    near, far = tmp_path / "near", tmp_path / "far"
    link, copy = copying(server, near, far, way)
    places = [24 * MEBI * number // (times + 1) for number in range(1, times + 1)]
    stops: list[float] = []

    def tell(progress: Progress) -> None:
        if places and progress.done >= places[0]:
            places.pop(0)
            stopped = serving(server)
            send(stopped, signal.SIGSTOP)
            stops.append(time.monotonic())
            timer = threading.Timer(seconds, send, (stopped, signal.SIGCONT))
            timer.start()
            timers.append(timer)

    timers: list[threading.Timer] = []
    with closing(link):
        copy(tell)
        assert link.alive
    for timer in timers:
        timer.join()
    assert len(stops) == times
    assert near.read_bytes() == far.read_bytes()


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_device_that_stops_for_a_moment_again_and_again_loses_no_copy(server: SshServer, tmp_path: Path, way: str) -> None:
    stalled(server, tmp_path, way, 0.4, 3)


@pytest.mark.slow_faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["up", "down"])
def test_stalls_of_five_seconds_again_and_again_lose_no_copy(server: SshServer, tmp_path: Path, way: str) -> None:
    stalled(server, tmp_path, way, 5.0, 4)


@contextmanager
def stopped_at(server: SshServer, bytes_done: int) -> Iterator[Callable[[Progress], None]]:
    """The device stops for good once so much has been copied; it goes on when the test is over."""
    stopped: list[int] = []

    def tell(progress: Progress) -> None:
        if not stopped and progress.done >= bytes_done:
            stopped.extend(serving(server))
            send(stopped, signal.SIGSTOP)

    try:
        yield tell
    finally:
        send(stopped, signal.SIGCONT)


@pytest.mark.slow_faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_device_that_stops_for_good_is_a_lost_link_within_ten_seconds(server: SshServer, tmp_path: Path, way: str) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    link, copy = copying(server, near, far, way)
    last = 0.0

    def told(progress: Progress) -> None:
        nonlocal last
        last = time.monotonic()
        tell(progress)

    with stopped_at(server, 8 * MEBI) as tell, closing(link):
        with pytest.raises(FieldopsError) as caught:
            copy(told)
        assert time.monotonic() - last < 10.5
    assert isinstance(caught.value, LinkLost)
    assert (caught.value.exit_code, caught.value.device) == (5, "one")
    assert not (far if way == "up" else near).exists()
    with closing(linked(server)) as again:  # and what was brought is not brought again
        done = again.upload(near, str(far), soon(60)) if way == "up" else again.download(str(far), near, soon(60))
    assert done.resumed_from > 0  # how much, depends on what that server keeps in memory
    assert near.read_bytes() == far.read_bytes()


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_long_slow_wire(server: SshServer, tmp_path: Path, way: str) -> None:
    """50 ms each way and 8 MB a second: more is kept under way, and nothing is sent twice."""
    near, far = tmp_path / "near", tmp_path / "far"
    (near if way == "up" else far).write_bytes(random.Random(5).randbytes(4 * MEBI))
    assert server.entry.ssh is not None
    cable = Cable(server.entry.ssh.port, delay_s=0.05, rate=8e6)
    entry = DeviceEntry(name="one", ssh=SshAddress(server.entry.ssh.user, "127.0.0.1", cable.port))
    try:
        link = ssh.connect(entry, known_hosts=server.known_under(cable.port), identities=[server.identity], deadline=soon(60))
        with closing(link):
            assert link.run(["printf", "on"], soon()).out == b"on"
            assert link.round_trip_s >= 0.1
            done = link.upload(near, str(far), soon(60)) if way == "up" else link.download(str(far), near, soon(60))
        assert (done.resumed_from, done.moved) == (0, 4 * MEBI)
        assert near.read_bytes() == far.read_bytes()
    finally:
        cable.close()

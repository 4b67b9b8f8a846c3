"""Files over SSH: whole and verified or not there, going on after a cut, with little sent twice."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import ssh
from fieldops.edges.ssh import upload
from fieldops.errors import Cancelled, DeviceCannot, LinkLost, StorageFault
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.ports import Progress
from tests.links.conftest import HAS_SSHD, Cable, SshServer, linked, openssh_server, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")

MEBI = 1 << 20


def made(path: Path, size: int, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


@pytest.fixture
def link(server: SshServer) -> Iterator[ssh.SshLink]:
    with closing(linked(server)) as made_link:
        yield made_link


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3 * MEBI + 5])
def test_a_file_arrives_whole_and_comes_back(link: ssh.SshLink, tmp_path: Path, size: int) -> None:
    data = made(tmp_path / "local", size)
    remote = tmp_path / "far" / "it's a $name"
    remote.parent.mkdir()
    seen: list[Progress] = []
    done = link.upload(tmp_path / "local", str(remote), soon(), seen.append, mode=0o755)
    assert remote.read_bytes() == data
    assert (done.size, done.sha256, done.resumed_from) == (size, hashlib.sha256(data).hexdigest(), 0)
    assert remote.stat().st_mode & 0o777 == 0o755
    assert seen[-1].done == seen[-1].total == size
    back = link.download(str(remote), tmp_path / "back", soon())
    assert (tmp_path / "back").read_bytes() == data
    assert back.sha256 == done.sha256
    assert sorted(path.name for path in remote.parent.iterdir()) == ["it's a $name"]
    assert not list(tmp_path.glob("*.part"))


def test_what_an_earlier_try_left_is_gone_on_from_and_a_damaged_one_begins_anew(link: ssh.SshLink, tmp_path: Path) -> None:
    data = made(tmp_path / "local", 2 * MEBI)
    token = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.done >= MEBI:
            token.cancel()

    far = tmp_path / "far"
    far.mkdir()
    until = Deadline.after(20, time.monotonic, token)
    with pytest.raises(Cancelled):
        link.upload(tmp_path / "local", str(far / "file"), until, stop, in_flight=ssh.LEAST_IN_FLIGHT)
    (part,) = far.iterdir()
    done = link.upload(tmp_path / "local", str(far / "file"), soon())
    assert MEBI // 2 <= done.resumed_from <= MEBI
    assert done.moved == 2 * MEBI - done.resumed_from
    assert (far / "file").read_bytes() == data

    part.write_bytes(b"?" + data[1:MEBI])
    done = link.upload(tmp_path / "local", str(far / "file"), soon())
    assert (done.resumed_from, done.moved) == (0, 2 * MEBI)
    assert (far / "file").read_bytes() == data
    assert [path.name for path in far.iterdir()] == ["file"]


def test_a_download_goes_on_from_what_is_here(link: ssh.SshLink, tmp_path: Path) -> None:
    data = made(tmp_path / "far", 2 * MEBI)
    token = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.done >= MEBI:
            token.cancel()

    with pytest.raises(Cancelled):
        link.download(str(tmp_path / "far"), tmp_path / "near", Deadline.after(20, time.monotonic, token), stop)
    (part,) = tmp_path.glob("near.*.part")
    kept = part.stat().st_size // 65536 * 65536
    assert kept >= MEBI - 65536
    done = link.download(str(tmp_path / "far"), tmp_path / "near", soon())
    assert (done.resumed_from, done.moved) == (kept, 2 * MEBI - kept)
    assert (tmp_path / "near").read_bytes() == data


def test_a_damaged_beginning_of_a_download_is_noticed_and_the_next_try_is_right(link: ssh.SshLink, tmp_path: Path) -> None:
    data = made(tmp_path / "far", MEBI)
    token = CancelToken()
    with pytest.raises(Cancelled):
        link.download(
            str(tmp_path / "far"), tmp_path / "near", Deadline.after(20, time.monotonic, token), lambda _: token.cancel()
        )
    (part,) = tmp_path.glob("near.*.part")
    part.write_bytes(bytes(2 * 65536))
    with pytest.raises(DeviceCannot) as caught:
        link.download(str(tmp_path / "far"), tmp_path / "near", soon())
    assert caught.value.reason == "damaged_copy"
    assert not (tmp_path / "near").exists()
    link.download(str(tmp_path / "far"), tmp_path / "near", soon())
    assert (tmp_path / "near").read_bytes() == data


def test_what_cannot_be_written_or_read_is_said(link: ssh.SshLink, tmp_path: Path) -> None:
    made(tmp_path / "local", 300_000)
    with pytest.raises(DeviceCannot) as caught:
        link.upload(tmp_path / "local", str(tmp_path / "no" / "folder" / "file"), soon())
    assert caught.value.reason == "cannot_write"
    assert "folder" in caught.value.message
    with pytest.raises(DeviceCannot) as caught:
        link.download(str(tmp_path / "nothing"), tmp_path / "near", soon())
    assert caught.value.reason == "cannot_read"
    with pytest.raises(StorageFault):
        link.upload(tmp_path / "nothing", str(tmp_path / "far"), soon())
    assert link.alive


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_disk_that_is_full_is_said_and_the_old_file_stays(server: SshServer, tmp_path: Path) -> None:
    """A real write error of the device: its `.part` is a link to a file that takes no byte."""
    made(tmp_path / "local", MEBI)
    far = tmp_path / "far"
    far.mkdir()
    (far / "file").write_text("old")
    with closing(linked(server)) as link:
        name = upload.part_name(str(far / "file"), tmp_path / "local")
        part = Path(name)
        part.symlink_to("/dev/full")
        with pytest.raises(DeviceCannot) as caught:
            link.upload(tmp_path / "local", str(far / "file"), soon())
        assert caught.value.reason == "disk_full"
        assert (far / "file").read_text() == "old"
        assert link.run(["true"], soon()).rc == 0


SMALL = 'mount -t tmpfs -o size=5m x "$1" && shift && exec "$@"'
MAY_MOUNT = (
    shutil.which("unshare") is not None
    and os.geteuid() == 0
    and subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.needs_sshd
@pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server")
@pytest.mark.skipif(not MAY_MOUNT, reason="this machine allows no mounts")
def test_a_disk_that_fills_up_meanwhile_leaves_the_old_file_and_room_is_all_it_takes(identity: Path, tmp_path: Path) -> None:
    small, server_folder = tmp_path / "small", tmp_path / "server"
    small.mkdir()
    server_folder.mkdir()
    inside = ["unshare", "-m", "sh", "-c", SMALL, "sh", str(small)]
    file = f"{small}/file"
    with openssh_server(server_folder, identity, {}, inside=inside) as server, closing(linked(server)) as link:

        def there() -> bytes:
            return link.run(["ls", "-A", str(small)], soon()).out

        assert link.run(f"printf old >{file}", soon()).rc == 0
        made(tmp_path / "big", 8 * MEBI)
        with pytest.raises(DeviceCannot) as caught:  # before the first byte
            link.upload(tmp_path / "big", file, soon())
        assert (caught.value.reason, caught.value.exit_code) == ("disk_full", 6)
        assert there() == b"file\n"

        data = made(tmp_path / "local", 3 * MEBI)
        fills = [f"cat /dev/zero >{small}/other 2>/dev/null; :"]

        def fill(_: Progress) -> None:
            if fills:
                link.run(fills.pop(), soon())

        with pytest.raises(DeviceCannot) as caught:
            link.upload(tmp_path / "local", file, soon(), fill, in_flight=ssh.LEAST_IN_FLIGHT)
        assert (caught.value.reason, caught.value.exit_code) == ("disk_full", 6)
        assert "room" in caught.value.next_step
        assert link.run(["cat", file], soon()).out == b"old"
        assert link.run(["rm", f"{small}/other"], soon()).rc == 0
        link.upload(tmp_path / "local", file, soon())
        assert link.run(["cat", file], soon()).out == data
        assert there() == b"file\n"


@pytest.mark.parametrize("way", ["up", "down"])
def test_cuts_cost_little_and_nobody_ever_sees_half_a_file(server: SshServer, tmp_path: Path, way: str) -> None:
    size = 24 * MEBI
    near, far = tmp_path / "near", tmp_path / "far"
    data = made(near if way == "up" else far, size)
    target = far if way == "up" else near
    assert server.entry.ssh is not None
    cable = Cable(server.entry.ssh.port)
    entry = DeviceEntry(name="one", ssh=SshAddress(server.entry.ssh.user, "127.0.0.1", cable.port))
    at_byte = [size // 4, size // 2, 3 * size // 4]
    halves: list[int] = []

    def cut(progress: Progress) -> None:
        if target.exists():
            halves.append(target.stat().st_size)
        if at_byte and progress.done >= at_byte[0]:
            at_byte.pop(0)
            cable.pull()

    def open_link(deadline: Deadline) -> ssh.SshLink:
        return ssh.connect(entry, known_hosts=server.known_under(cable.port), identities=[server.identity], deadline=deadline)

    try:
        if way == "up":
            done = ssh.deliver(open_link, near, str(far), soon(60), cut)
        else:
            done = ssh.fetch(open_link, str(far), near, soon(60), cut)
        assert cable.pulled == 3
        carried = cable.carried_out if way == "up" else cable.carried_back
        assert target.read_bytes() == data
        assert done.sha256 == hashlib.sha256(data).hexdigest()
        assert carried <= 1.3 * size, carried / size
        assert set(halves) <= {size}
        assert not list(tmp_path.glob("*.part"))
    finally:
        cable.close()


def test_a_cut_without_a_new_link_is_a_lost_link(server: SshServer, tmp_path: Path) -> None:
    made(tmp_path / "near", 8 * MEBI)
    with closing(linked(server)) as link:
        with pytest.raises(LinkLost):
            link.upload(tmp_path / "near", str(tmp_path / "far"), soon(), lambda _: link._sock.abort())
        assert not (tmp_path / "far").exists()

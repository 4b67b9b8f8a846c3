"""One SSH connection, against two servers: what arrives, what is refused, and how it ends."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import keys, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.errors import (
    Cancelled,
    DeadlinePassed,
    HostKeyChanged,
    HostKeyUnknown,
    LinkFault,
    LinkLost,
    NotAuthorised,
    Unreachable,
)
from fieldops.fleet import DeviceEntry, SshAddress
from tests.links.conftest import SshServer, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")


def connected(server: SshServer, deadline: Deadline | None = None) -> ssh.SshLink:
    return ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=deadline or soon())


# --- commands ------------------------------------------------------------------------------------------------------------


def test_a_command_gives_status_output_and_complaints(server: SshServer) -> None:
    link = connected(server)
    try:
        done = link.run("printf out; printf err >&2; exit 3", soon())
        assert (done.rc, done.out, done.err, done.truncated) == (3, b"out", b"err", False)
        assert link.run(["printf", "%s|", "a b", "c'd", "$HOME", ""], soon()).out == b"a b|c'd|$HOME||"
        assert link.run("cat", soon()).out == b""  # nothing waits for a stdin that nobody gives
        assert link.run(["cat"], soon(), stdin=b"x" * 300_000).out == b"x" * 300_000
    finally:
        link.close()


def test_fifty_megabytes_of_stderr_in_front_of_stdout_do_not_block(server: SshServer) -> None:
    link = connected(server)
    try:
        done = link.run("head -c 50000000 /dev/zero >&2; printf x", soon(60))
        assert (done.rc, done.out, len(done.err), done.truncated) == (0, b"x", ssh.OUTPUT_LIMIT, True)
        done = link.run("head -c 5000000 /dev/zero >&2; printf x", soon())
        assert (done.out, len(done.err), done.truncated) == (b"x", 5_000_000, False)
    finally:
        link.close()


def test_output_without_end_is_cut_and_said(server: SshServer) -> None:
    link = connected(server)
    try:
        done = link.run(f"head -c {ssh.OUTPUT_LIMIT + 1} /dev/zero", soon())
        assert (len(done.out), done.truncated, done.rc) == (ssh.OUTPUT_LIMIT, True, 0)
    finally:
        link.close()


def test_many_threads_share_a_link(server: SshServer) -> None:
    link = connected(server)
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(25):
            done = link.run(["printf", "%s", f"{number}.{turn}"], soon())
            if done.out != f"{number}.{turn}".encode() or done.rc != 0:
                wrong.append(done)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert link.alive
    link.close()


def test_a_command_that_takes_too_long_ends_with_the_callers_deadline_and_the_link_goes_on(server: SshServer) -> None:
    link = connected(server)
    try:
        with pytest.raises(DeadlinePassed) as caught:
            link.run("sleep 30", soon(0.3))
        assert caught.value.phase == "exec"
        assert link.run(["printf", "still here"], soon()).out == b"still here"
    finally:
        link.close()


def test_a_cancel_is_noticed_at_once(server: SshServer) -> None:
    link = connected(server)
    token = CancelToken()
    threading.Timer(0.2, token.cancel).start()
    began = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            link.run("sleep 30", Deadline.after(25, time.monotonic, token))
        assert time.monotonic() - began < 5
    finally:
        link.close()


# --- HTTP over it --------------------------------------------------------------------------------------------------------


def test_http_over_the_remote_socket(server: SshServer, runtime: Path) -> None:
    link = connected(server)
    try:
        client = link.http(str(runtime / "agent.sock"), deadline=soon())
        assert client.get("/hello").text == "hello agent"
        assert client.put("/count", content=b"x" * 5_000_000).text == "5000000"
        assert len(client.get("/much", params={"pieces": 40}).content) == 40 * 65536
        assert [client.get("/hello").status_code for _ in range(30)] == [200] * 30
    finally:
        link.close()


def test_requests_side_by_side(server: SshServer, runtime: Path) -> None:
    link = connected(server)
    client = link.http(str(runtime / "agent.sock"), deadline=soon())
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(client.get("/much", params={"pieces": 10}).content))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [655_360] * 8
    link.close()


def test_no_agent_behind_the_socket_is_said_and_the_link_stays(server: SshServer, runtime: Path) -> None:
    link = connected(server)
    try:
        client = link.http(str(runtime / "nobody.sock"), deadline=soon())
        with pytest.raises(Unreachable) as caught:
            client.get("/hello")
        assert caught.value.phase == "open"
        assert "nobody.sock" in caught.value.message
        assert link.run(["true"], soon()).rc == 0
    finally:
        link.close()


# --- who is there --------------------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused_with_its_fingerprint(server: SshServer) -> None:
    with pytest.raises(HostKeyUnknown) as caught:
        connected(replace(server, known_hosts=KnownHosts()))
    key_type, blob = ssh.host_key(server.entry, soon())
    assert key_type == "ssh-ed25519"
    assert caught.value.fingerprint == keys.ssh_fingerprint(blob)
    assert caught.value.fingerprint in caught.value.next_step


def test_a_changed_host_key_names_both(server: SshServer, tmp_path: Path) -> None:
    known = keys.ssh_keygen(tmp_path / "another")
    assert server.entry.ssh is not None
    line = f"[127.0.0.1]:{server.entry.ssh.port} {(tmp_path / 'another.pub').read_text()}"
    with pytest.raises(HostKeyChanged) as caught:
        connected(replace(server, known_hosts=KnownHosts.parse(line)))
    assert known in caught.value.known
    assert caught.value.got == keys.ssh_fingerprint(ssh.host_key(server.entry, soon())[1])


def test_a_revoked_host_key_is_refused_even_where_it_is_known(server: SshServer) -> None:
    key_type, blob = ssh.host_key(server.entry, soon())
    public = (server.folder / "host_key.pub").read_text()
    assert server.entry.ssh is not None
    text = f"[127.0.0.1]:{server.entry.ssh.port} {public}\n@revoked * {public}"
    with pytest.raises(LinkFault) as caught:
        connected(replace(server, known_hosts=KnownHosts.parse(text)))
    assert caught.value.reason == "host_key_revoked"
    assert (key_type, keys.ssh_fingerprint(public)) == ("ssh-ed25519", keys.ssh_fingerprint(blob))


def test_a_login_that_is_refused_names_what_was_tried(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    keys.ssh_keygen(tmp_path / "stranger")
    with pytest.raises(NotAuthorised) as caught:
        connected(replace(server, identity=tmp_path / "stranger"))
    assert caught.value.reason == "login_refused"
    assert "stranger" in caught.value.message
    with pytest.raises(NotAuthorised) as caught:
        connected(replace(server, identity=tmp_path / "missing"))
    assert "missing" in caught.value.message


def test_a_stale_agent_socket_costs_two_seconds_and_no_more(
    server: SshServer, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(short_folder / f"agent-{server.kind}"))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(short_folder / f"agent-{server.kind}"))
        began = time.monotonic()
        with pytest.raises(NotAuthorised):
            ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[], deadline=soon())
        assert time.monotonic() - began < 6


# --- how it ends ---------------------------------------------------------------------------------------------------------


def test_after_close_every_call_says_that_the_link_is_gone(server: SshServer, runtime: Path) -> None:
    link = connected(server)
    client = link.http(str(runtime / "agent.sock"), deadline=soon())
    link.close()
    link.close()
    assert not link.alive
    with pytest.raises(LinkLost):
        link.run(["true"], soon())
    with pytest.raises((RuntimeError, httpx.HTTPError)):
        client.get("/hello")


def test_nothing_listens_there() -> None:
    entry = DeviceEntry(name="off", ssh=SshAddress("x", "127.0.0.1", 1))
    with pytest.raises(Unreachable) as caught:
        ssh.connect(entry, known_hosts=KnownHosts(), identities=[], deadline=soon(5))
    assert caught.value.phase == "tcp"


def test_a_name_that_does_not_exist() -> None:
    entry = DeviceEntry(name="off", ssh=SshAddress("x", "no-such-host.invalid", 22))
    with pytest.raises(Unreachable) as caught:
        ssh.connect(entry, known_hosts=KnownHosts(), identities=[], deadline=soon(10))
    assert caught.value.phase == "dns"

"""The store as the real program on 127.0.0.1, reached through HttpStore: kill -9, limits, refusals, the page."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldops.audit.entry import Draft
from fieldops.central.store import LogStore
from fieldops.deadline import CancelToken, Deadline
from fieldops.edges.store_api import HttpStore
from fieldops.errors import Cancelled, CheckFailed, StoreFault
from fieldops.operations import sync
from fieldops.wire import BATCH_LIMIT, b64


def headers(laptop: Any) -> dict[str, str]:
    return {
        "Fieldops-Checkpoint": b64(laptop.journal.checkpoint().encode()),
    }


def path_of(laptop: Any) -> str:
    return "/v1/logs/" + str(laptop.journal.log).removeprefix("fieldops/")


def test_a_push_reaches_the_store_and_its_end_is_clean(
    program: Any, laptop: Any, clock: Any, deadline: Deadline, read_store: Callable[[Any], LogStore]
) -> None:
    url = program.start()
    program.let_in(laptop, clock)
    laptop.write(*map(str, range(30)))
    attested: list[float] = []
    store_of = HttpStore(url, laptop.signer, attested=attested.append)
    report = sync.push(laptop.journal, store_of, clock, deadline)
    assert (report.pushed, report.size) == (30, 30)
    assert attested
    assert all(at > 1_700_000_000 for at in attested)
    assert program.end() == (0, "")
    store = read_store(program)
    assert store.entries(laptop.journal.log) == laptop.bodies()
    assert store.verify() == []
    store.close()


def test_sigterm_ends_the_program_cleanly_too(program: Any) -> None:
    program.start()
    program.process.terminate()
    _, said = program.process.communicate(timeout=20)
    assert (program.process.returncode, said) == (0, "")


# pushes again and again, whatever the store does meanwhile, and says when all is confirmed
PUSHER = """
import sys
from pathlib import Path
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer
from fieldops.edges.store_api import HttpStore
from fieldops.errors import StoreFault
from fieldops.operations import sync
home, url, clock = Path(sys.argv[1]), sys.argv[2], SystemClock()
signer = Ed25519Signer.load_or_create(home / "laptop.key")
journal = SqliteJournal.open(home / "audit.db", lambda: signer, clock)
sync.BATCH_ENTRIES = sync.MOST_ENTRIES = 3
store = HttpStore(url, signer)
while sync.status(journal).queued:
    try:
        sync.push(journal, store, clock, Deadline.after(20, clock.monotonic), lambda _: print("batch", flush=True))
    except StoreFault as fault:
        assert fault.exit_code == 9
"""


def test_every_entry_arrives_exactly_once_though_store_and_laptop_are_killed_while_pushing(
    program: Any, tmp_path: Path, clock: Any, new_laptop: Callable[[Path], Any], read_store: Callable[[Any], LogStore]
) -> None:
    laptop = new_laptop(tmp_path / "home" / "audit.db")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "laptop.key").write_bytes(laptop.signer.private_pem())
    laptop.write(*map(str, range(120)))
    url = program.start()
    program.let_in(laptop, clock)

    def push() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PUSHER, str(tmp_path / "home"), url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    pusher = push()
    for batches, kill_laptop in ((1, False), (2, True), (1, False), (3, True)):
        assert pusher.stdout is not None
        for _ in range(batches):
            assert pusher.stdout.readline() == "batch\n"
        program.kill()  # somewhere inside the next batch
        if kill_laptop:
            pusher.kill()
            pusher.communicate()
        assert program.start() == url
        if kill_laptop:
            pusher = push()
    _, said = pusher.communicate(timeout=60)
    assert (pusher.returncode, said) == (0, "")
    assert program.end() == (0, "")
    store = read_store(program)
    assert store.entries(laptop.journal.log) == laptop.bodies()
    assert (store.verify(), store.incidents()) == ([], [])
    store.close()


def test_laptops_that_push_at_once_do_not_mix(
    program: Any, tmp_path: Path, clock: Any, deadline: Deadline, new_laptop: Callable[[Path], Any]
) -> None:
    url = program.start()
    laptops = [new_laptop(tmp_path / f"{number}.db") for number in range(4)]
    for number, laptop in enumerate(laptops):
        program.let_in(laptop, clock)
        laptop.write(*(f"{number}-{entry}" for entry in range(40)))
    reports: list[sync.SyncReport] = []

    def push(laptop: Any) -> None:
        reports.append(sync.push(laptop.journal, HttpStore(url, laptop.signer), clock, deadline))

    threads = [threading.Thread(target=push, args=(laptop,)) for laptop in laptops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.pushed for report in reports] == [40] * 4
    assert program.end() == (0, "")
    store = LogStore.open(program.data, clock)
    for laptop in laptops:
        assert store.entries(laptop.journal.log) == laptop.bodies()
    assert store.verify() == []
    store.close()


def test_one_folder_has_one_store(program: Any, tmp_path: Path) -> None:
    program.start()
    second = subprocess.run(
        [sys.executable, "-m", "fieldops.central", "serve", "--data", str(program.data), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 8
    assert f"in use by process {program.process.pid}" in second.stderr


def test_verify_answers_by_its_exit_code(program: Any, laptop: Any, clock: Any, deadline: Deadline) -> None:
    laptop.write("a")
    url = program.start()
    program.let_in(laptop, clock)
    sync.push(laptop.journal, HttpStore(url, laptop.signer), clock, deadline)
    program.end()

    def verify() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldops.central", "verify", "--data", str(program.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    good = verify()
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    connection = sqlite3.connect(program.data / "store.db")
    connection.execute("UPDATE log SET note = 'x' || note")
    connection.commit()
    connection.close()
    bad = verify()
    assert (bad.returncode, json.loads(bad.stdout)["ok"]) == (7, False)


def test_what_the_program_answers_to_what_is_no_push(program: Any, laptop: Any, clock: Any) -> None:
    laptop.write("a")
    [body] = laptop.bodies()
    good = headers(laptop)
    path = path_of(laptop)
    line = body + b"\n"
    cases: list[tuple[str, str, bytes, dict[str, str], int, str]] = [
        ("POST", f"{path}/entries?from=1", b"", good, 422, "malformed"),
        ("POST", f"{path}/entries", line, good, 422, "malformed"),
        ("POST", f"{path}/entries?from=-1", line, good, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", line, {}, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", line, {"Fieldops-Checkpoint": "!"}, 422, "malformed"),
        ("POST", f"/v1/logs/{'x' * 52}/1/entries?from=1", line, good, 403, "not_enrolled"),
        ("POST", "/v1/enrol", b"{}", {}, 422, "malformed"),
        ("POST", "/v1/telemetry", b"{}", {}, 403, "not_enrolled"),
        ("POST", "/v1/telemetry", b"{}", {"Fieldops-Laptop": laptop.signer.laptop}, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", line, {**good, "Content-Encoding": "gzip"}, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", line, {**good, "Content-Encoding": "br"}, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", gzip.compress(line)[:-4], {**good, "Content-Encoding": "gzip"}, 422, "malformed"),
        ("POST", f"{path}/entries?from=1", b"x" * (BATCH_LIMIT + 1), good, 413, "too_large"),
        (
            "POST",
            f"{path}/entries?from=1",
            gzip.compress(bytes(40 << 20)),
            {**good, "Content-Encoding": "gzip"},
            413,
            "too_large",
        ),
        ("POST", f"{path}/entries?from=5", line, good, 422, "wrong_checkpoint"),
        ("GET", "/v1/logs/x/0/head", b"", {}, 200, ""),
        ("GET", "/v1/nothing", b"", {}, 404, "not_found"),
        ("DELETE", f"{path}/entries", b"", {}, 405, "not_found"),
    ]
    with httpx.Client(base_url=program.start(), timeout=20) as client:
        program.let_in(laptop, clock)
        for method, where, data, sent, status, reason in cases:
            answer = client.request(method, where, content=data, headers=sent)
            assert (answer.status_code, answer.json().get("reason", "")) == (status, reason), (where, answer.text)
        assert client.get(f"{path}/head").json()["size"] == 0
        accepted = client.post(f"{path}/entries?from=1", content=line, headers=good)
        assert (accepted.status_code, accepted.json()["accepted"]) == (200, 1)
        assert client.get("/healthz").text == "ok\n"
    assert program.end() == (0, "")


def test_the_page_shows_logs_entries_and_incidents_and_runs_nothing(
    program: Any, laptop: Any, clock: Any, deadline: Deadline
) -> None:
    url = program.start()
    program.let_in(laptop, clock)
    laptop.journal.append(Draft(actor="local:<script>alert(1)</script>", phase="note", act='"><img src=x>'))
    sync.push(laptop.journal, HttpStore(url, laptop.signer), clock, deadline)
    page = httpx.get(url + "/")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert laptop.signer.laptop[:8] in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_fork_comes_back_as_a_failed_check(program: Any, laptop: Any, clock: Any, deadline: Deadline) -> None:
    store = HttpStore(program.start(), laptop.signer)
    program.let_in(laptop, clock)
    laptop.write("a", "b")
    log = laptop.journal.log
    with pytest.raises(CheckFailed) as gap:
        store.push(log, 2, laptop.bodies(1), laptop.journal.checkpoint(), deadline)
    assert (gap.value.reason, gap.value.exit_code) == ("gap", 7)
    store.push(log, 1, laptop.bodies(), laptop.journal.checkpoint(), deadline)
    with pytest.raises(CheckFailed) as fork:
        store.push(log, 1, [b"{}", laptop.bodies()[1]], laptop.journal.checkpoint(), deadline)
    assert fork.value.reason == "fork"


# --- stores that are none --------------------------------------------------------------------------------------------------


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Something on 127.0.0.1 that says `reply` to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, contextlib.suppress(OSError):  # who asked may hang up at any moment
                    peer.recv(65536)
                    peer.sendall(reply)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


OTHER_KEY = json.dumps({"store": "a" * 52, "public_key": b64(bytes(32)), "time": 0, "versions": [1, 1]}).encode()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unreachable"),
        (ok(b"<html>login</html>"), "malformed_reply"),
        (ok(OTHER_KEY), "malformed_reply"),
        (ok(b"x" * (2 << 20)), "malformed_reply"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "unreachable"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n", "malformed_reply"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", "malformed_reply"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\noops", "bad_url"),
    ],
)
def test_whatever_answers_instead_of_a_store_is_a_store_fault(laptop: Any, deadline: Deadline, reply: bytes, reason: str) -> None:
    with answering(reply) as url, pytest.raises(StoreFault) as refused:
        HttpStore(url, laptop.signer).identity(deadline)
    assert (refused.value.reason, refused.value.exit_code) == (reason, 9)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1", "unreachable"), ("ftp://x", "unreachable"), ("http://[::1", "bad_url"), ("http://a b", "bad_url")],
)
def test_an_address_that_leads_nowhere_is_a_store_fault(laptop: Any, deadline: Deadline, url: str, reason: str) -> None:
    with pytest.raises(StoreFault) as refused:
        HttpStore(url, laptop.signer).identity(deadline)
    assert refused.value.exit_code == 9
    assert refused.value.reason in {reason, "unreachable"}


def test_a_store_that_says_nothing_costs_no_more_than_the_deadline(laptop: Any, clock: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreFault) as refused:
            HttpStore(url, laptop.signer).identity(Deadline.after(0.2, clock.monotonic))
        assert refused.value.reason == "timeout"


def test_a_cancelled_sync_is_cancelled(laptop: Any, clock: Any) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        HttpStore("http://127.0.0.1:1", laptop.signer).identity(Deadline.after(5, clock.monotonic, token))

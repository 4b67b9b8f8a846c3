"""DNS-SD on loopback, with the agent's own announcing process; what strangers may say; and who then answers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges.discovery import SERVICE, browse, hint_of, shown
from fieldops.errors import Cancelled, FieldopsError, HostKeyUnknown, Unreachable
from fieldops.fleet import Address, DeviceEntry, DeviceId, Hint, SshAddress, key_id
from fieldops.operations.discover import Found, discover
from fieldops.wire import Hello
from tests.links.conftest import soon

ONE, TWO, THREE = (DeviceId(key_id(bytes([number]))) for number in (1, 2, 3))


# --- hints -----------------------------------------------------------------------------------------------------------------


@contextmanager
def announcing(device: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fieldops.agent", "announce", "--id", device, "--port", str(port), "--address", "127.0.0.1"],
        stdin=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


def test_announced_devices_are_heard_until_their_pipe_ends() -> None:
    with announcing(ONE, 7001) as first, announcing(TWO, 7002):
        found = browse(soon(20), interfaces=["127.0.0.1"], enough=2)
        assert {(hint.id, str(hint.lan), str(hint.ssh)) for hint in found} == {
            (ONE, "127.0.0.1:7001", "127.0.0.1:22"),
            (TWO, "127.0.0.1:7002", "127.0.0.1:22"),
        }
        assert first.poll() is None
    assert first.returncode == 0


def test_silence_is_no_error_and_a_cancel_ends_it() -> None:
    assert browse(soon(0.3), interfaces=["127.0.0.1"]) == []
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        browse(Deadline.after(30, time.monotonic, token), interfaces=["127.0.0.1"])


@pytest.mark.parametrize("arguments", [["--id", "short", "--port", "7"], ["--id", ONE, "--port", "70000"]])
def test_what_is_no_device_is_not_announced(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", "announce", *arguments], capture_output=True, check=False)
    assert done.returncode == 2


def test_a_strangers_words_are_hints_and_cannot_reach_the_screen() -> None:
    evil = hint_of(
        f"[red]a\x1b[2Jb\n\u202ec.{SERVICE}", "10.0.0.9", 7000, {b"id": b"../../x", b"ssh": b"99999", b"v": b"\xff\xfe"}
    )
    assert evil == Hint(name="reda2Jbc", lan=Address("10.0.0.9", 7000), ssh=None, id=None)
    good = hint_of(f"{ONE}.{SERVICE}", "10.0.0.9", 7000, {b"id": ONE.encode(), b"ssh": b"2222"})
    assert good == Hint(name=ONE, lan=Address("10.0.0.9", 7000), ssh=SshAddress(None, "10.0.0.9", 2222), id=ONE)
    assert shown("plain-name 1") == "plain-name 1"


# --- asking ----------------------------------------------------------------------------------------------------------------


def _hello(device: str) -> Hello:
    return Hello(device=device, public_key="", versions=(1, 1), agent="1", enrolled=True, boot_id="b", time=0.0)


def answering(answers: dict[str, str | FieldopsError]) -> Callable[[DeviceEntry, Deadline], Hello]:
    """By LAN address, else by SSH address; whoever is not listed is unreachable."""

    def hello(entry: DeviceEntry, deadline: Deadline) -> Hello:
        answer = answers.get(str(entry.lan)) or answers.get(str(entry.ssh))
        if isinstance(answer, FieldopsError):
            raise answer
        if answer is None:
            raise Unreachable("nobody", phase="tcp", next_step="look")
        return _hello(answer)

    return hello


EDGE_1 = DeviceEntry(name="edge-1", id=ONE, lan=Address("10.0.0.1", 7000))
EDGE_2 = DeviceEntry(name="edge-2", id=TWO, ssh=SshAddress("pi", "10.0.0.2", 22))


def _named(found: tuple[Found, ...]) -> list[tuple[str, bool, str | None, str | None]]:
    return [
        (each.entry.name, each.known, each.hello.device if each.hello else None, each.error.reason if each.error else None)
        for each in found
    ]


def test_known_devices_are_asked_without_any_hint() -> None:
    found = discover([EDGE_1, EDGE_2], [], answering({"10.0.0.1:7000": ONE}), soon())
    assert _named(found) == [("edge-1", True, ONE, None), ("edge-2", True, None, "unreachable")]
    assert found[1].error is not None
    assert found[1].error.device == "edge-2"


def test_a_known_device_at_a_new_address_is_found_there() -> None:
    hint = Hint(name=ONE, lan=Address("10.0.0.77", 7000), id=ONE)
    found = discover([EDGE_1], [hint], answering({"10.0.0.77:7000": ONE}), soon())
    assert _named(found) == [("edge-1", True, ONE, None)]
    assert found[0].entry.lan == Address("10.0.0.77", 7000)


def test_strangers_come_last_with_names_the_inventory_would_take() -> None:
    unknown = HostKeyUnknown("?", next_step="trust", fingerprint="SHA256:x")
    hints = [
        Hint(name=THREE, lan=Address("10.0.0.3", 7000), ssh=SshAddress(None, "10.0.0.3", 22), id=THREE),
        Hint(name="edge-1", lan=Address("10.0.0.4", 7000)),
        Hint(name="Not A Name", lan=Address("10.0.0.5", 7000)),
        Hint(name="x", lan=Address("10.0.0.1", 7000)),  # edge-1's own address: asked already
    ]
    found = discover([EDGE_1], hints, answering({"10.0.0.1:7000": ONE, "10.0.0.3:7000": unknown}), soon())
    assert _named(found) == [
        ("edge-1", True, ONE, None),
        (THREE, False, None, "host_key_unknown"),
        ("edge-1-2", False, None, "unreachable"),
        ("new", False, None, "unreachable"),
    ]


def test_silent_devices_are_waited_for_side_by_side() -> None:
    entries = [replace_name(number) for number in range(16)]
    together = threading.Barrier(16, timeout=10)

    def hello(entry: DeviceEntry, deadline: Deadline) -> Hello:
        together.wait()  # breaks unless all sixteen are asked at once
        return _hello(ONE)

    assert [each.hello is not None for each in discover(entries, [], hello, soon())] == [True] * 16


def replace_name(number: int) -> DeviceEntry:
    return DeviceEntry(name=f"edge-{number}", lan=Address("10.0.0.1", 7000 + number))


def test_a_cancel_is_a_cancel() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        discover([EDGE_1], [], answering({}), Deadline.after(30, time.monotonic, token))


def test_nothing_to_ask() -> None:
    assert discover([], [], answering({}), soon()) == ()

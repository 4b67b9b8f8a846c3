"""The console's Site over the real wiring: an empty home, an address where nobody answers, and a demo's control line."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldops.deadline import CancelToken
from fieldops.errors import StoreFault, TrustRefused, UsageFault
from fieldops.fleet import DeviceEntry, parse_ssh_address
from fieldops.ports import Candidate
from fieldops.tui.laptop_site import LaptopSite
from fieldops.wiring import Laptop


@pytest.fixture
def laptop_site(tmp_path: Path) -> Iterator[LaptopSite]:
    with Laptop.open(tmp_path / "demo" / "home") as laptop:
        yield LaptopSite(laptop)


@pytest.fixture
def control() -> Iterator[tuple[str, list[str], list[str]]]:
    """(address, lines heard, answers to give)."""
    heard: list[str] = []
    answers = ["ok http://127.0.0.1:1"]

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            heard.append(self.rfile.readline().decode())
            self.wfile.write(f"{answers[0]}\n".encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Line) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        host, port = server.server_address[:2]
        yield f"{host!s}:{port}", heard, answers
        server.shutdown()
        thread.join()


def demo_at(tmp_path: Path, control: str) -> None:
    (tmp_path / "demo").mkdir(exist_ok=True)
    (tmp_path / "demo" / "demo.json").write_text(json.dumps({"control": control}))


def test_an_empty_home_has_no_devices_and_looking_at_them_writes_nothing(laptop_site: LaptopSite, tmp_path: Path) -> None:
    assert laptop_site.inventory().devices == ()
    assert not laptop_site.is_demo
    assert list(tmp_path.rglob("*")) == []


def test_a_device_that_does_not_answer_is_a_snapshot_with_the_reason(laptop_site: LaptopSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    entry = DeviceEntry(name="gate-11", ssh=parse_ssh_address(f"tech@127.0.0.1:{port}"))
    snapshot = laptop_site.snapshot(entry, laptop_site.deadline(5, CancelToken()))
    assert (snapshot.state, snapshot.link) == ("OFF", "-")
    assert snapshot.error is not None
    assert snapshot.error.reason == "unreachable"


def test_a_candidate_of_a_stick_that_was_pulled_is_refused(laptop_site: LaptopSite) -> None:
    gone = Candidate("stable", "digits", "1.1.0", 2, 1000, "/media/usb0")
    with pytest.raises(TrustRefused, match="gone"):
        laptop_site.fetch(gone, DeviceEntry(name="one"), laptop_site.deadline(5, CancelToken()), lambda _progress: None)


def test_the_store_of_a_demo_is_brought_up_by_one_line(
    laptop_site: LaptopSite, tmp_path: Path, control: tuple[str, list[str], list[str]]
) -> None:
    address, heard, _ = control
    demo_at(tmp_path, address)
    assert laptop_site.is_demo
    laptop_site.bring_up_store(laptop_site.deadline(5, CancelToken()))
    assert heard == ["store up\n"]


def test_what_the_demo_refuses_is_said(
    laptop_site: LaptopSite, tmp_path: Path, control: tuple[str, list[str], list[str]]
) -> None:
    address, _, answers = control
    answers[0] = "error the port is taken"
    demo_at(tmp_path, address)
    with pytest.raises(StoreFault, match="the port is taken"):
        laptop_site.bring_up_store(laptop_site.deadline(5, CancelToken()))


@pytest.mark.parametrize("text", ["not json", "[]", '{"control": "no port"}', '{"control": null}', "{}"])
def test_a_home_beside_a_broken_demo_file_belongs_to_no_demo(laptop_site: LaptopSite, tmp_path: Path, text: str) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo.json").write_text(text)
    assert not laptop_site.is_demo
    with pytest.raises(UsageFault):
        laptop_site.bring_up_store(laptop_site.deadline(5, CancelToken()))

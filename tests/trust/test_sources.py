"""Sticks, folders and site servers as sources: what is read, and that every fault has its reason."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldops.edges.usb import FolderSource, HttpSource, LooseMetadata, StickMedia
from fieldops.errors import TrustRefused, UsageFault

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs, and links need a privilege")


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(TrustRefused) as caught:
        call()
    assert caught.value.next_step
    return caught.value.reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "FIELDOPS"
    (root / "metadata").mkdir(parents=True)
    (root / "metadata/file.json").write_bytes(b"0123456789" * 300_000)
    return root


def test_a_folder_is_read_in_pieces_from_any_offset(folder: Path) -> None:
    source = FolderSource(folder)
    pieces = list(source.chunks("metadata/file.json", 0))
    assert b"".join(pieces) == b"0123456789" * 300_000
    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(source.chunks("metadata/file.json", 2_999_995)) == b"56789"
    assert list(source.chunks("metadata/file.json", 3_000_000)) == []
    assert source.read("metadata/file.json", 3_000_000) == b"0123456789" * 300_000
    assert source.name == str(folder)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("metadata/none.json", "missing"),
        ("none/none.json", "missing"),
        ("metadata/file.json/below", "missing"),
        ("metadata", "not_regular_file"),
        ("../FIELDOPS/metadata/file.json", "not_regular_file"),
        ("../../etc/hostname", "not_regular_file"),
        ("/etc/hostname", "not_regular_file"),
    ],
)
def test_what_a_folder_refuses(path: str, reason: str, folder: Path) -> None:
    assert reason_of(lambda: list(FolderSource(folder).chunks(path, 0))) == reason


def test_a_longer_file_than_allowed_is_too_long(folder: Path) -> None:
    assert reason_of(lambda: FolderSource(folder).read("metadata/file.json", 2_999_999)) == "too_long"


@posix
@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to("file.json"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("odd"),
        os.mkfifo,
        lambda path: path.mkdir(),
    ],
    ids=["link inside", "link to a device", "link to itself", "FIFO", "folder"],
)
def test_what_is_no_regular_file_is_refused_at_once(make: Callable[[Path], object], folder: Path) -> None:
    make(folder / "metadata/odd")
    assert reason_of(lambda: list(FolderSource(folder).chunks("metadata/odd", 0))) == "not_regular_file"


@posix
def test_a_socket_is_refused(tmp_path: Path) -> None:
    short = Path(os.path.relpath(tmp_path))
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("s")
        finally:
            os.chdir(here)
        assert reason_of(lambda: list(FolderSource(short).chunks("s", 0))) == "not_regular_file"


@posix
def test_a_folder_that_is_a_link_out_is_refused_and_a_linked_stick_is_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_bytes(b"x")
    (folder / "targets").symlink_to(tmp_path / "elsewhere")
    assert reason_of(lambda: list(FolderSource(folder).chunks("targets/x", 0))) == "not_regular_file"
    (tmp_path / "stick").symlink_to(folder)
    assert FolderSource(tmp_path / "stick").read("metadata/file.json", 1 << 22)


def test_a_name_too_long_for_the_file_system_is_an_io_error(folder: Path) -> None:
    assert reason_of(lambda: list(FolderSource(folder).chunks("metadata/" + "x" * 300, 0))) == "io_error"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose read fails")
def test_a_read_that_fails_is_an_io_error() -> None:
    assert reason_of(lambda: list(FolderSource(Path("/proc/self")).chunks("mem", 0))) == "io_error"


def test_an_unfinished_read_leaves_no_open_file(folder: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("counts open files in /proc")
    before = len(list(descriptors.iterdir()))
    pieces = FolderSource(folder).chunks("metadata/file.json", 0)
    next(pieces)
    assert len(list(descriptors.iterdir())) == before + 1
    del pieces
    assert len(list(descriptors.iterdir())) == before


def test_loose_metadata_has_no_payloads(folder: Path) -> None:
    source = LooseMetadata(folder / "metadata")
    assert len(source.read("metadata/file.json", 1 << 22)) == 3_000_000
    assert reason_of(lambda: source.read("targets/x", 10)) == "missing"
    assert reason_of(lambda: source.read("metadata/none.json", 10)) == "missing"


# --- site server -------------------------------------------------------------------------------------------------------


class Ranged(SimpleHTTPRequestHandler):
    """The standard library's server, with ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        at = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if at and at >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if at else 200)
        if at:
            self.send_header("Content-Range", f"bytes {at}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - at))
        self.end_headers()
        self.wfile.write(data[at:])


class Rangeless(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class Odd(BaseHTTPRequestHandler):
    """Answers by the path: a status, or a broken answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass

    def do_GET(self) -> None:
        word = self.path.lstrip("/")
        if word == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
            return
        self.send_response(int(word))
        self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that has seen enough closes the connection; the server need not report that."""


@pytest.fixture
def serve() -> Iterator[Callable[[Any], HttpSource]]:
    running: list[tuple[ThreadingHTTPServer, threading.Thread, httpx.Client]] = []

    def start(handler: Any) -> HttpSource:
        server = Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = httpx.Client(timeout=10.0, trust_env=False)
        running.append((server, thread, client))
        return HttpSource(f"http://127.0.0.1:{server.server_port}/", client)

    yield start
    for server, thread, client in running:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("handler", [Ranged, Rangeless])
def test_a_site_server_gives_the_rest_of_a_file(handler: Any, folder: Path, serve: Callable[[Any], HttpSource]) -> None:
    source = serve(partial(handler, directory=str(folder)))
    whole = b"0123456789" * 300_000
    assert b"".join(source.chunks("metadata/file.json", 0)) == whole
    assert b"".join(source.chunks("metadata/file.json", 1_999_993)) == whole[1_999_993:]
    assert b"".join(source.chunks("metadata/file.json", 3_000_000)) == b""
    assert reason_of(lambda: source.read("metadata/none.json", 10)) == "missing"
    assert reason_of(lambda: source.read("metadata/file.json", 1000)) == "too_long"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("404", "missing"), ("403", "missing"), ("500", "io_error"), ("302", "io_error"), ("401", "io_error"), ("cut", "io_error")],
)
def test_what_a_site_server_cannot_give(path: str, reason: str, serve: Callable[[Any], HttpSource]) -> None:
    assert reason_of(lambda: list(serve(Odd).chunks(path, 0))) == reason


def test_a_site_server_that_is_away_is_an_io_error() -> None:
    with socket.socket() as taken, httpx.Client(timeout=5.0, trust_env=False) as client:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nothing answers
        source = HttpSource(f"http://127.0.0.1:{taken.getsockname()[1]}", client)
        assert reason_of(lambda: source.read("metadata/timestamp.json", 10)) == "io_error"


def test_a_bundle_comes_from_a_site_server_as_from_a_stick(world: World, serve: Callable[[Any], HttpSource]) -> None:
    laptop = world.laptop(knows_first=False)
    source = serve(partial(Ranged, directory=str(world.stick.root)))
    assert [found.reason for found in laptop.store.candidates(source, laptop.deadline)] == ["", ""]
    assert laptop.fetch(source).manifest.version == "1.1.0"


# --- media -------------------------------------------------------------------------------------------------------------


def test_media_with_a_repository_are_found_once_and_in_order(world: World, tmp_path: Path) -> None:
    (tmp_path / "camera/DCIM").mkdir(parents=True)
    stick, first = world.stick.root.parent, world.first.root.parent
    media = StickMedia([first], mounts=lambda: [tmp_path / "camera", stick, first, tmp_path / "gone"])
    assert [source.name for source in media.find()] == [str(first / "FIELDOPS"), str(stick / "FIELDOPS")]
    assert StickMedia(mounts=list).find() == []


def test_a_path_may_name_the_stick_or_its_fieldops_folder(world: World) -> None:
    media = StickMedia(mounts=list)
    stick = world.stick.root.parent
    assert media.at(str(stick)).name == media.at(str(stick / "FIELDOPS")).name
    source = media.at("https://site.example/fieldops")
    assert source.name == "https://site.example/fieldops"
    assert isinstance(source, HttpSource)
    source.client.close()
    with pytest.raises(UsageFault) as caught:
        media.at(str(stick / "nothing"))
    assert caught.value.reason == "no_stick"

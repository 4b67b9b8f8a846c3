"""The newest signed metadata of cache, stick and site server counts, wherever the payload comes from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile
from fieldops.edges.usb import HttpSource
from fieldops.errors import TrustRefused
from fieldops.operations.gate import Gate
from fieldops.operations.sideload import fetch_newest
from fieldops.policy import NO_POLICY

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
DAY = 86_400.0


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Any]:
    """site(folder): a server of it on this machine."""
    open_now: list[Any] = []

    def serve(folder: Path) -> HttpSource:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client = httpx.Client(timeout=10)
        open_now.extend([server, client])
        return HttpSource(f"http://127.0.0.1:{server.server_address[1]}", client)

    yield serve
    for each in open_now:
        if isinstance(each, httpx.Client):
            each.close()
        else:
            each.shutdown()
            each.server_close()


@pytest.fixture
def gate(tmp_path: Path, world: World) -> Iterator[Gate]:
    signer = Ed25519Signer.load_or_create(tmp_path / "laptop.key")
    journal = SqliteJournal.open(tmp_path / "audit.db", lambda: signer, world.clock)
    yield Gate(journal, signer, PersonFile(None, signer.laptop, tmp_path / "session"), NO_POLICY, world.clock)
    journal.close()


def acts(gate: Gate) -> list[tuple[str, str]]:
    return [(entry.result.status, entry.result.reason) for entry, _ in gate.journal.read() if entry.result]


def test_an_expired_stick_is_a_payload_source_beside_a_site_server_that_has_newer_metadata(
    world: World, site: Any, gate: Gate
) -> None:
    stick = world.export("stick-of-last-month", days=1)
    world.clock.at += 3 * DAY
    newer = world.export("newer", days=30)
    for path in (newer.root / "targets/stable").rglob("*"):
        if path.is_file():
            path.unlink()  # the site server is thin: metadata and policy alone
    laptop = world.laptop(knows_first=False)
    with pytest.raises(TrustRefused) as caught:
        fetch_newest(gate, laptop.store, [stick.source], "digits@1.1.0", laptop.deadline)
    assert caught.value.reason == "expired"
    bundle = fetch_newest(gate, laptop.store, [stick.source, site(newer.root)], "digits@1.1.0", laptop.deadline)
    assert (bundle.folder / "core.onnx").read_bytes() == stick.payload("core.onnx").read_bytes()
    assert acts(gate) == [("refused", "expired"), ("done", "")]


@pytest.mark.parametrize("first", ["stick", "server"])
def test_the_order_in_which_sources_are_named_does_not_matter(first: str, world: World, site: Any, gate: Gate) -> None:
    def withdraw(signed: Any) -> None:
        signed.targets["stable/digits/1.1.0/manifest.json"].unrecognized_fields["custom"]["withdrawn"] = True

    old, server = world.export("old"), world.export("server")
    server.rewrite("stable", withdraw, server.signers("stable-1", "stable-2"))
    sources = [old.source, site(server.root)]
    laptop = world.laptop(knows_first=False)
    with pytest.raises(TrustRefused) as caught:
        fetch_newest(gate, laptop.store, sources if first == "stick" else sources[::-1], "digits@1.1.0", laptop.deadline)
    assert caught.value.reason == "withdrawn"


def test_what_one_source_lacks_or_spoils_another_brings(world: World, site: Any, gate: Gate) -> None:
    one, two = world.export("one"), world.export("two")
    one.payload("large.onnx").write_bytes(b"short")
    two.payload("core.onnx").unlink()
    laptop = world.laptop(knows_first=False)
    bundle = fetch_newest(gate, laptop.store, [one.source, two.source], "digits@1.1.0", laptop.deadline)
    assert {path.name for path in bundle.folder.iterdir()} == {"core.onnx", "large.onnx", "manifest.json"}
    assert acts(gate) == [("refused", "hash_mismatch"), ("done", "")]


def test_a_server_that_is_away_is_no_reason_to_refuse_the_stick(world: World, gate: Gate) -> None:
    laptop = world.laptop(knows_first=False)
    with httpx.Client(timeout=5) as client:
        away = HttpSource("http://127.0.0.1:9", client)
        bundle = fetch_newest(gate, laptop.store, [away, world.stick.source], "digits@1.1.0", laptop.deadline)
        assert bundle.manifest.version == "1.1.0"
        with pytest.raises(TrustRefused) as caught:
            fetch_newest(gate, laptop.store, [away], "digits@1.1.0", laptop.deadline)
    assert caught.value.reason == "io_error"

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldops.deadline import Deadline
from fieldops.demo import children, load

Within = Callable[[float], Deadline]

TENSOR = {"name": "image", "datatype": "FP32", "shape": [-1, 64]}


class Meter(BaseHTTPRequestHandler):
    """A small inference server by the same protocol; it refuses every third request."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, {"name": "digits", "inputs": [TENSOR]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(request)
        if len(self.asked) % 3 == 0:
            self.answer(503, {"error": "no worker"})
        else:
            self.answer(200, {"model_version": "1.0.0", "outputs": []})


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def meter() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    short = Path(tempfile.mkdtemp(prefix="fo-", dir="/tmp"))
    asked: list[dict[str, Any]] = []
    handler = type("Counting", (Meter,), {"asked": asked})
    with Server(str(short / "infer.sock"), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield str(short / "infer.sock"), asked
        server.shutdown()
        thread.join()
    shutil.rmtree(short)


def test_answers_and_failures_are_counted_as_the_device_gave_them(
    meter: tuple[str, list[dict[str, Any]]], tmp_path: Path, within: Within
) -> None:
    socket, asked = meter
    images = tmp_path / "images.npz"
    np.savez(images, images=np.random.default_rng(1).random((100, 64), dtype=np.float32))
    config = tmp_path / "load.json"
    one = {"name": "meter-01", "socket": socket, "model": "digits", "rate": 50, "batch": 2, "shifted": False}
    config.write_text(json.dumps({"images": str(images), "devices": [one]}))
    child = children.start(
        "load", children.python("fieldops.demo.load", str(config)), tmp_path / "load.log", children.environment()
    )
    try:
        child.wait_ready(within(30))
        counted: dict[str, Any] = {"ok": 0}
        deadline = within(30)
        while counted["ok"] < 20:
            deadline.check("answers")
            child.say("counts")
            counted = child.document(deadline)["meter-01"]
        assert child.stop() == 0
    finally:
        child.stop()
    assert counted["failed"] in {counted["ok"] // 2, counted["ok"] // 2 - 1, counted["ok"] // 2 + 1}
    assert counted["versions"] == {"1.0.0": counted["ok"]}
    assert "503" in counted["last_error"]
    assert asked[0]["inputs"][0]["shape"] == [2, 64]
    assert len(asked[0]["inputs"][0]["data"]) == 128


def test_a_fogged_lens_changes_the_picture_but_keeps_its_range() -> None:
    images = np.linspace(0, 16, 640, dtype=np.float32).reshape(10, 64)
    fogged = load.fogged(images, np.random.default_rng(3))
    assert fogged.shape == images.shape
    assert fogged.min() >= 0
    assert fogged.max() <= 16
    assert fogged.std() < 0.7 * images.std()

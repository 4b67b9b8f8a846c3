"""The plant's meters: one process that feeds every device real digit images at a steady rate, and counts the answers.

`python -m fieldops.demo.load FILE` where FILE is JSON: {"images": NPZ, "devices": [{"name", "socket", "model", "rate",
"batch", "shifted"}]}. It prints {"ready": true}; then each line `counts` on stdin is answered by one JSON line
{name: {"ok", "failed", "versions": {version: answers}, "last_error"}}. It ends at EOF of stdin.

A request counts as failed when it gets an error, or no answer within LATE_S. Bodies are made once: the two cores belong to
the devices.
"""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LATE_S = 5.0
FOG = 0.55  # a fogged lens: contrast falls to this share, and the picture gets brighter by half the rest


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a unix socket, kept alive."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Meter:
    """One device to feed. rate: requests a second; batch: images a request."""

    name: str
    socket: str
    model: str
    rate: float
    batch: int
    shifted: bool


@dataclass(slots=True)
class Count:
    ok: int = 0
    failed: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    last_error: str = ""

    def document(self) -> dict[str, Any]:
        return {"ok": self.ok, "failed": self.failed, "versions": dict(self.versions), "last_error": self.last_error}


def fogged(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The same meters through a fogged lens. images: any shape, values from 0 to their maximum."""
    top = float(images.max()) or 1.0
    noise = rng.normal(0.0, 0.05 * top, images.shape)
    return np.clip(images * FOG + top * (1.0 - FOG) / 2 + noise, 0.0, top).astype(np.float32)


def bodies(images: NDArray[np.float32], meter: Meter, tensor: dict[str, Any], seed: int) -> list[bytes]:
    """Requests for the Open Inference Protocol. tensor: the model's first input as its metadata describes it.

    Every image comes once before any comes again: a device that sees the same few images over and over does not see the
    task, and its drift test rightly says so.
    """
    rng = np.random.default_rng(seed)
    shape = [meter.batch, *(int(size) for size in tensor["shape"][1:])]
    made = []
    order = rng.permutation(len(images))
    for start in range(0, len(images) - meter.batch + 1, meter.batch):
        picked = images[order[start : start + meter.batch]]
        if meter.shifted:
            picked = fogged(picked, rng)
        data = [round(float(value), 4) for value in picked.ravel()]
        document = {"inputs": [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data}]}
        made.append(json.dumps(document, separators=(",", ":")).encode())
    return made


class Feed(threading.Thread):
    """Feeds one device until told to stop. count is written by this thread only."""

    def __init__(self, meter: Meter, images: NDArray[np.float32], seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"feed-{meter.name}", daemon=True)
        self.meter = meter
        self.count = Count()
        self._images = images
        self._seed = seed
        self._stop_feeding = stop
        self._link = UnixConnection(meter.socket, LATE_S)
        self._bodies: list[bytes] = []

    def run(self) -> None:
        interval = 1.0 / self.meter.rate
        # meters do not tick together
        due = time.monotonic() + interval * (self._seed % 7) / 7
        turn = 0
        while not self._stop_feeding.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval, time.monotonic())
            self._one(turn)
            turn += 1

    def _one(self, turn: int) -> None:
        try:
            if not self._bodies:
                self._bodies = bodies(self._images, self.meter, self._tensor(), self._seed)
            answer = self._ask("POST", f"/v2/models/{self.meter.model}/infer", self._bodies[turn % len(self._bodies)])
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            self._link.close()
            self.count.failed += 1
            self.count.last_error = f"{type(error).__name__}: {error}"[:200]
            return
        version = str(answer.get("model_version", ""))
        self.count.versions[version] = self.count.versions.get(version, 0) + 1
        self.count.ok += 1

    def _tensor(self) -> dict[str, Any]:
        described = self._ask("GET", f"/v2/models/{self.meter.model}", None)
        tensor = described["inputs"][0]
        assert isinstance(tensor, dict)
        return tensor

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        """One request; once more when the server had closed the kept-alive connection before it. Raises ValueError on an error status."""
        fresh = self._link.sock is None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._link.request(method, path, body, headers)
            response = self._link.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if fresh:
                raise
            self._link.close()
            return self._ask(method, path, body)
        text = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}: {text[:120]!r}")
        answer: dict[str, Any] = json.loads(text)
        return answer


def read_images(file: Path) -> NDArray[np.float32]:
    with np.load(file, allow_pickle=False) as archive:
        name = next(name for name in ("images", "inputs", "x") if name in archive.files)
        return np.asarray(archive[name], dtype=np.float32)


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_bytes())
    images = read_images(Path(document["images"]))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # another order at every start: a chance run at the beginning must not come again and look like a shift
    start = secrets.randbelow(1 << 32)
    feeds = [Feed(Meter(**one), images, start + index, stop) for index, one in enumerate(document["devices"])]
    for feed in feeds:
        feed.start()
    _say({"ready": True})
    for line in sys.stdin:
        if line.strip() == "counts":
            _say({feed.meter.name: feed.count.document() for feed in feeds})
    stop.set()
    for feed in feeds:
        feed.join(0.5)


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

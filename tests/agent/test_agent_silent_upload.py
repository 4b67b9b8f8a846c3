"""A laptop that vanishes without a word in the middle of an upload: its cable is out, and nothing ever tells the device."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.agent.conftest import Agent, Laptop
from tests.agent.test_agent_changes import _staging


@pytest.mark.slow_faults
def test_an_upload_that_has_gone_silent_gives_way_to_the_next_one(device: Agent, laptop: Laptop) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    sha256 = bundle.manifest.file("large.onnx").sha256
    data = (bundle.folder / "large.onnx").read_bytes()
    with device.client() as client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as vanished:
        record = _staging(laptop, device, client)
        vanished.connect(str(device.runtime / "agent.sock"))
        lines = [f"PUT /v1/blobs/{sha256} HTTP/1.1", "Host: agent", "Upload-Offset: 0", f"Content-Length: {len(data)}", "", ""]
        vanished.sendall("\r\n".join(lines).encode() + data[:4000])
        until = time.monotonic() + 60
        while client.put(f"/v1/blobs/{sha256}", headers={"Upload-Offset": "9"}).json()["message"].startswith("the device holds"):
            assert time.monotonic() < until
        answers: list[int] = []
        while True:  # as the laptop does, once it is back
            assert time.monotonic() < until
            have = int(client.head(f"/v1/blobs/{sha256}").headers["Upload-Offset"])
            done = client.put(f"/v1/blobs/{sha256}", content=data[have:], headers={"Upload-Offset": str(have)})
            answers.append(done.status_code)
            if done.status_code != 409:
                break
            threading.Event().wait(0.5)
        assert answers[0] == 409
        assert done.status_code == 201
        assert have == 4000
        shown = client.get(f"/v1/steps/{record['step_id']}?wait=10").json()
    assert sha256 not in {blob["sha256"] for blob in shown["wanted"]}

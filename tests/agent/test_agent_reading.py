"""What a device tells without being asked to change: itself, its models, inference, drift counts, a foreign model."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from fieldops.fleet import key_id
from fieldops.wire import unb64
from tests.agent.conftest import DIGITS, Agent, Load, request_of, within


def test_a_device_is_who_its_key_says_and_its_sockets_have_their_modes(device: Agent) -> None:
    hello = device.get("/v1/hello")
    assert hello["device"] == key_id(unb64(hello["public_key"])) == device.ready["device"]
    assert (hello["enrolled"], hello["lan_port"], hello["device_class"]) == (False, None, "bench")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in device.runtime.iterdir()}
    assert modes == {"agent.sock": 0o660, "infer.sock": 0o666, "local.sock": 0o600}


def test_a_provisioned_model_answers_rightly_and_says_its_route(device: Agent, images: tuple[Any, Any]) -> None:
    rows, labels = images
    right = 0
    with device.client("infer.sock") as client:
        assert client.get("/v2/health/ready").json() == {"ready": True}
        metadata = client.get("/v2/models/digits").json()
        assert metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
        routes = set()
        for row, label in zip(rows[:60], labels[:60], strict=True):
            reply = client.post("/v2/models/digits/infer", json=request_of(row)).json()
            (output,) = [found for found in reply["outputs"] if found["name"] == "probabilities"]
            right += max(range(10), key=output["data"].__getitem__) == label
            routes.add(reply["parameters"]["route"])
            assert reply["parameters"]["version"] == "1.0.0"
    assert right >= 55
    assert routes <= {"core", "large"}


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": [{"name": "pixels", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}',
        b'{"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": "many"}]}',
        b'{"inputs": [{"name": "pixels", "shape": [0, 64], "datatype": "FP32", "data": []}]}',
        b'{"inputs": [{"name": "pixels", "shape": [-1, 64], "datatype": "WAT", "data": [1]}]}',
    ],
)
def test_a_bad_request_is_the_callers_fault_and_hurts_nobody(device: Agent, body: bytes, images: tuple[Any, Any]) -> None:
    with device.client("infer.sock") as client:
        assert client.post("/v2/models/digits/infer", content=body).status_code == 400
        assert client.post("/v2/models/nobody/infer", content=body).status_code == 404
        assert client.post("/v2/models/digits/infer", json=request_of(images[0][0])).status_code == 200
    (serving,) = device.get("/v1/resources")["serving"]
    assert (serving["failed"], serving["requests"]) == (0, 1)


def test_counts_of_what_was_asked_come_with_the_reference_and_fresh_evidence(device: Agent, images: tuple[Any, Any]) -> None:
    with Load(device, images[0]) as load:
        load.until("1.0.0", 250)
    (report,) = device.get("/v1/drift?model=digits")["models"]
    assert (report["model"], report["version"]) == ("digits", "1.0.0")
    names = {feature["name"] for feature in report["reference"]["features"]}
    assert report["windows"]
    for window in report["windows"]:
        assert set(window["counts"]) == names
        assert all(sum(counts) == window["n"] for counts in window["counts"].values())
    assert (report["stats"]["golden_ok"], report["stats"]["digest_ok"]) == (True, True)
    assert report["stats"]["p50_ms"] > 0


def test_a_damaged_file_shows_in_the_evidence(device: Agent) -> None:
    (folder,) = (device.home / "models" / "bundles").iterdir()
    file = folder / "large.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    deadline = within()
    # None: the worker has not answered for its evidence yet. Only the fact ends this.
    while (stats := device.get("/v1/drift")["models"][0]["stats"])["digest_ok"] is not False:
        deadline.check("the evidence")
        deadline.cancel.wait(0.1)
    assert (stats["golden_ok"], stats["digest_ok"]) == (True, False)


def test_a_model_put_there_by_hand_answers_as_foreign(make_agent: Callable[..., Agent], images: tuple[Any, Any]) -> None:
    agent = make_agent('[foreign]\nmodel = "digits"\nfile = "found.onnx"\n')
    (agent.home / "foreign").mkdir()
    shutil.copy(DIGITS / "1.0.0" / "core.onnx", agent.home / "foreign" / "found.onnx")
    agent.start()
    (version,) = agent.slot().versions
    assert (version.version, version.role, version.signed_by) == ("0.0.0", "active", "")
    with agent.client("infer.sock") as client:
        reply = client.post("/v2/models/digits/infer", json=request_of(images[0][0])).json()
    assert reply["parameters"]["version"] == "foreign"


@pytest.mark.parametrize("way", ["eof", "term"])
def test_the_agent_stops_within_two_seconds_and_leaves_no_socket_behind(device: Agent, way: str) -> None:
    assert device.process is not None
    before = time.monotonic()
    if way == "term":
        device.process.send_signal(signal.SIGTERM)
        assert device.process.wait(20) == 0
    assert device.stop() == 0
    assert time.monotonic() - before < 5.0  # 2 s of ours, and room for a machine that does much else
    assert list(device.runtime.iterdir()) == []


def test_a_second_agent_on_the_same_home_is_refused(device: Agent) -> None:
    words = ["serve", "--home", str(device.home)]
    env = {**os.environ, "FIELDOPS_AGENT_RUNTIME": str(device.runtime)}
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", *words], env=env, capture_output=True, check=False)
    assert done.returncode == 8
    assert b"Next:" in done.stderr
    assert device.get("/v1/hello")["device"] == device.ready["device"]


def test_two_agents_do_not_share_a_runtime_folder(device: Agent, make_agent: Callable[..., Agent]) -> None:
    other = make_agent(name="b")
    words = ["serve", "--home", str(other.home)]
    env = {**os.environ, "FIELDOPS_AGENT_RUNTIME": str(device.runtime)}
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", *words], env=env, capture_output=True, check=False)
    assert (done.returncode, b"another agent answers" in done.stderr) == (8, True)
    assert device.get("/v1/hello")["device"] == device.ready["device"]


def test_unknown_steps_and_models_are_404_with_a_next_step(device: Agent) -> None:
    with device.client() as client:
        for path in ("/v1/steps/none", "/v1/drift?model=none"):
            reply = client.get(path)
            assert (reply.status_code, reply.json()["schema"]) == (404, "fieldops.error/v1")
            assert reply.json()["next"]
        assert client.get("/v1/journal?after=-1").status_code == 400


def test_the_long_lived_process_loads_none_of_what_its_children_are_for(device: Agent) -> None:
    """Asked of the module graph that `serve` imports, in a fresh interpreter."""
    heavy = [
        "textual",
        "rich",
        "typer",
        "paramiko",
        "tuf",
        "securesystemslib",
        "numpy",
        "onnxruntime",
        "zeroconf",
        "cryptography",
        "httpx",
    ]
    code = f"import sys, fieldops.agent.serve; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"[]"


def test_a_caller_in_a_hurry_gets_an_answer_and_costs_nobody_the_worker(device: Agent, images: tuple[Any, Any]) -> None:
    with Load(device, images[0]) as load, device.client("infer.sock") as client:
        for row in images[0][:100]:
            reply = client.post("/v2/models/digits/infer", json=request_of(row), headers={"Fieldops-Deadline-Ms": "1"})
            assert reply.status_code == 200
            assert reply.json()["parameters"]["route"] in {"core", "large", "deadline", "rule"}
        load.until("1.0.0")
    assert load.failures == []
    assert set(load.routes) <= {"core", "large"}
    assert "worker_crash" not in {entry["action"] for entry in device.get("/v1/journal")["entries"]}

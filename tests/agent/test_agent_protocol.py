"""The Open Inference Protocol as a public client speaks it: Triton's own, over loopback HTTP, with JSON and binary tensors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.agent.conftest import Agent, Laptop, request_of, within

LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def served(make_device: Callable[..., Agent]) -> Agent:
    return make_device("[infer]\nport = 0\n").start()


def wanted(rows: Any, *, binary: bool) -> tuple[Any, Any]:
    given = triton.InferInput("pixels", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, binary_data=binary)
    return given, triton.InferRequestedOutput("probabilities", binary_data=binary)


def test_tritons_client_finds_the_model_and_gets_the_same_answer_in_both_forms(served: Agent, images: tuple[Any, Any]) -> None:
    rows, labels = images[0][:8], images[1][:8]
    with triton.InferenceServerClient(f"127.0.0.1:{served.ready['infer_port']}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert client.get_model_metadata("digits")["inputs"][0]["datatype"] == "FP32"
        answers = []
        for binary in (True, False):
            given, asked = wanted(rows, binary=binary)
            answers.append(client.infer("digits", [given], outputs=[asked], request_id="r1").as_numpy("probabilities"))
        assert answers[0].shape == (8, 10)
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-6)
        assert (answers[0].argmax(axis=1) == labels).sum() >= 7
        given, asked = wanted(rows, binary=True)
        named = client.infer("digits", [given], outputs=[asked], model_version="1.0.0").as_numpy("probabilities")
        np.testing.assert_array_equal(named, answers[0])
        assert client.is_model_ready("digits", "1.0.0")
        assert not client.is_model_ready("digits", "1.1.0")
        with pytest.raises(InferenceServerException, match=r"1\.1\.0 does not answer here; 1\.0\.0 does"):
            client.infer("digits", [given], outputs=[asked], model_version="1.1.0")
        wrong, asked = wanted(np.zeros((1, 3), np.float32), binary=True)
        with pytest.raises(InferenceServerException, match="shape"):
            client.infer("digits", [wrong], outputs=[asked])
        with pytest.raises(InferenceServerException, match="no output"):
            client.infer("digits", [given], outputs=[triton.InferRequestedOutput("nothing")])


@pytest.mark.parametrize(("length", "size"), [("99999", 256), ("-1", 256), ("x", 256), (None, 4096), (None, -1), (None, 8)])
def test_binary_bodies_that_do_not_add_up_are_the_callers_fault(
    served: Agent, images: tuple[Any, Any], length: str | None, size: int
) -> None:
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode("utf-8")
    with served.client("infer.sock") as client:
        headers = {LENGTH: length or str(len(text))}
        assert client.post("/v2/models/digits/infer", content=text + bytes(256), headers=headers).status_code == 400
        assert client.post("/v2/models/digits/infer", json=request_of(images[0][0])).status_code == 200


def test_a_strange_input_sent_in_binary_is_kept_and_read_back_like_one_in_json(
    served: Agent, make_laptop: Callable[..., Laptop]
) -> None:
    laptop = make_laptop()
    laptop.enrol(served)
    bright = np.random.default_rng(4).uniform(0, 60, (1, 64)).astype(np.float32)  # brighter than any pixel at release
    given, asked = wanted(bright, binary=True)
    deadline = within()
    with (
        triton.InferenceServerClient(f"127.0.0.1:{served.ready['infer_port']}") as client,
        laptop.device(served) as connected,
    ):
        while not (samples := connected.samples("digits", 0, within()).samples):
            deadline.check("a kept sample")
            answer = client.infer("digits", [given], outputs=[asked]).as_numpy("probabilities")
    assert samples[0].label == int(answer[0].argmax())
    (tensor,) = json.loads(base64.b64decode(samples[0].request))["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("pixels", "FP32", [1, 64])
    assert np.array_equal(np.asarray(tensor["data"], np.float32), bright[0])

"""What a runtime must stand for days, in minutes: fifty versions in a row under load, and a worker that hangs."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from tests.agent.conftest import Agent, Laptop, Load, request_of, within

ACTIVATIONS = 50


@pytest.mark.slow_faults
def test_fifty_activations_under_load_cost_nobody_an_answer(device: Agent, laptop: Laptop, images: tuple[Any, Any]) -> None:
    for version in ("1.1.0", "1.2.0"):
        laptop.stage(device, f"digits@{version}")
    with Load(device, images[0]) as load:
        load.until("1.0.0")
        for turn in range(ACTIVATIONS):
            version = ("1.1.0", "1.2.0")[turn % 2]
            laptop.activate(device, version)
            load.until(version)
            laptop.commit(device, version)
    assert load.failures == []
    assert "rule" not in load.routes
    assert sum(load.answers.values()) > 20 * ACTIVATIONS
    assert device.process is not None
    workers = [each for each in psutil.Process(device.process.pid).children() if "worker" in each.cmdline()]
    assert len(workers) == 1  # none of the fifty before it is left


@pytest.mark.slow_faults
def test_a_worker_that_hangs_is_ended_and_everybody_is_answered_by_their_deadline(device: Agent, images: tuple[Any, Any]) -> None:
    assert device.process is not None
    (worker,) = [each for each in psutil.Process(device.process.pid).children() if "worker" in each.cmdline()]
    deadline, hurried = within(90), {"Fieldops-Deadline-Ms": "500"}
    with device.client("infer.sock") as client:

        def ask() -> str:
            begun = time.monotonic()
            reply = client.post("/v2/models/digits/infer", json=request_of(images[0][0]), headers=hurried)
            assert reply.status_code == 200
            assert time.monotonic() - begun < 10  # half a second, on a machine that others use too
            return str(reply.json()["parameters"]["route"])

        assert ask() != "rule"
        os.kill(worker.pid, signal.SIGSTOP)
        assert ask() == "rule"
        while ask() == "rule":  # until its silence was too long
            deadline.check("another worker")
    assert not worker.is_running()
    crashes = [each for each in device.get("/v1/journal")["entries"] if each["action"] == "worker_crash"]
    assert len(crashes) == 1

"""What the device does alone: trials that run out, restarts in the middle, a last-good that fails, a worker that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldops.errors import DeviceCannot, NeedsPerson
from fieldops.steps import Activate, Bench, Revert
from tests.agent.conftest import Agent, Laptop, Load, request_of, within


def _acts(agent: Agent) -> list[tuple[str, str, str]]:
    return [(entry["actor"].partition(":")[0], entry["action"], entry["reason"]) for entry in agent.get("/v1/journal")["entries"]]


def _ask(agent: Agent, images: tuple[Any, Any]) -> dict[str, Any]:
    with agent.client("infer.sock") as client:
        reply = client.post("/v2/models/digits/infer", json=request_of(images[0][0]))
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["parameters"]
        return found


def test_a_trial_that_nobody_commits_is_reverted_by_the_device_itself(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0", trial_s=5)
    with Load(device, images[0]) as load:
        load.until("1.1.0", 5)
        slot = device.until(lambda slot: slot.state == "reverted")
        load.until("1.0.0")
    assert load.failures == []
    assert (slot.active, slot.candidate, slot.reason) == ("1.0.0", None, "trial_deadline")
    assert ("device", "reverted", "trial_deadline") in _acts(device)


def test_an_agent_killed_in_a_trial_goes_on_with_one_start_less_and_reverts_when_none_is_left(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0", attempts=2)
    device.kill()
    device.start()
    assert device.slot().state == "trial"
    assert _ask(device, images)["version"] == "1.1.0"
    device.kill()
    device.start()
    slot = device.slot()
    assert (slot.state, slot.active, slot.reason) == ("reverted", "1.0.0", "trial_attempts")
    assert _ask(device, images)["version"] == "1.0.0"


def test_a_trial_whose_deadline_passed_while_the_agent_was_down_is_over(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0", trial_s=5)
    left = device.slot().deadline_s
    assert left is not None
    device.kill()
    within(30).cancel.wait(left)
    device.start()
    assert device.slot().reason == "trial_deadline"
    assert _ask(device, images)["version"] == "1.0.0"


def test_a_committed_version_survives_a_power_cut_and_keeps_its_way_back(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.install(device, "1.1.0")
    device.kill()
    device.start()
    slot = device.slot()
    assert (slot.state, slot.active, slot.last_good) == ("committed", "1.1.0", "1.0.0")
    assert _ask(device, images)["version"] == "1.1.0"
    assert laptop.revert(device).version == "1.0.0"


def test_a_last_good_that_fails_needs_a_person_and_the_signed_rule_answers(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.install(device, "1.1.0")
    digest = next(version.manifest_sha256 for version in device.slot().versions if version.version == "1.0.0")
    damaged = device.home / "models" / "bundles" / digest / "large.onnx"
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    with pytest.raises(NeedsPerson) as told:
        laptop.revert(device)
    assert (told.value.reason, told.value.exit_code) == ("last_good_failed", 10)
    assert device.slot().state == "needs_human"
    assert _ask(device, images)["route"] == "rule"


def test_a_dead_worker_is_replaced_and_no_request_is_lost(device: Agent, images: tuple[Any, Any]) -> None:
    with Load(device, images[0]) as load:
        load.until("1.0.0")
        os.kill(_worker_of(device), signal.SIGKILL)
        load.until("1.0.0", 50)
    assert load.failures == []
    assert ("device", "worker_crash", "crash 1") in _acts(device)


def _worker_of(device: Agent) -> int:
    assert device.process is not None
    children = Path(f"/proc/{device.process.pid}/task/{device.process.pid}/children").read_text("ascii").split()
    return next(int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_version_whose_worker_keeps_dying_on_trial_is_reverted(device: Agent, laptop: Laptop, images: tuple[Any, Any]) -> None:
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0")
    killed = 0
    deadline = within()
    while device.slot().state == "trial":
        deadline.check("the revert")
        try:
            pid = _worker_of(device)
        except StopIteration:
            continue
        if pid != killed:
            os.kill(pid, signal.SIGKILL)
            killed = pid
        _ask(device, images)
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == ("1.0.0", "worker_crashes")


def test_revert_at_the_device_needs_no_laptop(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    words = ["revert", "digits", "--home", str(device.home), "--json"]
    env = {**os.environ, "FIELDOPS_AGENT_RUNTIME": str(device.runtime)}
    done = subprocess.run([sys.executable, "-m", "fieldops.agent", *words], env=env, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout)["version"] == "1.0.0"
    assert device.slot().active == "1.0.0"
    assert ("local", "reverted", "asked") in _acts(device)
    status = [sys.executable, "-m", "fieldops.agent", "status", "--home", str(device.home), "--json"]
    shown = json.loads(subprocess.run(status, env=env, stdout=subprocess.PIPE, check=True).stdout)
    assert shown["models"]["slots"][0]["active"] == "1.0.0"


def test_an_activation_cut_off_by_a_restart_is_told_as_it_turned_out(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.stage(device, "digits@1.1.0")
    step_id, envelope = laptop.signed(device, Activate(model="digits", version="1.1.0"))
    with device.client() as client:
        assert client.post("/v1/steps", content=envelope).status_code == 202
    device.kill()
    device.start()
    record = device.get(f"/v1/steps/{step_id}")
    slot = device.slot()
    told = (record["state"], record["reason"], slot.state)
    assert told in {("failed", "interrupted", "staged"), ("failed", "interrupted", "reverted"), ("done", "", "trial")}
    assert _ask(device, images)["version"] == (slot.candidate if slot.state == "trial" else "1.0.0")


def test_the_same_step_posted_again_does_nothing(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    step_id, envelope = laptop.signed(device, Revert(model="digits"))
    with device.client() as client:
        client.post("/v1/steps", content=envelope)
        while (first := client.get(f"/v1/steps/{step_id}?wait=5").json())["state"] == "running":
            within(1).check("the revert")
        again = client.post("/v1/steps", content=envelope).json()
    assert again == first
    assert [act for act in _acts(device) if act[1] == "reverted"] == [("person", "reverted", "asked")]


def test_a_version_that_was_never_staged_cannot_be_activated(device: Agent, laptop: Laptop) -> None:
    with pytest.raises(DeviceCannot) as refused:
        laptop.activate(device, "9.9.9")
    assert refused.value.reason == "not_staged"
    with pytest.raises(DeviceCannot) as no_way_back:
        laptop.revert(device)
    assert no_way_back.value.reason == "no_last_good"


ENDLESS = "[validation]\nlatency_samples = 100000000\n"


@pytest.fixture
def validating(make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]) -> tuple[Agent, Laptop, str]:
    """A device in the middle of a validation that never ends by itself; the laptop that asked; the step."""
    device = make_device(ENDLESS).start()
    laptop = make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    step_id, envelope = laptop.signed(device, Activate(model="digits", version="1.1.0"))
    with device.client() as client:
        assert client.post("/v1/steps", content=envelope).status_code == 202
    device.until(lambda slot: slot.state == "validating")
    return device, laptop, step_id


def test_a_revert_does_not_wait_for_a_validation(validating: tuple[Agent, Laptop, str], images: tuple[Any, Any]) -> None:
    device, laptop, step_id = validating
    assert laptop.revert(device).version == "1.0.0"
    record = device.get(f"/v1/steps/{step_id}")
    assert (record["state"], record["reason"]) == ("failed", "superseded")
    slot = device.slot()
    assert (slot.state, slot.active, slot.candidate) == ("reverted", "1.0.0", None)
    assert _ask(device, images)["version"] == "1.0.0"


def test_a_revert_does_not_wait_for_a_benchmark(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    step_id, envelope = laptop.signed(device, Bench(model="digits", samples=100_000, warmup=10_000_000))
    with device.client() as client:
        assert client.post("/v1/steps", content=envelope).status_code == 202
        while client.get(f"/v1/steps/{step_id}?wait=5").json()["phase"] != "measuring":
            within(1).check("the benchmark")
    assert laptop.revert(device).version == "1.0.0"
    assert device.get(f"/v1/steps/{step_id}")["reason"] == "superseded"


def test_an_agent_stopped_in_a_validation_stops_at_once_and_tells_afterwards(
    validating: tuple[Agent, Laptop, str], images: tuple[Any, Any]
) -> None:
    device, _, step_id = validating
    assert _ask(device, images)["version"] == "1.0.0"
    assert device.stop() == 0
    device.start()
    record = device.get(f"/v1/steps/{step_id}")
    assert (record["state"], record["reason"], device.slot().active) == ("failed", "interrupted", "1.0.0")


def test_the_first_model_of_all_can_be_tried_and_without_a_commit_its_signed_rule_answers(
    make_agent: Callable[..., Agent], make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    device = make_agent().start()
    laptop = make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    with device.client("infer.sock") as client:
        assert client.post("/v2/models/digits/infer", json=request_of(images[0][0])).status_code == 404
    laptop.activate(device, "1.1.0", trial_s=5)
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == (None, "trial_deadline")
    assert _ask(device, images)["route"] == "rule"
    laptop.activate(device, "1.1.0")
    laptop.commit(device, "1.1.0")
    assert _ask(device, images)["version"] == "1.1.0"
    device.kill()
    device.start()
    assert _ask(device, images)["version"] == "1.1.0"

"""A worker that is killed while its version is judged: once is nobody's fault, again is the version's; last-good gets one try more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fieldops.edges.faults import workers_of
from fieldops.errors import DeviceCannot, NeedsPerson
from tests.agent.conftest import Agent, Laptop, request_of, within


@pytest.fixture
def visit(make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]) -> tuple[Agent, Laptop]:
    """Its validations last long enough that no worker is through before it can be killed."""
    device, laptop = make_device("[validation]\nlatency_samples = 2000\n").start(), make_laptop()
    laptop.enrol(device)
    return device, laptop


@contextmanager
def killing_new_workers(device: Agent, count: int) -> Iterator[list[int]]:
    """The first `count` workers that start inside the block are killed, each as soon as it is seen."""
    assert device.process is not None
    pid, dead, over = device.process.pid, list[int](), threading.Event()
    old = set(workers_of(pid))

    def watch() -> None:
        waiting = within()
        while len(dead) < count and not over.is_set():
            waiting.check("a new worker")
            for new in sorted(set(workers_of(pid)) - old - set(dead))[:1]:
                os.kill(new, signal.SIGKILL)
                dead.append(new)
            over.wait(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield dead
    finally:
        over.set()
        thread.join()


def _answered_by(device: Agent, images: tuple[Any, Any]) -> tuple[str, str]:
    with device.client("infer.sock") as client:
        said = client.post("/v2/models/digits/infer", json=request_of(images[0][0])).json()["parameters"]
        return str(said["version"]), str(said["route"])


def test_a_candidate_whose_worker_is_killed_once_is_judged_by_another(visit: tuple[Agent, Laptop]) -> None:
    device, laptop = visit
    laptop.stage(device, "digits@1.1.0")
    with killing_new_workers(device, 1) as dead:
        record = laptop.activate(device, "1.1.0")
    assert len(dead) == 1
    assert device.slot().state == "trial"
    (load,) = [check for check in record.checks if check.name == "load"]
    assert load.note.startswith("a worker before this one ended")


def test_a_candidate_whose_workers_keep_dying_is_refused_and_kept_out(
    visit: tuple[Agent, Laptop], images: tuple[Any, Any]
) -> None:
    device, laptop = visit
    laptop.stage(device, "digits@1.1.0")
    with killing_new_workers(device, 2) as dead, pytest.raises(DeviceCannot) as refused:
        laptop.activate(device, "1.1.0")
    assert len(dead) == 2
    assert refused.value.reason == "validation_failed"
    slot = device.slot()
    assert (slot.state, slot.active) == ("reverted", "1.0.0")
    assert {each.role for each in slot.versions if each.version == "1.1.0"} == {"quarantined"}
    assert _answered_by(device, images)[0] == "1.0.0"


def test_a_way_back_outlives_two_killed_workers(visit: tuple[Agent, Laptop], images: tuple[Any, Any]) -> None:
    device, laptop = visit
    laptop.install(device, "1.1.0")
    with killing_new_workers(device, 2) as dead:
        record = laptop.revert(device)
    assert (len(dead), record.version) == (2, "1.0.0")
    assert _answered_by(device, images)[0] == "1.0.0"


def test_a_way_back_whose_workers_all_die_needs_a_person_and_the_signed_rule_answers(
    visit: tuple[Agent, Laptop], images: tuple[Any, Any]
) -> None:
    device, laptop = visit
    laptop.install(device, "1.1.0")
    with killing_new_workers(device, 3) as dead, pytest.raises(NeedsPerson) as told:
        laptop.revert(device)
    assert (len(dead), told.value.exit_code) == (3, 10)
    assert _answered_by(device, images)[1] == "rule"
    laptop.stage(device, "digits@1.2.0")  # staging mends nothing yet
    assert _answered_by(device, images)[1] == "rule"
    device.kill()
    device.start()
    assert _answered_by(device, images)[1] == "rule"
    laptop.activate(device, "1.2.0")
    laptop.commit(device, "1.2.0")
    assert _answered_by(device, images)[0] == "1.2.0"

"""A candidate that sees copies of live requests before it is tried: told, never waited for, and gone when it fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from fieldops.agent.shadowing import judged
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.operations.sideload import Window, plan
from fieldops.steps import Activate, Prune, describe
from fieldops.wire import ShadowReport, StepRecord, encode
from tests.agent.conftest import Agent, Laptop, Load, within

LONG_S = 600  # longer than any test: what ends it is what is tested


def activate(laptop: Laptop, device: Agent, shadow_s: int) -> StepRecord:
    return laptop.do(device, Activate(model="digits", version="1.1.0", shadow_s=shadow_s))


def workers(device: Agent) -> list[int]:
    """Oldest first."""
    assert device.process is not None
    found = [each for each in psutil.Process(device.process.pid).children() if "worker" in each.cmdline()]
    return [each.pid for each in sorted(found, key=psutil.Process.create_time)]


@contextmanager
def in_the_shadow(laptop: Laptop, device: Agent) -> Iterator[dict[str, Any]]:
    """1.1.0 in the shadow of what answers; at the end the error that its activation ended with is under `error`."""
    laptop.stage(device, "digits@1.1.0")
    told: dict[str, Any] = {}
    step_id, envelope = laptop.signed(device, Activate(model="digits", version="1.1.0", shadow_s=LONG_S))
    with device.client() as client:
        assert client.post("/v1/steps", content=envelope).status_code == 202
    deadline = within()
    while device.get(f"/v1/steps/{step_id}?wait=5")["phase"] != "shadow":
        deadline.check("the shadow")
    yield told
    while (record := device.get(f"/v1/steps/{step_id}?wait=5"))["state"] == "running":
        deadline.check("the end of the activation")
    told.update(record)


def test_agreement_and_latency_of_a_candidate_are_told_before_it_answers_anybody(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    laptop.stage(device, "digits@1.1.0")
    with Load(device, images[0]) as load:
        load.until("1.0.0")
        record = activate(laptop, device, 3)
        load.until("1.1.0")
    assert load.failures == []
    assert "rule" not in load.routes
    report = record.shadow
    assert report is not None
    assert report.requests > 0
    assert report.failed == 0
    assert report.rows >= report.agreed >= 0.8 * report.rows
    assert report.p50_ms is not None
    assert report.active_p50_ms is not None
    assert [(check.name, check.ok) for check in record.checks][-1] == ("shadow", True)
    assert device.slot().state == "trial"
    assert [check.name for check in device.slot().checks][-1] == "shadow"


def test_a_candidate_that_dies_in_the_shadow_is_refused_and_kept_out(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    with Load(device, images[0]) as load:
        load.until("1.0.0")
        with in_the_shadow(laptop, device) as ended:
            os.kill(workers(device)[-1], signal.SIGKILL)
        load.until("1.0.0", 50)
    assert (ended["state"], ended["reason"], ended["exit"]) == ("failed", "validation_failed", 6)
    assert "shadow its worker ended" in ended["message"]
    assert (load.failures, set(load.answers)) == ([], {"1.0.0"})
    slot = device.slot()
    assert {version.version: version.role for version in slot.versions}["1.1.0"] == "quarantined"
    assert (slot.state, slot.active) == ("reverted", "1.0.0")


def test_a_revert_does_not_wait_for_a_shadow(device: Agent, laptop: Laptop, images: tuple[Any, Any]) -> None:
    with Load(device, images[0]) as load, in_the_shadow(laptop, device) as ended:
        assert laptop.revert(device).version == "1.0.0"
    assert (ended["state"], ended["reason"]) == ("failed", "superseded")
    assert load.failures == []
    assert (device.slot().state, device.slot().active) == ("reverted", "1.0.0")
    deadline = within()
    while len(workers(device)) > 1:
        deadline.check("the candidate's worker to end")
        deadline.cancel.wait(0.05)


def test_an_agent_that_ends_in_a_shadow_goes_on_with_what_answered(device: Agent, laptop: Laptop) -> None:
    for way in (device.stop, device.kill):
        with in_the_shadow(laptop, device) as ended:
            way()
            device.start()
        assert (ended["state"], ended["reason"]) == ("failed", "interrupted")
        assert (device.slot().state, device.slot().active, len(workers(device))) == ("reverted", "1.0.0", 1)
        laptop.do(device, Prune(model="digits", versions=["1.1.0"]))


@pytest.mark.parametrize(("seconds", "reason"), [(3, "memory"), (7200, "shadow_length")])
def test_a_shadow_that_cannot_be_is_refused_before_anything_is_begun(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], seconds: int, reason: str
) -> None:
    device = make_device("[runtime]\nunload_first = true\n").start()
    laptop = make_laptop()
    laptop.enrol(device)
    laptop.stage(device, "digits@1.1.0")
    with pytest.raises(DeviceCannot) as refused:
        activate(laptop, device, seconds)
    assert (refused.value.reason, refused.value.exit_code) == (reason, 6)
    assert device.slot().state == "staged"


REPORT = ShadowReport(
    seconds=60.0,
    requests=100,
    rows=90,
    agreed=45,
    not_comparable=10,
    failed=0,
    dropped=7,
    worst=0.5,
    p50_ms=1.0,
    active_p50_ms=2.0,
)


def test_disagreement_is_told_and_decides_nothing() -> None:
    check = judged(REPORT, 0.0)
    assert (check.ok, check.measured) == (True, "agrees on 45 of 90 rows in 60 s")
    for word in ("p50 1.00 ms beside 2.00 ms", "difference 0.5", "7 copies dropped", "10 answers could not be compared"):
        assert word in check.note


@pytest.mark.parametrize(
    ("crash", "failed", "rate", "ok"),
    [("", 1, 0.0, False), ("", 1, 0.02, True), ("", 3, 0.02, False), ("the worker is gone", 0, 1.0, False)],
)
def test_what_decides_is_whether_it_answers(crash: str, failed: int, rate: float, ok: bool) -> None:
    assert judged(replace(REPORT, crash=crash, failed=failed), rate).ok is ok


def test_a_sideload_asks_for_a_shadow_and_an_older_agent_never_hears_of_it_without(device: Agent, laptop: Laptop) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    with laptop.device(device) as connected:
        planned = plan(laptop.trust, connected, bundle, within(), shadow_s=60)
        with pytest.raises(UsageFault, match="without a shadow phase"):
            plan(laptop.trust, connected, bundle, within(), shadow_s=60, window=Window(0.0, 3600.0))
    (step,) = [each.step for each in planned.steps if isinstance(each.step, Activate)]
    assert describe(step) == "validate digits 1.1.0, let it see copies of live requests for 60 s, then trial for 300 s"
    assert b"shadow" not in encode(Activate(model="digits", version="1.1.0"))

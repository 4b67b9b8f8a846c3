"""A laptop changes a device: enrol, stage, activate, commit, revert, over the real socket with real signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fieldops.errors import DeviceCannot
from tests.agent.conftest import Agent, Laptop, Load, Release, provision


@pytest.fixture
def agent(make_agent: Callable[..., Agent], release: Release) -> Agent:
    made = make_agent()
    provision(made, release, "digits@1.0.0")
    return made.start()


def test_a_first_laptop_enrols_and_brings_the_policy(agent: Agent, make_laptop: Callable[..., Laptop]) -> None:
    laptop = make_laptop()
    laptop.enrol(agent)
    trust = agent.get("/v1/trust")
    assert trust["laptops"] == [laptop.signer.laptop]
    assert trust["policy_sha256"]
    assert agent.get("/v1/hello")["enrolled"] is True


def test_sideload_commit_and_rollback_lose_no_request(
    agent: Agent, make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    laptop = make_laptop()
    laptop.enrol(agent)
    with Load(agent, images[0]) as load:
        load.until("1.0.0")
        laptop.stage(agent, "digits@1.1.0")
        record = laptop.activate(agent, "1.1.0")
        assert {check.name: check.ok for check in record.checks} == dict.fromkeys(
            ["digest", "load", "golden", "replay", "latency", "memory"], True
        )
        load.until("1.1.0")
        assert agent.slot().state == "trial"
        laptop.commit(agent, "1.1.0")
        load.until("1.1.0")
        record = laptop.revert(agent)
        assert (record.previous, record.version) == ("1.1.0", "1.0.0")
        load.until("1.0.0")
    assert load.failures == []
    slot = agent.slot()
    assert (slot.state, slot.active, slot.last_good) == ("reverted", "1.0.0", "1.0.0")


def test_a_model_that_answers_wrong_is_refused_by_the_golden_set_and_never_answers(
    agent: Agent, make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    laptop = make_laptop()
    laptop.enrol(agent)
    with Load(agent, images[0]) as load:
        laptop.stage(agent, "digits@2.0.0-bad")
        with pytest.raises(DeviceCannot) as refused:
            laptop.activate(agent, "2.0.0-bad")
        load.until("1.0.0")
    assert (refused.value.reason, refused.value.exit_code) == ("validation_failed", 6)
    assert load.failures == []
    assert set(load.answers) == {"1.0.0"}
    slot = agent.slot()
    assert slot.active == "1.0.0"
    assert [(v.version, v.role) for v in slot.versions if v.role == "quarantined"] == [("2.0.0-bad", "quarantined")]
    with pytest.raises(DeviceCannot) as again:
        laptop.stage(agent, "digits@2.0.0-bad")
    assert again.value.reason == "quarantined"

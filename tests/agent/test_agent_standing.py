"""What was signed when it was staged may be taken back before it goes into service: asked again, by the metadata of that day."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from fieldops.edges.registry import Registry
from fieldops.edges.tuf_client import TrustStore
from fieldops.errors import TrustRefused
from fieldops.operations.sideload import Window, plan
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.steps import Activate, Arm, Revert
from tests.agent.conftest import Agent, Laptop, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture

DAY = 86_400.0


@pytest.fixture
def visitor(device: Agent, make_laptop: Callable[..., Laptop], office: Office) -> Laptop:  # noqa: F811
    """Enrolled, with the office's newest stick in hand."""
    laptop = make_laptop()
    laptop = replace(laptop, source=office.export("first").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    return laptop


def brings_news(laptop: Laptop, device: Agent, office: Office, name: str) -> None:  # noqa: F811
    """The next visit: newer metadata alone, as RotateTrust carries it."""
    laptop.trust.refresh(office.export(name).source, within())
    laptop.rotate(device)


def withdraw(office: Office, ref: str) -> None:  # noqa: F811
    office.repo.withdraw(ref, "stable")
    office.repo.sign("stable")
    office.repo.publish()


def refusal(laptop: Laptop, device: Agent, step: Activate | Revert) -> tuple[str, int]:
    with pytest.raises(TrustRefused) as caught:
        laptop.do(device, step)
    return caught.value.reason, caught.value.exit_code


def test_a_version_withdrawn_while_it_waited_is_not_activated(device: Agent, visitor: Laptop, office: Office) -> None:  # noqa: F811
    visitor.stage(device, "digits@1.1.0")
    withdraw(office, "digits@1.1.0")
    brings_news(visitor, device, office, "news")
    assert refusal(visitor, device, Activate(model="digits", version="1.1.0")) == ("withdrawn", 3)
    slot = device.slot()
    assert (slot.state, slot.active, slot.candidate) == ("settled", "1.0.0", None)
    # It stays so, and another one is not hindered.
    assert refusal(visitor, device, Activate(model="digits", version="1.1.0")) == ("withdrawn", 3)
    visitor.install(device, "1.2.0")
    entries = device.get("/v1/journal")["entries"]
    assert ("refuse", "1.1.0", "withdrawn") in [(each["action"], each["version"], each["reason"]) for each in entries]


def test_an_armed_version_that_is_withdrawn_is_disarmed_by_the_device(device: Agent, visitor: Laptop, office: Office) -> None:  # noqa: F811
    visitor.stage(device, "digits@1.1.0")
    now = time.time()
    withdraw(office, "digits@1.1.0")
    visitor.trust.refresh(office.export("news").source, within())
    visitor.do(device, Arm(model="digits", version="1.1.0", trial_s=5, start=now + 3600, end=now + 7200))
    visitor.rotate(device)
    visitor.do(device, Arm(model="digits", version="1.1.0", trial_s=5, start=now, end=now + 3600))  # its window is now
    slot = device.until(lambda slot: slot.armed_until is None)
    assert (slot.state, slot.active, slot.candidate) == ("settled", "1.0.0", None)
    last = device.get("/v1/journal")["entries"][-1]
    assert (last["action"], last["version"], last["reason"]) == ("disarm", "1.1.0", "withdrawn")


def test_a_version_withdrawn_in_its_trial_is_neither_committed_nor_gone_back_to(
    device: Agent,
    visitor: Laptop,
    office: Office,  # noqa: F811
) -> None:
    visitor.install(device, "1.1.0")
    visitor.stage(device, "digits@1.2.0")
    visitor.activate(device, "1.2.0", trial_s=3600)
    withdraw(office, "digits@1.2.0")
    brings_news(visitor, device, office, "news")
    with pytest.raises(TrustRefused) as caught:
        visitor.commit(device, "1.2.0")
    assert caught.value.reason == "withdrawn"
    assert device.slot().state == "trial"
    assert visitor.revert(device).version == "1.1.0"
    assert refusal(visitor, device, Revert(model="digits", to="1.2.0")) == ("withdrawn", 3)
    assert device.slot().active == "1.1.0"


def test_last_good_that_is_withdrawn_is_the_way_back_all_the_same_and_a_listed_version_is_none(
    device: Agent,
    visitor: Laptop,
    office: Office,  # noqa: F811
) -> None:
    for version in ("1.1.0", "1.2.0"):
        visitor.install(device, version)
    withdraw(office, "digits@1.1.0")
    withdraw(office, "digits@1.0.0")
    brings_news(visitor, device, office, "news")
    assert visitor.revert(device).version == "1.1.0"
    visitor.stage(device, "digits@1.2.0")
    visitor.activate(device, "1.2.0")
    visitor.commit(device, "1.2.0")
    slot = device.slot()
    assert (slot.active, slot.last_good) == ("1.2.0", "1.1.0")
    # 1.0.0 is on the disk still, below the floor, and neither active nor last-good
    with pytest.raises(TrustRefused) as caught:
        visitor.revert(device, "1.0.0")
    assert caught.value.reason == "below_floor"


def test_an_armed_version_whose_metadata_expired_meanwhile_stays_staged_and_the_way_back_needs_no_renewal(
    device: Agent,
    visitor: Laptop,
    office: Office,  # noqa: F811
) -> None:
    """By signed time, which the device remembers: its clock cannot be set back before it."""
    visitor = replace(visitor, source=office.export("short", days=20).source)
    visitor.install(device, "1.1.0")
    visitor.stage(device, "digits@1.2.0")
    now = time.time()
    with visitor.device(device) as connected:
        window = Window(now + 25 * DAY, now + 29 * DAY)
        told = plan(visitor.trust, connected, visitor.bundle("digits@1.2.0"), within(), window=window).warnings
    assert any("before its window ends" in each for each in told)
    visitor.do(device, Arm(model="digits", version="1.2.0", trial_s=5, start=window.start, end=window.end))
    device.stop()
    registry = Registry.open(device.home / "registry.db")
    with registry.change() as change:
        change.fact("clock_floor", str(now + 26 * DAY))
    registry.close()
    device.start()
    slot = device.until(lambda slot: slot.armed_until is None)
    assert (slot.state, slot.active, slot.candidate) == ("staged", "1.1.0", "1.2.0")
    last = device.get("/v1/journal")["entries"][-1]
    assert (last["action"], last["version"], last["reason"]) == ("disarm", "1.2.0", "expired")
    assert visitor.revert(device).version == "1.0.0"


def test_who_is_revoked_meanwhile_armed_nothing(device: Agent, visitor: Laptop, office: Office) -> None:  # noqa: F811
    visitor.stage(device, "digits@1.1.0")
    now = time.time()
    visitor.do(device, Arm(model="digits", version="1.1.0", trial_s=5, start=now + 3600, end=now + 7200))
    policy = PolicyDocument(v=1, roles={"lead": ["*"]}, people={"SHA256:" + "A" * 43: Person(role="lead")})
    office.repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    office.repo.sign("policy")
    office.repo.publish()
    brings_news(visitor, device, office, "news")
    slot = device.until(lambda slot: slot.armed_until is None)
    assert (slot.state, slot.active, slot.candidate) == ("staged", "1.0.0", "1.1.0")
    (said,) = [each["reason"] for each in device.get("/v1/journal")["entries"] if each["action"] == "disarm"]
    assert "has no role in the signed policy" in said


def test_the_newest_metadata_on_the_device_decides_not_the_one_it_was_staged_with(
    device: Agent,
    visitor: Laptop,
    office: Office,  # noqa: F811
) -> None:
    """The withdrawal came along with the staging of another version."""
    visitor.stage(device, "digits@1.1.0")
    withdraw(office, "digits@1.1.0")
    other = replace(visitor, source=office.export("news").source)
    assert isinstance(other.trust, TrustStore)
    other.stage(device, "digits@1.2.0")
    assert refusal(visitor, device, Activate(model="digits", version="1.1.0")) == ("withdrawn", 3)
    assert visitor.activate(device, "1.2.0").version == "1.2.0"

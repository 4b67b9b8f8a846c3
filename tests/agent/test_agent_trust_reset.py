"""A real device through a reset of its trust, and through the cure of a clock floor that was poisoned."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.errors import LinkFault, TrustRefused
from fieldops.operations import sideload
from tests.agent.conftest import CLOCK, Agent, Laptop, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture
from tests.trust.conftest import Stick

DAY = 86_400.0


class Ahead:
    """The office's clock on the day it was wrong. Implements ports.Clock."""

    def now(self) -> float:
        return CLOCK.now() + 100 * DAY

    def monotonic(self) -> float:
        return time.monotonic()


def rotated(office: Office, name: str) -> Stick:  # noqa: F811
    for role in office.repo.rotate("timestamp"):
        office.repo.sign(role)
    office.repo.publish()
    return office.export(name)


def test_a_device_does_not_go_back_behind_a_root_that_it_has_seen(
    device: Agent,
    laptop: Laptop,
    office: Office,  # noqa: F811
) -> None:
    laptop.trust.refresh(rotated(office, "second").source, within())
    laptop.rotate(device)
    device.stop()
    shutil.rmtree(device.home / "trust")
    device.start()
    old = msgspec.structs.replace(laptop.enrol_step, root=office.repo.root(1).decode())
    with pytest.raises(TrustRefused) as caught:
        laptop.do(device, old)
    assert caught.value.reason == "rollback"
    laptop.enrol(device)
    assert device.get("/v1/trust")["root_version"] == 2
    assert device.slot().active == "1.0.0"


def test_a_poisoned_floor_is_cured_on_the_device_by_a_new_timestamp_key(
    device: Agent,
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
) -> None:
    laptop = make_laptop()
    ahead = ReleaseRepo(office.folder / "repo", office.folder / "keys", Ahead())
    ahead.publish()
    laptop.trust.refresh(Stick(ahead.export_stick(office.folder / "ahead"), office.folder / "keys").source, within())
    laptop.enrol(device)
    assert device.get("/v1/trust")["clock_floor"] > CLOCK.now() + 99 * DAY

    honest = replace(laptop, source=office.export("honest").source)
    with pytest.raises(TrustRefused) as caught:
        honest.bundle("digits@1.1.0")
    assert caught.value.reason == "expired"
    with pytest.raises(LinkFault) as refused:  # by the device's time the session has long been over
        laptop.revert(device, to="1.0.0")
    assert refused.value.reason == "session_over"

    cured = replace(laptop, source=rotated(office, "cured").source)
    bundle = cured.bundle("digits@1.1.0")
    with cured.device(device) as connected:
        planned = sideload.plan(cured.trust, connected, bundle, within())
        sideload.run(cured.gate, connected, planned, within())
    assert device.get("/v1/trust")["clock_floor"] < CLOCK.now() + DAY
    assert cured.trust.facts().clock_floor < CLOCK.now() + DAY
    assert device.slot().active == "1.1.0"

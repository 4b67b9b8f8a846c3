"""A model somebody put on the device by hand, taken as version 0; a laptop forgotten; trials only where the agent comes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from fieldops.errors import DeviceCannot, LinkFault
from fieldops.steps import Adopt, Bench, Unenrol
from tests.agent.conftest import DIGITS, Agent, Laptop

FOREIGN = '[foreign]\nmodel = "digits"\nfile = "found.onnx"\n'


@pytest.fixture
def found(make_agent: Callable[..., Agent], make_laptop: Callable[..., Laptop]) -> tuple[Agent, Laptop]:
    """A device that runs a model nobody signed, enrolled, with the policy on it."""
    agent = make_agent(FOREIGN)
    (agent.home / "foreign").mkdir()
    shutil.copy(DIGITS / "1.0.0" / "core.onnx", agent.home / "foreign" / "found.onnx")
    agent.start()
    laptop = make_laptop()
    laptop.enrol(agent)
    return agent, laptop


def test_an_adopted_model_is_measured_and_is_what_a_rollback_goes_back_to(found: tuple[Agent, Laptop]) -> None:
    agent, laptop = found
    record = laptop.do(agent, Adopt(model="digits", samples=64))
    assert record.bench is not None
    assert record.bench.samples == 64
    assert {check.name: check.ok for check in record.checks} == {"load": True, "golden": True, "replay": True}
    assert agent.slot().last_good == "0.0.0"
    (agent.home / "foreign" / "found.onnx").unlink()  # its own program is gone; the copy is not
    laptop.install(agent, "1.1.0")
    assert (agent.slot().active, agent.slot().last_good) == ("1.1.0", "0.0.0")
    laptop.revert(agent)
    assert (agent.slot().active, agent.slot().state) == ("0.0.0", "reverted")


def test_adopting_twice_changes_nothing_but_the_figures(found: tuple[Agent, Laptop]) -> None:
    agent, laptop = found
    laptop.do(agent, Adopt(model="digits", samples=64))
    before = agent.slot()
    assert laptop.do(agent, Adopt(model="digits", samples=64)).state == "done"
    assert (agent.slot().active, agent.slot().last_good, agent.slot().state) == (before.active, before.last_good, before.state)


def test_what_was_signed_is_not_adopted(device: Agent, laptop: Laptop) -> None:
    with pytest.raises(DeviceCannot) as refused:
        laptop.do(device, Adopt(model="digits"))
    assert refused.value.reason == "nothing_to_adopt"
    assert device.slot().active == "1.0.0"


def test_a_foreign_file_that_changed_is_not_adopted(found: tuple[Agent, Laptop]) -> None:
    agent, laptop = found
    file = agent.home / "foreign" / "found.onnx"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DeviceCannot) as refused:
        laptop.do(agent, Adopt(model="digits"))
    assert refused.value.reason == "adopt_failed"
    file.write_bytes(file.read_bytes()[:-1])
    assert laptop.do(agent, Adopt(model="digits", samples=64)).state == "done"


def test_a_laptop_that_is_forgotten_must_enrol_again(device: Agent, laptop: Laptop) -> None:
    assert laptop.do(device, Unenrol(laptop=laptop.signer.laptop)).state == "done"
    with pytest.raises(LinkFault) as refused:
        laptop.do(device, Bench(model="digits", samples=64))
    assert refused.value.reason == "not_enrolled"
    laptop.enrol(device)
    assert laptop.do(device, Bench(model="digits", samples=64)).state == "done"


def test_nothing_goes_on_trial_where_nobody_proved_that_the_agent_comes_back(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]
) -> None:
    agent = make_device('[service]\nkind = "supervised"\n').start()
    laptop = make_laptop()
    laptop.enrol(agent)
    laptop.stage(agent, "digits@1.1.0")
    with pytest.raises(DeviceCannot) as refused:
        laptop.activate(agent, "1.1.0")
    assert refused.value.reason == "not_proved"
    (agent.home / "proof").write_text("{}")
    laptop.activate(agent, "1.1.0")
    assert agent.slot().state == "trial"

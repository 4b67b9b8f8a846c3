"""A signed policy, and a step, of a newer version than the agent's: what it does not know it passes over, or refuses by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fieldops.errors import PolicyRefused, TrustRefused, UsageFault
from fieldops.policy import decode_draft, decode_policy
from fieldops.steps import Bench
from fieldops.wire import STEP_PAYLOAD_TYPE, enveloped, unb64
from tests.agent.conftest import Agent, Laptop, Release, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture

RULES = "policy/rules/current/policy.json"
BENCH = Bench(model="digits", samples=64)


def signed_as(office: Office, release: Release, **changes: Any) -> None:  # noqa: F811
    """Over a policy file as a newer release team would write it."""
    from fieldops.edges.keys import ssh_fingerprint, ssh_public_blob

    person = ssh_fingerprint(ssh_public_blob(release.person))
    document = {
        "v": 1,
        "roles": {"technician": ["*", "Levitate"]},
        "people": {person: {"role": "technician", "shift": "late"}},
        "patience": {"of_devices": 7},
        **changes,
    }
    office.repo.add_policy_target(RULES, msgspec.json.encode(document))
    office.repo.sign("policy")
    office.repo.publish()


def test_a_device_takes_a_newer_policy_with_what_it_knows_of_it(
    device: Agent,
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
    release: Release,
) -> None:
    """Here: that the laptop is revoked, which a device that refused the whole would never hear."""
    laptop = make_laptop()
    laptop = replace(laptop, source=office.export("first").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    signed_as(office, release)
    laptop.trust.refresh(office.export("newer").source, within())
    laptop.rotate(device)
    assert laptop.do(device, BENCH).state == "done"
    signed_as(office, release, laptops_revoked=[laptop.signer.laptop])
    laptop.trust.refresh(office.export("revoked").source, within())
    laptop.rotate(device)
    with pytest.raises(PolicyRefused, match="revoked"):
        laptop.do(device, BENCH)


def test_a_policy_that_may_not_be_passed_over_leaves_the_old_one_in_force(
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
    release: Release,
) -> None:
    laptop = make_laptop()
    laptop.trust.refresh(office.export("first").source, within())
    before = laptop.trust.policy()
    signed_as(office, release, v=2)
    with pytest.raises(TrustRefused, match="version 2") as caught:
        laptop.trust.refresh(office.export("v2").source, within())
    assert caught.value.reason == "malformed"
    assert laptop.trust.policy() == before


def test_the_office_refuses_what_it_does_not_know_all_at_once() -> None:
    text = b'{"v": 1, "roles": {"a": ["*"]}, "people": {"SHA256:x": {"role": "a", "unitl": 5}}, "ssh_password": true}'
    assert decode_policy(text).people["SHA256:x"].role == "a"
    with pytest.raises(UsageFault) as caught:
        decode_draft(text)
    assert "ssh_password" in caught.value.message
    assert "people.SHA256:x.unitl" in caught.value.message


def test_a_step_with_more_than_the_agent_knows_is_refused_by_name(device: Agent, laptop: Laptop) -> None:
    import httpx

    _, envelope = laptop.signed(device, BENCH)
    request = msgspec.json.decode(unb64(msgspec.json.decode(envelope)["payload"]))
    request["step"]["gently"] = True
    asked = enveloped(STEP_PAYLOAD_TYPE, msgspec.json.encode(request), laptop.signer.laptop, laptop.signer.sign)
    transport = httpx.HTTPTransport(uds=str(device.runtime / "agent.sock"))
    with httpx.Client(transport=transport, base_url="http://agent") as client:
        answer = client.post("/v1/steps", content=asked)
    assert (answer.status_code, answer.json()["reason"], answer.json()["exit"]) == (409, "unsupported_step", 6)
    assert "gently" in answer.json()["message"]

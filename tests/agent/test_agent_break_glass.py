"""Expired metadata on a real device: the laptop asks, two people sign, the device decides again and says so loudly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fieldops.bundles.approvals import APPROVAL_NAMESPACE
from fieldops.edges.keys import ssh_fingerprint, ssh_public_blob, sshsig_sign
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.errors import TrustRefused
from fieldops.operations import sideload
from fieldops.ports import BreakGlass
from fieldops.steps import Approval, RotateTrust, Stage
from tests.agent.conftest import CLOCK, Agent, Laptop, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture
from tests.trust.conftest import Stick

DAY = 86_400.0


class Past:
    """The office's clock when it made the stick. Implements ports.Clock."""

    def now(self) -> float:
        return CLOCK.now() - 12 * DAY

    def monotonic(self) -> float:
        return time.monotonic()


def test_expired_metadata_with_two_approvals_and_not_with_one(
    device: Agent,
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
) -> None:
    laptop = make_laptop()
    laptop.trust.refresh(office.export("valid").source, within())
    laptop.enrol(device)
    old = Stick(
        ReleaseRepo(office.folder / "repo", office.folder / "keys", Past()).export_stick(office.folder / "old", 10), office.folder
    )
    laptop = replace(laptop, source=old.source)
    gate = replace(laptop.gate, clock=CLOCK)

    with pytest.raises(TrustRefused) as caught:
        sideload.fetch(gate, laptop.trust, laptop.source, "digits@1.1.0", within())
    assert caught.value.reason == "expired"

    devices = (str(device.ready["device"]),)
    until = CLOCK.now() + DAY
    text = sideload.statement(
        laptop.trust, laptop.source, "digits@1.1.0", devices, within(), until=until, accept_expired=True, reason="line down"
    )
    keys = (laptop.technician.key, office.approver)
    approvals = tuple(
        Approval(statement=text, signature=sshsig_sign(key, APPROVAL_NAMESPACE, text.encode())) for key in keys if key
    )
    glass = BreakGlass(approvals, devices)
    bundle = sideload.fetch(gate, laptop.trust, laptop.source, "digits@1.1.0", within(), glass=glass)
    assert bundle.broken is not None
    assert bundle.broken.age_s == pytest.approx(2 * DAY, abs=3600)
    noted = laptop.journal.read(laptop.journal.size() - 1)[0][0]
    assert (noted.act, noted.result and noted.result.reason) == ("BREAK-GLASS", "expired")

    with laptop.device(device) as connected:
        # A laptop that forgets an approval, or forgot that it needs any, gets nothing.
        for fewer in ((), approvals[:1], approvals[:1] * 2):
            plan = sideload.plan(laptop.trust, connected, bundle, within(), approvals=fewer)
            assert not [each for each in plan.steps if isinstance(each.step, RotateTrust)]
            with pytest.raises(TrustRefused) as caught:
                sideload.run(gate, connected, plan, within())
            assert (caught.value.reason, caught.value.exit_code) == ("expired", 3)
            assert device.slot().active == "1.0.0"
        plan = sideload.plan(laptop.trust, connected, bundle, within(), approvals=approvals)
        (stage,) = [each.step for each in plan.steps if isinstance(each.step, Stage)]
        assert stage.accept_expired
        assert any("expired" in warning for warning in plan.warnings)
        records = sideload.run(gate, connected, plan, within())
    assert [record.state for record in records] == ["done"] * 3
    assert device.slot().active == "1.1.0"
    journal: list[dict[str, Any]] = device.get("/v1/journal?after=0")["entries"]
    (loud,) = [entry for entry in journal if entry["action"] == "break_glass"]
    assert (loud["version"], loud["reason"]) == ("1.1.0", "expired")
    assert all(ssh_fingerprint(ssh_public_blob(key)) in loud["detail"] for key in keys if key)

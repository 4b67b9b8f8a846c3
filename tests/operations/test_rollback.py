"""Going back: to which version, what a person is told before, and what stands in the record after."""

from __future__ import annotations

import pytest

from fieldops.bundles.approvals import decode_statement
from fieldops.errors import DeviceCannot, FieldopsError, UsageFault
from fieldops.operations import plans, rollback
from fieldops.policy import PolicyDocument
from fieldops.steps import Approval, Revert
from fieldops.wire import SlotStatus
from tests.operations.conftest import DEVICE_ID, Laptop, NearDevice, digest, digits


@pytest.mark.parametrize(
    ("slot", "to", "now", "then"),
    [
        (digits(), None, "1.1.0", "1.0.0"),
        (digits(), "1.0.0", "1.1.0", "1.0.0"),
        (digits(state="trial", candidate="1.2.0"), None, "1.2.0", "1.1.0"),
        (digits(state="validating", candidate="1.2.0"), None, "1.1.0", "1.1.0"),
        (digits(active=None), None, None, "1.0.0"),
    ],
)
def test_a_rollback_goes_to_last_good_or_out_of_the_trial_or_to_a_listed_version(
    laptop: Laptop, slot: SlotStatus, to: str | None, now: str | None, then: str
) -> None:
    planned = rollback.plan(NearDevice("done", slot), "digits", laptop.deadline(), to=to)
    assert (planned.from_version, planned.to_version) == (now, then)
    assert [each.step for each in planned.steps] == [Revert(model="digits", to=to)]
    assert bool(planned.warnings) is (now == then)


@pytest.mark.parametrize(
    ("model", "to", "slot", "reason", "error"),
    [
        ("meters", None, digits(), "unknown_model", UsageFault),
        ("digits", "2.0.0", digits(), "unknown_version", UsageFault),
        ("digits", "0.9.0", digits(), "unknown_version", UsageFault),  # it failed there before
        ("digits", None, digits(last_good=None), "no_last_good", DeviceCannot),
    ],
)
def test_what_cannot_be_gone_back_to_is_said_before_anything_is_sent(
    laptop: Laptop, model: str, to: str | None, slot: SlotStatus, reason: str, error: type[FieldopsError]
) -> None:
    device = NearDevice("done", slot)
    with pytest.raises(error) as refused:
        rollback.plan(device, model, laptop.deadline(), to=to)
    assert (refused.value.reason, refused.value.device, bool(refused.value.next_step)) == (reason, "cam-01", True)
    assert device.envelopes == []


def test_nobody_has_to_be_known_to_go_back_to_last_good(laptop: Laptop) -> None:
    device, gate = NearDevice("done", digits()), laptop.gate(PolicyDocument(v=1, roles={}, people={}))
    planned = rollback.plan(device, "digits", laptop.deadline())
    rollback.run(gate, device, planned, laptop.deadline())
    assert device.slots["digits"].active == "1.0.0"
    listed = rollback.plan(device, "digits", laptop.deadline(), to="1.1.0")
    (line,) = plans.in_words(gate, listed)
    assert "[refused: " in line


def test_a_look_before_changes_nothing_and_stands_in_the_record(laptop: Laptop) -> None:
    device, gate = NearDevice("done", digits()), laptop.allowed()
    planned = rollback.plan(device, "digits", laptop.deadline())
    plans.note_dry_run(gate, device, planned)
    assert device.envelopes == []
    (note,) = laptop.entries()
    assert note.result is not None
    assert (note.act, note.result.status) == ("Revert", "dry_run")


def test_approvals_travel_with_the_step(laptop: Laptop) -> None:
    approval = Approval(statement="{}", signature="x")
    planned = rollback.plan(NearDevice("done", digits()), "digits", laptop.deadline(), to="1.0.0", approvals=[approval])
    assert planned.step.approvals == [approval]


def test_a_statement_names_the_device_the_version_and_its_bytes(laptop: Laptop) -> None:
    device = NearDevice("done", digits())
    statement = decode_statement(
        rollback.statement(device, "digits", "1.0.0", laptop.deadline(), until=2e9, reason="line stands")
    )
    assert (statement.allow, statement.model, statement.version) == ("below_floor", "digits", "1.0.0")
    assert (statement.devices, statement.manifest_sha256, statement.reason) == ([DEVICE_ID], digest("1.0.0"), "line stands")
    with pytest.raises(UsageFault) as unknown:
        rollback.statement(device, "digits", "3.0.0", laptop.deadline(), until=2e9)
    assert unknown.value.reason == "unknown_version"

"""Every kind of change is said before it is made, with how it is undone; and errors travel between processes unchanged."""

from __future__ import annotations

import pytest

from fieldops.errors import (
    Cancelled,
    CheckFailed,
    DeviceCannot,
    FieldopsError,
    LinkFault,
    MalformedReply,
    NeedsPerson,
    PolicyRefused,
    StorageFault,
    StoreFault,
    TrustRefused,
    UsageFault,
    from_parts,
    gravest,
)
from fieldops.slots import why
from fieldops.steps import (
    STEP_KINDS,
    AddDevice,
    Bench,
    Change,
    Enrol,
    KeepAgent,
    Recalibrate,
    RemoveDevice,
    SetDeviceId,
    Stage,
    Step,
    TrustHostKey,
    Unenrol,
    Upgrade,
    describe,
    describe_change,
    kind_of,
    subject_of,
    undo_of,
)
from tests.operations.test_gate import EXAMPLES


@pytest.mark.parametrize("kind", STEP_KINDS, ids=lambda kind: kind.__name__)
def test_each_step_says_what_it_does_to_what_and_how_it_is_undone(kind: type[Step]) -> None:
    step = EXAMPLES[kind]
    model = getattr(step, "model", "")
    assert model in describe(step)
    assert undo_of(step, previous="0.9.0")
    assert undo_of(step, previous=None)
    assert kind_of(step) == kind.__name__
    assert subject_of(step)[1] in {model, getattr(step, "label", ""), getattr(step, "agent", "")}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Enrol(laptop_key="", laptop_certificate="", root="", label="north"), "enrol this laptop as north"),
        (Unenrol(laptop="a" * 52, label="north"), "forget this laptop (north)"),
        (KeepAgent(version="2"), "keep agent 2"),
        (
            Upgrade(channel="stable", agent="x", version="2", kit_sha256="", trial_s=9),
            "install agent 2 from stable beside the one that runs, on trial for 9 s",
        ),
        (Recalibrate(model="digits", labels={}, undo=True), "bring back the former calibration of digits"),
        (Bench(model="digits", samples=64, tune=True), "benchmark digits, 64 samples, and find its number of threads"),
        (
            Stage(channel="stable", model="digits", version="1", manifest_sha256="", accept_expired=True),
            "stage digits 1 from stable THOUGH ITS METADATA EXPIRED",
        ),
    ],
)
def test_what_makes_a_difference_is_said(step: Step, words: str) -> None:
    assert describe(step) == words


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (AddDevice(table="", name="cam-02"), "cam-02"),
        (RemoveDevice(name="cam-02"), "cam-02"),
        (SetDeviceId(name="cam-02", id="b" * 52, formerly=""), "bbbbbbbb"),
        (TrustHostKey(host="192.0.2.1", port=22, key_type="ssh-ed25519", key="", replaces=""), "192.0.2.1"),
    ],
)
def test_each_change_of_the_laptop_is_said(change: Change, word: str) -> None:
    assert word in describe_change(change)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (2, "usage", UsageFault),
        (3, "rollback", TrustRefused),
        (4, "policy", PolicyRefused),
        (5, "unreachable", LinkFault),
        (6, "busy", DeviceCannot),
        (7, "fork", CheckFailed),
        (8, "disk_full", StorageFault),
        (9, "no_store", StoreFault),
        (10, "undo_failed", NeedsPerson),
        (130, "cancelled", Cancelled),
    ],
)
def test_an_error_of_another_process_is_the_same_here(code: int, reason: str, kind: type[FieldopsError]) -> None:
    met = from_parts(exit_code=code, reason=reason, message="what", next_step="do", device="cam-01")
    assert type(met) is kind
    assert (met.exit_code, met.reason, met.message, met.next_step, met.device) == (code, reason, "what", "do", "cam-01")


@pytest.mark.parametrize(("code", "reason"), [(3, "no reason of ours"), (77, "x"), (1, "bug")])
def test_an_error_that_is_not_known_here_is_never_guessed(code: int, reason: str) -> None:
    met = from_parts(exit_code=code, reason=reason, message="what", next_step="", device=None)
    assert type(met) is MalformedReply
    assert reason in met.message


@pytest.mark.parametrize(
    ("codes", "worst"), [([], 0), ([0, 0], 0), ([9, 4, 0], 4), ([7, 10, 3], 10), ([3, 130], 130), ([6, 1], 1), ([8, 9], 8)]
)
def test_of_several_outcomes_the_gravest_is_the_exit_code(codes: list[int], worst: int) -> None:
    assert gravest(codes) == worst


def test_the_reason_of_a_state_is_words_and_one_that_is_not_known_stays_readable() -> None:
    assert why("provisioned") == "it came with the device"
    assert why("some_new_reason") == "some new reason"
    assert why("validation failed: golden accuracy 0.1") == "validation failed: golden accuracy 0.1"

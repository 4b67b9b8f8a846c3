"""The device's transaction as a table: what may follow what, and what never happens on any way through it."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fieldops.errors import DeviceCannot
from fieldops.slots import (
    MOST_TRANSITIONS,
    RESTING,
    STATES,
    TABLE,
    Event,
    Slot,
    Trial,
    advance,
    expired,
    on_start,
    way_back,
)

TRIAL = Trial(boot_id="boot", deadline=100.0, attempts=3)
EVENTS: tuple[Event, ...] = get_args(Event)
SETTLED = Slot(model="digits", task="digits", state="settled", rest="settled", active="1.0.0", last_good="0.9.0")


def walk(slot: Slot, *events: Event, version: str | None = "1.1.0") -> Slot:
    for event in events:
        to = way_back(slot) if event == "revert" else version
        trial = TRIAL if event in {"passed", "resume", "commit"} else None
        slot = advance(slot, event, now=1.0, reason=event, version=to, trial=trial)
    return slot


def test_the_good_way_ends_settled_with_the_former_version_as_last_good() -> None:
    slot = walk(SETTLED, "stage", "staged", "activate", "passed", "commit", "settle")
    assert (slot.state, slot.active, slot.last_good, slot.candidate) == ("settled", "1.1.0", "1.0.0", None)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (("stage", "discard"), "settled"),
        (("stage", "staged", "discard"), "settled"),
        (("stage", "staged", "activate", "failed"), "reverted"),
        (("stage", "staged", "activate", "passed", "revert", "restored"), "reverted"),
        (("stage", "staged", "activate", "revert", "revert", "restored"), "reverted"),
        (("stage", "staged", "activate", "passed", "revert", "lost"), "needs_human"),
    ],
)
def test_every_way_that_ends_before_commit_leaves_the_active_version(events: tuple[Event, ...], state: str) -> None:
    slot = walk(SETTLED, *events)
    assert (slot.state, slot.active, slot.last_good, slot.candidate) == (state, "1.0.0", "0.9.0", None)


def test_out_of_a_trial_the_way_back_is_the_active_version_else_last_good() -> None:
    trial = walk(SETTLED, "stage", "staged", "activate", "passed")
    assert (trial.answering, way_back(trial)) == ("1.1.0", "1.0.0")
    assert way_back(walk(trial, "commit")) == "1.0.0"
    assert way_back(SETTLED) == "0.9.0"


def test_revert_is_possible_from_every_state() -> None:
    assert {state for state, event in TABLE if event == "revert"} == set(STATES)


def test_a_model_that_answers_nothing_of_its_own_is_told_by_none() -> None:
    lost = walk(SETTLED, "revert", "lost")
    assert (lost.state, lost.answering) == ("needs_human", None)


@pytest.mark.parametrize("event", ["commit", "passed", "restored", "settle", "staged", "resume"])
def test_what_the_table_does_not_hold_is_refused_and_names_the_state(event: Event) -> None:
    with pytest.raises(DeviceCannot, match="settled") as refused:
        advance(SETTLED, event, now=1.0, reason="")
    assert refused.value.reason == "wrong_state"


@pytest.mark.parametrize(
    ("slot", "boot", "now", "expected"),
    [
        (SETTLED, "boot", 1.0, None),
        (walk(SETTLED, "stage"), "boot", 1.0, None),
        (walk(SETTLED, "stage", "staged", "activate"), "boot", 1.0, ("failed", "interrupted")),
        (walk(SETTLED, "stage", "staged", "activate", "passed"), "boot", 99.0, ("resume", "restarted")),
        (walk(SETTLED, "stage", "staged", "activate", "passed"), "boot", 100.0, ("revert", "trial_deadline")),
        (walk(SETTLED, "stage", "staged", "activate", "passed"), "other", 1.0, ("revert", "trial_deadline")),
        (walk(SETTLED, "revert"), "boot", 1.0, ("revert", "revert")),
    ],
)
def test_after_a_restart_the_slot_itself_says_what_to_do(
    slot: Slot, boot: str, now: float, expected: tuple[str, str] | None
) -> None:
    assert on_start(slot, boot, now) == expected


def test_a_trial_with_no_start_left_goes_back() -> None:
    slot = walk(SETTLED, "stage", "staged", "activate", "passed")
    last = replace(slot, trial=replace(TRIAL, attempts=1))
    assert on_start(last, "boot", 1.0) == ("revert", "trial_attempts")


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_a_deadline_holds_for_its_own_boot_only(boot: str, now: float) -> None:
    assert expired(TRIAL, boot, now) is (boot != "boot" or now >= 100.0)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(["1.0.0", "1.1.0", "1.2.0"])), max_size=60))
def test_on_no_way_through_the_table_a_needed_version_is_let_go_of(steps: list[tuple[Event, str]]) -> None:
    slot = SETTLED
    for event, version in steps:
        to = way_back(slot) if event == "revert" else version
        before = slot
        try:
            slot = advance(slot, event, now=1.0, reason="x", version=to, trial=TRIAL, floor=3)
        except DeviceCannot:
            assert (before.state, event) not in TABLE
            continue
        assert slot.state in STATES
        assert slot.floor >= before.floor
        assert slot.hops <= MOST_TRANSITIONS
        assert slot.answering is None or slot.answering in slot.kept
        assert way_back(slot) is None or way_back(slot) in slot.kept
        if slot.state in RESTING:
            assert (slot.candidate, slot.target, slot.trial) == (None, None, None)
        if event in {"stage", "staged", "activate", "failed", "discard", "passed", "kept"}:
            assert (slot.active, slot.last_good) == (before.active, before.last_good)


def test_a_loop_of_restarts_ends_with_a_person() -> None:
    slot = walk(SETTLED, "revert")
    seen = 0
    while slot.state == "reverting":
        slot = walk(slot, "revert")
        seen += 1
    assert (slot.state, slot.reason) == ("needs_human", "too_many_transitions")
    assert seen <= MOST_TRANSITIONS

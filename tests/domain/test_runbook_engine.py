"""The engine as a dialogue: what it asks next, what it is told, how it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldops.errors import UsageFault
from fieldops.runbooks.engine import Action, Ending, Fact, resolve, run
from fieldops.runbooks.format import Runbook, parse

RUNBOOK = parse(
    b"""\
schema: fieldops.runbook/v1
id: two-changes
title: Two changes
params:
  model: {type: model, default: digits}
  why: {type: enum, values: [drift, crash], required: true}
requires:
  - {check: link.up}
  - {check: model.last_good, with: {model: "${model}"}}
steps:
  - id: first
    do: model.revert
    with: {model: "${model}"}
    effect: reversible
    explain: one
    retry: {max: 2, on: [link_lost]}
    undo: {do: model.activate, with: {model: "${model}", version: "${first.previous}"}}
  - id: second
    do: model.activate
    with: {model: "${model}", version: "${first.version}"}
    effect: reversible
    explain: two
    undo: {do: model.revert, with: {model: "${model}"}}
  - {id: look, do: health.check, with: {model: "${model}"}, effect: none, explain: three}
on_fail: undo_all
""",
    "rb.yaml",
)
PARAMS = resolve(RUNBOOK, {"why": "drift"})
OK = Fact(True, {"previous": "2.0.0", "version": "1.0.0"})
LOST = Fact(False, {}, "link_lost", "cable", 5)
FAILED = Fact(False, {}, "validation_failed", "golden", 6)
CANCELLED = Fact(False, {}, "cancelled", "Esc", 130)


def play(facts: list[Fact], runbook: Runbook = RUNBOOK) -> tuple[list[tuple[str, str]], Ending | None]:
    """Everything the engine asked while these facts were told; the ending is None when it still waits."""
    steps = run(runbook, PARAMS)
    asked: list[tuple[str, str]] = []
    try:
        action: Action = next(steps)
        for fact in facts:
            asked.append((action.kind, action.id))
            action = steps.send(fact)
        asked.append((action.kind, action.id))
    except StopIteration as stop:
        ending: Ending = stop.value
        return asked, ending
    return asked, None


@pytest.mark.parametrize(
    ("facts", "last_asked", "outcome"),
    [
        ([OK] * 5, ("do", "look"), "committed"),
        ([FAILED], ("require", "link.up"), "refused"),
        ([OK, FAILED], ("require", "model.last_good"), "refused"),
        ([OK, OK, FAILED], ("do", "first"), "refused"),
        ([OK, OK, LOST, LOST, LOST], ("do", "first"), "refused"),
        ([OK, OK, LOST, OK, OK, OK], ("do", "look"), "committed"),
        ([OK, OK, OK, FAILED, OK], ("undo", "first"), "reverted"),
        ([OK, OK, OK, OK, FAILED, OK, OK], ("undo", "first"), "reverted"),
        ([OK, OK, OK, OK, FAILED, FAILED], ("undo", "second"), "undo_failed"),
        ([OK, OK, OK, CANCELLED, OK], ("undo", "first"), "cancelled"),
        ([CANCELLED], ("require", "link.up"), "cancelled"),
    ],
)
def test_the_ending_follows_from_the_facts(facts: list[Fact], last_asked: tuple[str, str], outcome: str) -> None:
    asked, ending = play(facts)
    assert ending is not None
    assert (asked[-1], ending.outcome) == (last_asked, outcome)


def test_undos_come_last_first_and_know_what_was_saved() -> None:
    steps = run(RUNBOOK, PARAMS)
    next(steps)
    for fact in (OK, OK, OK, OK):
        steps.send(fact)
    undo_second = steps.send(FAILED)
    undo_first = steps.send(OK)
    assert (undo_second.id, undo_first.id) == ("second", "first")
    assert undo_first.arguments == {"model": "digits", "version": "2.0.0"}


def test_a_value_that_a_step_did_not_save_is_a_fact_not_a_crash() -> None:
    asked, ending = play([OK, OK, Fact(True, {})])
    assert ending is not None
    assert ending.outcome == "undo_failed"
    assert ending.failed is not None
    assert ending.failed.reason == "missing_value"
    assert asked[-1] == ("do", "first")


@given(st.lists(st.sampled_from([OK, LOST, FAILED, CANCELLED]), max_size=12), st.integers(0, 12))
def test_a_run_sent_the_same_facts_again_goes_on_from_the_same_place(facts: list[Fact], cut: int) -> None:
    assert play(facts) == play(list(facts))
    before, _ = play(facts[:cut])
    whole, _ = play(facts)
    assert whole[: len(before)] == before


@given(st.lists(st.sampled_from([OK, LOST, FAILED, CANCELLED]), min_size=20, max_size=20))
def test_every_run_ends_and_never_leaves_a_change_without_its_undo_being_tried(facts: list[Fact]) -> None:
    asked, ending = play(facts)
    assert ending is not None
    told = list(zip(asked, facts, strict=False))
    changed = {name for (kind, name), fact in told if kind == "do" and fact.ok and name != "look"}
    undone = {name for (kind, name), _ in told if kind == "undo"}
    if ending.outcome in {"reverted", "cancelled"}:
        assert undone == changed
    if ending.outcome == "refused":
        assert not changed


def test_parameters_are_checked_all_at_once() -> None:
    with pytest.raises(UsageFault) as refused:
        resolve(RUNBOOK, {"why": "boredom", "colour": "red"})
    assert "colour" in str(refused.value)
    assert "boredom" in str(refused.value)

from __future__ import annotations

import pytest

from fieldops.errors import UsageFault
from fieldops.runbooks.format import parse

GOOD = b"""\
schema: fieldops.runbook/v1
id: rollback-model
title: Back to last-good
roles: [technician]
params:
  device: {type: device, required: true}
  model: {type: model, default: digits}
  reason: {type: enum, values: [drift, crash], required: true}
limits: {timeout: 20m}
requires:
  - {check: link.up}
  - {check: model.last_good, with: {model: "${model}"}}
steps:
  - id: switch
    do: model.revert
    with: {model: "${model}", to: "@last-good"}
    effect: reversible
    explain: Go back.
    retry: {max: 2, on: [link_lost]}
    undo: {do: model.activate, with: {model: "${model}", version: "${switch.previous}"}}
  - {id: verify, do: health.check, with: {model: "${model}", version: "${switch.version}"}, effect: none, explain: Look.}
on_fail: undo_all
"""


def test_a_good_runbook_is_read_with_its_digest() -> None:
    runbook = parse(GOOD, "rb.yaml")
    assert (runbook.id, runbook.timeout_s, len(runbook.steps), runbook.steps[0].retries) == ("rollback-model", 1200, 2, 2)
    assert parse(GOOD + b"# a comment\n", "rb.yaml").sha256 != runbook.sha256


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        (b"schema: fieldops.runbook/v1", b"schema: other/v9", 1, "fieldops.runbook/v1"),
        (b"id: rollback-model", b"id: Roll Back", 2, "lower-case letters"),
        (b"timeout: 20m", b"timeout: soon", 9, "20m"),
        (b"check: link.up", b"check: shell.run", 11, "one of link.up"),
        (b"do: model.revert", b"do: shell", 15, "one of observe"),
        (b"effect: reversible", b"effect: maybe", 17, "reversible"),
        (b"effect: reversible", b"effect: none", 14, "reversible or irreversible for a change"),
        (b'version: "${switch.previous}"', b'version: "${later.previous}"', 14, "a param, or STEP.value"),
        (b"type: model,", b"type: thing,", 7, "one of device"),
        (b"values: [drift, crash], ", b"", 8, "values: [...]"),
        (b"title: Back to last-good", b"titel: Back", 3, "one of schema"),
        (b"max: 2", b"max: 99", 19, "a whole number up to 10"),
        (b"id: verify", b"id: switch", 14, "each id once"),
        (b"title: Back to last-good", b"title: a\ntitle: b", 4, "each key once"),
    ],
)
def test_each_fault_names_its_line_and_what_was_expected(old: bytes, new: bytes, line: int, expected: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageFault) as refused:
        parse(GOOD.replace(old, new), "rb.yaml")
    assert any(fault.line == line and expected in fault.expected for fault in refused.value.faults), refused.value.faults


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageFault) as refused:
        parse(GOOD.replace(b"20m", b"soon").replace(b"link.up", b"nothing").replace(b"type: model,", b"type: x,"), "rb.yaml")
    assert [fault.line for fault in refused.value.faults] == [7, 9, 11]


@pytest.mark.parametrize("data", [b"", b"- a list", b"a: [", b"\xff\xfe", b"[" * 5000, b"x" * 200_000, b"a: &a [*a]"])
def test_anything_else_is_refused_as_a_bad_file(data: bytes) -> None:
    with pytest.raises(UsageFault) as refused:
        parse(data, "rb.yaml")
    assert refused.value.exit_code == 2


def test_nothing_irreversible_right_after_a_change() -> None:
    hasty = GOOD.replace(b"id: verify, do: health.check", b"id: verify, do: model.commit").replace(
        b"effect: none, explain: Look", b"effect: irreversible, explain: Look"
    )
    with pytest.raises(UsageFault, match="or bench"):
        parse(hasty, "rb.yaml")

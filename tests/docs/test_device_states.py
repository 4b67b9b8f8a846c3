"""docs/device-states.md shows the transition table as it is."""

from __future__ import annotations

from pathlib import Path

from fieldops.slots import RESTING, STATES, TABLE, diagram

PAGE = (Path(__file__).parents[2] / "docs" / "device-states.md").read_text("utf-8")


def test_the_page_holds_the_diagram_of_the_table() -> None:
    assert PAGE.partition("```mermaid\n")[2].partition("\n```")[0] == diagram()


def test_the_diagram_has_every_row_of_the_table() -> None:
    lines = diagram().splitlines()
    for (state, event), to in TABLE.items():
        way = f"    {state} --> {to or 'where_it_rested'}: "
        found = [line for line in lines if line.startswith(way) and event in line.removeprefix(way).split(", ")]
        assert found or (event, to) == ("revert", "reverting"), (state, event)
    assert "    from_any_state --> reverting: revert" in lines


def test_the_page_tells_of_every_state() -> None:
    assert [state for state in STATES if f" {state}" not in PAGE.partition("| state |")[2]] == []
    assert [state for state in RESTING if state not in PAGE.partition("```mermaid")[0]] == []

"""What stands on stdout: tables that fit a terminal where they can, and are one line a row for a program."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldops.cli.output import laid_out, width

HEADS = ("DEVICE", "WHY", "SIZE")
ROWS = [["cam-01", "throttled (frequency capped, soft temperature limit)", "12 KiB"], ["cam-02", "-", "3 KiB"]]


def test_a_program_gets_one_line_a_row_however_long() -> None:
    lines = list(laid_out(HEADS, ROWS, None))
    assert len(lines) == 3
    assert lines[1].startswith("cam-01  throttled (frequency capped, soft temperature limit)  12 KiB")


def test_on_a_narrow_terminal_the_widest_column_gives_way_between_words() -> None:
    assert list(laid_out(HEADS, ROWS, 40)) == [
        "DEVICE  WHY                         SIZE",
        "cam-01  throttled (frequency      12 KiB",
        "        capped, soft temperature",
        "        limit)",
        "cam-02  -                          3 KiB",
    ]


@pytest.mark.parametrize("room", [10, 25])
def test_an_address_is_never_cut(room: int) -> None:
    (_, row) = laid_out(("SSH", "ID"), [["technician@192.0.2.7:22", "z3xw5p4a"]], room)
    assert row == "technician@192.0.2.7:22  z3xw5p4a"


@given(
    st.lists(st.lists(st.text("ab c", min_size=1, max_size=60).map(str.strip).filter(bool), min_size=3, max_size=3), min_size=1),
    st.integers(1, 120),
)
def test_no_word_is_lost_and_what_can_fit_does(rows: list[list[str]], room: int) -> None:
    lines = list(laid_out(HEADS, rows, room))
    told = " ".join(lines).split()
    assert sorted(told) == sorted([*HEADS, *(word for row in rows for cell in row for word in cell.split())])
    words = [[*column, head] for head, column in zip(HEADS, zip(*rows, strict=True), strict=True)]
    least = sum(max(width(word) for text in column for word in text.split()) for column in words) + 4
    if least <= room:
        assert max(width(line) for line in lines) <= room

"""Packed counts are exactly the counts, in few bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldops.drift.sketch import Window, pack, packed, unpack, unpacked


@given(st.lists(st.integers(0, 2**60), max_size=70))
def test_counts_come_back_as_they_went(cells: list[int]) -> None:
    assert unpack(pack(cells)) == cells


@pytest.mark.parametrize("text", ["!", "gA", "gICAgICAgICAgIA", "é", "A"])
def test_what_was_never_packed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpack(text)


def test_a_feature_of_a_thousand_requests_takes_under_eighty_bytes() -> None:
    cells = [4, *[31] * 32, 3, 1]
    window = Window(started=0.0, ended=60.0, n=sum(cells), counts={f"input.column:{column}": cells for column in range(50)})
    small = packed(window)
    assert unpacked(small) == window
    assert len(msgspec.json.encode(small.counts)) / 50 <= 80

import pytest

from fieldops.tui import figures
from fieldops.tui.glyphs import ASCII, BLOCKS, glyphs_for, to_ascii


def test_what_is_unknown_is_a_dash_and_never_a_nought() -> None:
    shown = {
        figures.percent(None), figures.celsius(None), figures.milliseconds(None), figures.rate(None), figures.size(None),
        figures.age(None), figures.clock_time(None), figures.date_time(None), figures.short_id(None),
    }  # fmt: skip
    assert shown == {"-"}
    assert figures.percent(0.0) == "0%"
    assert figures.bar(None, 5, ASCII) == "-    "
    assert figures.bar(0.0, 5, ASCII) == "....."


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h00"), (15_120, "4h12"), (183_600, "2d3h"), (864_000, "10d")]
)
def test_an_age_is_short_enough_for_its_column(seconds: float, text: str) -> None:
    assert figures.age(seconds) == text
    assert len(text) <= 6


@pytest.mark.parametrize("fraction, text", [(0.5, "##.."), (1.0, "####"), (2.0, "####"), (-1.0, "....")])
def test_a_bar_never_leaves_its_width(fraction: float, text: str) -> None:
    assert figures.bar(fraction, 4, ASCII) == text
    assert len(figures.bar(fraction, 4, BLOCKS)) == 4


def test_a_sparkline_has_the_newest_value_at_the_right_and_gaps_where_nothing_was_measured() -> None:
    assert figures.spark([0, 50, None, 100], 6, ASCII, high=100) == "  .+ @"
    assert figures.spark([0, 0], 2, BLOCKS) == "▁▁"
    assert figures.spark([1, 2, 3], 2, ASCII, high=3) == "#@"


def test_text_of_a_device_reaches_the_screen_without_control_characters() -> None:
    assert figures.clean("a\x1b[31mb\nc\u202e") == "a [31mb c "


def test_clipping_counts_cells_and_marks_the_cut() -> None:
    assert figures.clip("press-line-seven", 8, BLOCKS) == "press-l…"
    assert figures.clip("印刷機七号", 7, BLOCKS) == "印刷機…"
    assert figures.clip("short", 8, BLOCKS) == "short"


@pytest.mark.parametrize(
    "encoding, term, ascii_only, blocks",
    [("utf-8", "xterm-256color", False, True), ("UTF-8", "linux", False, False), ("ascii", "xterm", False, False), (None, "xterm", False, False), ("utf8", "xterm", True, False)],
)  # fmt: skip
def test_glyphs_follow_encoding_and_terminal(encoding: str | None, term: str, ascii_only: bool, blocks: bool) -> None:
    assert glyphs_for(encoding, term, ascii_only=ascii_only) is (BLOCKS if blocks else ASCII)


def test_plain_text_keeps_every_cell_in_its_place() -> None:
    assert to_ascii("a → b · 印 …") == "a > b | ?? ~"

import tomllib
from pathlib import Path

import pytest

from fieldops.tui.looks import known_keys
from fieldops.tui.themes import BUILTIN, Palette, colour_variables, contrast, load_themes, parse_theme, to_textual

FOLDER = Path(__file__).parents[2] / "themes"
SHIPPED, FAULTS = load_themes([FOLDER])
GROUNDS = ("background", "surface", "bar", "cursor")


def test_the_four_promised_themes_are_shipped_without_a_fault() -> None:
    assert FAULTS == []
    assert set(SHIPPED) == {"sunlight", "night", "mono", "cvd"}
    assert SHIPPED["night"] == BUILTIN


@pytest.mark.parametrize("name", sorted(SHIPPED))
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_reaches_7_to_1_and_states_4_5_to_1_on_every_ground(name: str, ground: str) -> None:
    palette = SHIPPED[name]
    behind = getattr(palette, ground)
    assert contrast(palette.text, behind) >= 7
    assert contrast(palette.bar_text, palette.bar) >= 7
    floor = 7 if name in {"sunlight", "night"} and ground in {"background", "surface"} else 4.5
    for state in ("ok", "warn", "fail", "off", "accent", "muted"):
        assert contrast(getattr(palette, state), behind) >= floor, state


def test_contrast_is_the_ratio_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_a_broken_theme_names_file_line_and_key_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text((FOLDER / "night.toml").read_text().replace('ok = "#5fd38d"', 'ok = "green"\nhue = 1'))
    (tmp_path / "other.toml").write_text((FOLDER / "night.toml").read_text().replace('name = "night"', 'name = "other"'))
    palettes, faults = load_themes([tmp_path])
    assert set(palettes) == {"other"}
    assert {(fault.file, fault.line, fault.found) for fault in faults} == {
        ("mine.toml", 14, "ok = 'green'"),
        ("mine.toml", 15, "unknown key 'hue'"),
    }


def test_no_toml_at_all_is_a_fault_with_its_line() -> None:
    faults = parse_theme("name = \n", "x.toml")
    assert not isinstance(faults, Palette)
    assert [fault.line for fault in faults] == [1]


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_palette_becomes_a_theme_with_the_same_colours(name: str) -> None:
    theme = to_textual(SHIPPED[name])
    assert theme.variables["fo-warn"] == SHIPPED[name].warn
    assert theme.to_color_system().generate()["background"].lower() == SHIPPED[name].background
    assert colour_variables(SHIPPED[name])["text-error"] == SHIPPED[name].fail


def test_the_keys_shown_in_the_documents_are_ones_that_exist() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    keys = tomllib.loads("[keys]" + text.partition("[keys]")[2].partition("```")[0])["keys"]
    assert keys
    assert known_keys(keys) == (keys, [])

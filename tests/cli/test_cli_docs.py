"""docs/cli.md says what the code does: its exit codes, its example of config.toml."""

from __future__ import annotations

import re
from pathlib import Path

from fieldops import errors
from fieldops.config import parse_config

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")


def test_every_exit_code_stands_in_the_page_once() -> None:
    listed = [int(number) for number in re.findall(r"(?m)^\| (\d+) \|", PAGE)]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FieldopsError)]
    assert listed == sorted({0, *(kind.exit_code for kind in kinds)})
    assert " ".join(map(str, errors.GRAVEST_FIRST)) in PAGE


def test_the_example_of_the_config_is_one(tmp_path: Path) -> None:
    match = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    config = parse_config(match[1], "config.toml", base=tmp_path, user_home=Path("/home/me"))
    assert config.person_key == Path("/home/me/.ssh/id_ed25519")
    assert config.stick_folders == (Path("/srv/stick"),)
    assert config.site == "http://192.0.2.10:8080"
    assert dict(config.keys) == {"view.refresh": "f5"}

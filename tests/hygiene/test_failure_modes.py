"""docs/failure-modes.md promises nothing that no test holds; docs/device-guide.md shows an agent.toml that is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fieldops.agent.config import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text("utf-8")
NAMED = re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)


def test_every_row_of_a_table_of_signs_names_its_test() -> None:
    tables = PAGE.split("| sign |")[1:]
    rows = [line for table in tables for line in table.split("\n\n")[0].splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 60
    assert [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_the_agent_toml_of_the_guide_is_one() -> None:
    guide = (ROOT / "docs" / "device-guide.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    config = parse(text, "agent.toml")
    assert (config.infer_port, config.telemetry_s, config.unload_first) == (8000, 300, False)

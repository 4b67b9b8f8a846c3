"""`--json`: one document on stdout, of the type its schema is generated from; the schemas in docs are those of the types."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fieldops.cli.documents.devices import Devices, InventoryChange
from fieldops.cli.documents.log import AuditEntries
from fieldops.cli.schemas import texts, types
from tests.cli.conftest import Run

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

READING = [
    ("device", "list"),
    ("audit", "list"),
    ("audit", "status"),
    ("audit", "verify"),
    ("bench", "list"),
    ("runbook", "list"),
    ("runbook", "status"),
    ("policy", "show"),
    ("policy", "check"),
    ("config", "show"),
    ("config", "path"),
    ("config", "check"),
    ("device", "add", "press-02", "--ssh", "me@host", "--dry-run"),
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_verb_prints_one_document_of_its_type(run: Run, fleet: Path, words: tuple[str, ...]) -> None:
    done = run(*words, "--json")
    assert done.code in {0, 7}, done.err
    assert done.err == ""
    assert done.out.count("\n") == 1
    done.document()


def test_the_schemas_in_docs_are_generated_from_the_types() -> None:
    """`make schemas` writes them. A changed one is a change of what scripts rely on: add fields, never take or rename one."""
    there = {path.name: path.read_text("utf-8") for path in SCHEMAS.glob("fieldops.*.json")}
    assert {name: text for name, text in there.items() if name in texts()} == texts()


def test_every_schema_has_a_name_and_a_version() -> None:
    assert all(name.startswith("fieldops.") and name.endswith("/v1") for name in types())


def test_what_was_added_is_listed_and_recorded_and_comments_stay(run: Run, fleet: Path) -> None:
    added = run("device", "add", "press-02", "--ssh", "me@host:2222", "--tag", "a", "--reason", "new line", "--json").document()
    assert added == InventoryChange(device="press-02", change="add press-02 to the inventory", done=True)
    assert fleet.read_text().startswith("# kept\n")
    listed = run("device", "list", "--json").document()
    assert isinstance(listed, Devices)
    assert [(each.name, each.ssh, each.tags) for each in listed.devices][1:] == [("press-02", "me@host:2222", ["a"])]
    recorded = run("audit", "list", "--json").document()
    assert isinstance(recorded, AuditEntries)
    assert [(entry.phase, entry.act, entry.reason) for entry in recorded.entries] == [
        ("intent", "AddDevice", "new line"),
        ("outcome", "AddDevice", "new line"),
    ]
    assert run("audit", "verify").code == 0


def test_home_may_be_named_anywhere_and_reading_creates_nothing(run: Run, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("config", "path", "--home", str(other)).out == f"{other}/config.toml\n"
    assert run(f"--home={other}", "device", "list").code == 0
    assert run("audit", "list", "--home", str(other)).code == 0
    assert not other.exists()
    assert not home.exists()


def test_every_fault_of_the_config_is_told_with_its_line(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('theme = 3\n[person]\nkey = ""\nname = "x"\n[store]\nurl = "ftp://x"\n[colour]\n')
    told = run("config", "check")
    assert told.code == 2
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in told.out.splitlines()] == ["1", "3", "4", "6", "7"]
    assert run("config", "show").code == 2


def test_tables_line_up_and_hold_no_escape_sequences(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "fleet.toml").write_text(
        '[[device]]\nname = "a"\nsite = "\\u001b[31mnorth"\nssh = "me@host"\n[[device]]\nname = "a-long-name"\nssh = "me@host"\n'
    )
    out = run("device", "list").out
    assert "\x1b" not in out
    header, first, second = out.splitlines()
    assert header.index("SITE") == first.index("\ufffd[31mnorth") == second.index("-", len("a-long-name"))


def test_documents_decode_as_nothing_else() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"schema":"fieldops.audit/v1","devices":[]}', type=Devices)

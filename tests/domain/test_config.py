"""config.toml: what is set, what it means, and every fault at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.config import Config, parse_config
from fieldops.errors import UsageFault

BASE, HOME = Path("/laptop/home"), Path("/users/kim")


def parse(text: str) -> Config:
    return parse_config(text, "config.toml", base=BASE, user_home=HOME)


def test_nothing_set_is_everything_by_default() -> None:
    assert parse("") == Config()


def test_paths_count_from_the_file_or_from_the_persons_home() -> None:
    config = parse(
        """
theme = "sunlight"
data = "data"
[person]
key = "~/.ssh/id_ed25519"
[store]
url = "https://store.example:8443"
[ssh]
identities = ["~/.ssh/a", "/b", "c"]
[sticks]
folders = ["stick"]
site = "http://192.0.2.10:8080"
[keys]
"fleet.refresh" = "f5"
"""
    )
    assert (config.theme, config.data, config.person_key) == ("sunlight", BASE / "data", HOME / ".ssh/id_ed25519")
    assert config.ssh_identities == (HOME / ".ssh/a", Path("/b"), BASE / "c")
    assert (config.store_url, config.site) == ("https://store.example:8443", "http://192.0.2.10:8080")
    assert not config.ssh_alone
    assert parse('[ssh]\nconfig = "none"').ssh_alone
    assert (config.stick_folders, dict(config.keys)) == ((BASE / "stick",), {"fleet.refresh": "f5"})


def test_all_faults_are_told_at_once_each_with_its_line() -> None:
    with pytest.raises(UsageFault) as refused:
        parse(
            'theme = 3\ncolour = "red"\n[person]\nkey = 4\nname = "kim"\n[store]\nurl = "ftp://x"\n[ssh]\nidentities = "a"\n[keys]\nx = 5\n'
        )
    told = str(refused.value)
    for line, word in (
        (1, "theme = 3"),
        (2, "colour"),
        (4, "key = 4"),
        (5, "name"),
        (7, "ftp://x"),
        (9, "identities"),
        (11, "x"),
    ):
        assert any(f":{line}:" in each and word in each for each in told.splitlines()), (line, word, told)


@pytest.mark.parametrize("text", ["theme = ", 'person = "kim"', "keys = 1", "[sticks]\nfolders = [1]"])
def test_what_is_no_config_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(UsageFault) as refused:
        parse(text)
    assert "config.toml" in refused.value.message
    assert refused.value.next_step

"""Every verb can be built, has help, and exists: nothing is listed that does not work."""

from __future__ import annotations

import pytest
import typer
from typer.main import get_command

from fieldops.cli.app import VERBS, Group, app, main


def commands() -> list[str]:
    context = typer.Context(get_command(app))
    found = []
    for verb in VERBS:
        command = context.command.get_command(context, verb)  # type: ignore[attr-defined]  # a TyperGroup has it
        found += [f"{verb} {name}" for name in command.verbs] if isinstance(command, Group) else [verb]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_verb_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code: object
    try:
        code = main([*command.split(), "--help"])
    except SystemExit as end:  # the store's own program says its help by itself
        code = end.code
    out = capsys.readouterr().out
    assert code == 0
    assert f"fieldops {command}" in out
    assert len(out.splitlines()) > 3


def test_the_groups_named_in_the_help_of_the_whole_are_the_files_there_are() -> None:
    assert {command.split()[0] for command in commands()} == set(VERBS)

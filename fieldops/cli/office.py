"""What the release team's verbs share: the repository, its keys, their passphrases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call
from fieldops.cli.diagnostics import at_terminal
from fieldops.cli.documents.office import Released
from fieldops.cli.output import document, line
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from fieldops.wiring import Release, ReleaseKeys

HERE = Path()
Repo = Annotated[Path, typer.Option("--repo", metavar="DIR", help="The release repository.")]
Keys = Annotated[Path, typer.Option("--keys", metavar="DIR", help="The folder with the keys you hold. Default: here.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Its first line opens the keys. Default: asked at the terminal."),
]
Unencrypted = Annotated[bool, typer.Option("--unencrypted", help="Make keys without a passphrase. For trials only.")]


def said(call: Call, verb: str, done: list[str]) -> None:
    if call.json:
        document(Released(verb=verb, done=done))
        return
    for text in done:
        line(text)


def keys_in(call: Call, keys: Path, passphrase_file: Path | None) -> ReleaseKeys:
    """To sign with: a locked key is asked for at a terminal."""
    return call.laptop.office.release_keys(keys, _asked("passphrase of {}: ") if at_terminal() else None, passphrase_file)


def new_keys_in(
    call: Call, keys: Path, passphrase_file: Path | None, *, unencrypted: bool, together: bool = False
) -> ReleaseKeys:
    """To make keys in. together: all get one passphrase. Raises UsageFault when nobody says how they are to be locked."""
    if unencrypted:
        return call.laptop.office.release_keys(keys, None, None)
    if passphrase_file is None and not at_terminal():
        raise UsageFault(
            "a new key needs a passphrase, and nobody is at a terminal to be asked",
            reason="needs_passphrase",
            next_step="give --passphrase-file FILE (or --unencrypted, for trials)",
        )
    return call.laptop.office.release_keys(keys, (lambda _name: _chosen("all keys")) if together else _chosen, passphrase_file)


def release(call: Call, repo: Path, keys: Path, passphrase_file: Path | None = None) -> Release:
    return call.laptop.office.release(repo, keys_in(call, keys, passphrase_file))


def _asked(question: str) -> Callable[[str], bytes]:
    @cache
    def ask(name: str) -> bytes:
        from getpass import getpass

        return getpass(question.format(name)).encode("utf-8")

    return ask


@cache
def _chosen(name: str) -> bytes:
    from getpass import getpass

    first = getpass(f"new passphrase for {name}: ")
    if not first or first != getpass(f"again, for {name}: "):
        raise UsageFault("the two passphrases differ, or are empty", reason="needs_passphrase", next_step="run it again")
    return first.encode("utf-8")


def file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that can be read") from error


def moment(day: str | None) -> float | None:
    """Unix seconds of the end of a day (`2027-03-01`, UTC). Raises UsageFault."""
    import datetime as dt

    if day is None:
        return None
    try:
        date = dt.date.fromisoformat(day)
    except ValueError as error:
        raise UsageFault(f"{day!r} is no date", reason="usage", next_step="write it as 2027-03-01") from error
    return dt.datetime(date.year, date.month, date.day, 23, 59, 59, tzinfo=dt.UTC).timestamp()

"""`fieldops release keygen|init|rotate`: whose keys there are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call
from fieldops.cli.office import HERE, Keys, PassphraseFile, Repo, Unencrypted, keys_in, new_keys_in, said
from fieldops.cli.options import Json
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from fieldops.wiring import Release


def keygen(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ROLE-N", help="Such as stable-2.")],
    keys: Keys = HERE,
    passphrase_file: PassphraseFile = None,
    unencrypted: Unencrypted = False,
    program: Annotated[
        list[str] | None,
        typer.Option("--signer", metavar="WORD", help="A program that signs; repeat for its arguments. Needs --public."),
    ] = None,
    public: Annotated[Path | None, typer.Option("--public", metavar="FILE", help="The program's public key (PEM).")] = None,
    json: Json = False,
) -> None:
    """Make your key, or name the program that holds it. Hand only its .pub file to the others."""
    call = Call.of(context, json=json)
    if program:
        if public is None:
            raise UsageFault("--signer needs --public", reason="usage", next_step="give the PEM file of its public key")
        folder = call.laptop.office.release_keys(keys, None, None)
        key = folder.attach(name, public, program)
    else:
        folder = new_keys_in(call, keys, passphrase_file, unencrypted=unencrypted)
        key = folder.make(name)
    said(call, "keygen", [f"{name}: {key.keyid}", f"hand in {folder.public_file(name)}; nothing else leaves this machine"])


def init(
    context: typer.Context,
    repo: Repo,
    keys: Keys = HERE,
    passphrase_file: PassphraseFile = None,
    unencrypted: Unencrypted = False,
    threshold: Annotated[
        list[str] | None, typer.Option("--threshold", metavar="ROLE=N", help="How many must sign, where not as usual.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a repository from the key ceremony's .pub files; in an empty key folder, all keys as well."""
    call = Call.of(context, json=json)
    if any(keys.glob("*-*.pub")) or any(keys.glob("*-*.pem")) or any(keys.glob("*-*.signer")):
        folder = keys_in(call, keys, passphrase_file)
    else:
        folder = new_keys_in(call, keys, passphrase_file, unencrypted=unencrypted, together=True)
    made = call.laptop.office.new_release(repo, folder, _thresholds(threshold or []))
    done = [f"repository {repo}, keys {keys}"]
    done += [fingerprint_line(made)] if made.published else _to_sign(made)
    said(call, "init", done)


def fingerprint_line(made: Release) -> str:
    fingerprint = hashlib.sha256(made.root(1)).hexdigest()
    return f"root fingerprint {fingerprint}: give it to technicians by another way than the file"


def _thresholds(given: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        role, _, number = text.partition("=")
        if not number.isdigit():
            raise UsageFault(f"--threshold {text!r}", reason="usage", next_step="write ROLE=N, such as root=2")
        found[role] = int(number)
    return found


def _to_sign(made: Release) -> list[str]:
    return [str(each) for role in made.pending_roles() for each in made.standing(role)]


def rotate(
    context: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Any role, snapshot and timestamp as well.")],
    repo: Repo,
    keys: Keys = HERE,
    out: Annotated[str | None, typer.Option("--out", metavar="NAME", help="The key that goes.")] = None,
    into: Annotated[
        str | None, typer.Option("--in", metavar="FILE.pub", help="The key that comes. Default: a new one, made in --keys.")
    ] = None,
    threshold: Annotated[int | None, typer.Option("--threshold", min=1, help="How many must sign from now on.")] = None,
    passphrase_file: PassphraseFile = None,
    unencrypted: Unencrypted = False,
    json: Json = False,
) -> None:
    """Change the keys of a role. Root keys change by a root that the old and the new keys both sign."""
    call = Call.of(context, json=json)
    makes = into is None and threshold is None
    holder = new_keys_in(call, keys, passphrase_file, unencrypted=unencrypted) if makes else keys_in(call, keys, passphrase_file)
    opened = call.laptop.office.release(repo, holder)
    roles = opened.rotate(role, out=out, into=into, threshold=threshold)
    done = [text for each in roles for text in (*opened.changes(each), *map(str, opened.standing(each)))]
    said(call, "rotate", [*done, f"sign next: {', '.join(roles)}"])

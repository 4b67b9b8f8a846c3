"""`fieldops release policy ...`: what the policy role signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.office import HERE, Repo, file_bytes, moment, release, said
from fieldops.cli.options import Json
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from fieldops.wiring import Release

app = group()

NEXT = "sign it next: `fieldops release sign policy`"


@app.command("set")
def set_file(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Such as policy/golden/digits/set.npz.")],
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    repo: Repo,
    json: Json = False,
) -> None:
    """Draft a file of the policy: rules, runbook, golden set, people. It is checked first."""
    from fieldops.operations.release_policy import check_file

    call = Call.of(context, json=json)
    opened = release(call, repo, HERE)
    data = file_bytes(file)
    facts = check_file(target, data, _now(opened, target))
    opened.add_policy_target(target, data)
    said(call, "policy set", [*facts, f"{target} is pending; {NEXT}"])


@app.command("add-person")
def add_person(
    context: typer.Context,
    key: Annotated[Path, typer.Argument(metavar="KEY.pub", help="The person's SSH public key.")],
    repo: Repo,
    role: Annotated[str, typer.Option("--role", help="Of the policy's roles.")] = "technician",
    label: Annotated[str, typer.Option("--label", help="Words for people; not a name that must stay private.")] = "",
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="The last day of the role.")] = None,
    json: Json = False,
) -> None:
    """Draft a person into the rules and the list of keys."""
    from fieldops.operations.release_policy import with_person
    from fieldops.policy import Person

    call = Call.of(context, json=json)
    opened = release(call, repo, HERE)
    person = Person(role=role, label=label, until=moment(until))
    fingerprint, files = with_person(_files(opened), file_bytes(key).decode("utf-8", "replace"), person)
    for name, data in files.items():
        opened.add_policy_target(name, data)
    said(call, "policy add-person", [f"{fingerprint} is {role} in what is pending; {NEXT}"])


@app.command()
def revoke(
    context: typer.Context,
    who: Annotated[str, typer.Argument(metavar="WHO", help="A person's fingerprint (SHA256:...) or a laptop's id.")],
    repo: Repo,
    json: Json = False,
) -> None:
    """Draft a person out of the rules, or a laptop into the revoked ones."""
    from fieldops.operations.release_policy import without

    call = Call.of(context, json=json)
    opened = release(call, repo, HERE)
    files = without(_files(opened), who)
    for name, data in files.items():
        opened.add_policy_target(name, data)
    said(call, "policy revoke", [f"{who} is revoked in what is pending; {NEXT}" if files else f"{who} was revoked already"])


def _files(opened: Release) -> dict[str, bytes]:
    from fieldops.bundles.trust import POLICY_DOCUMENT
    from fieldops.operations.release_policy import PEOPLE

    found = {name: _now(opened, name) for name in (POLICY_DOCUMENT, PEOPLE)}
    return {name: data for name, data in found.items() if data is not None}


def _now(opened: Release, name: str) -> bytes | None:
    try:
        return opened.policy_target(name)
    except UsageFault as error:
        if error.reason == "unknown_target":
            return None
        raise

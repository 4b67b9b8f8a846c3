"""`fieldops release ...`: for the release team, on the machine that holds its keys."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, Json, group
from fieldops.cli.documents import Released
from fieldops.cli.output import document, line
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from fieldops.bundles.manifest import Manifest

app = group()

SPEC_FILE = "spec.json"  # a manifest without digests and times, which are measured here

Repo = Annotated[Path, typer.Option("--repo", metavar="DIR", help="The release repository.")]
Keys = Annotated[Path, typer.Option("--keys", metavar="DIR", help="The folder with the keys you hold.")]
RefArg = Annotated[str, typer.Argument(metavar="MODEL@VERSION")]
Channel = Annotated[str, typer.Option("--channel", help="stable or canary.")]


def _said(call: Call, verb: str, done: list[str]) -> None:
    if call.json:
        document(Released(verb=verb, done=done))
        return
    for text in done:
        line(text)


@app.command()
def init(context: typer.Context, repo: Repo, keys: Keys, json: Json = False) -> None:
    """Make keys and an empty, signed repository. Spread the keys to their holders afterwards."""
    call = Call.of(context, json=json)
    release = call.laptop.new_release(repo, keys)
    fingerprint = hashlib.sha256(release.root()).hexdigest()
    _said(
        call,
        "init",
        [
            f"repository {repo}, keys {keys}",
            f"root fingerprint {fingerprint}: give it to technicians by another way than the file",
        ],
    )


@app.command()
def add(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The bundle's files, with its spec.json.")],
    repo: Repo,
    keys: Keys,
    channel: Channel = "canary",
    json: Json = False,
) -> None:
    """Judge a bundle by its task's signed golden set, then list it in a channel's draft. `sign` comes next."""
    from fieldops.bundles.manifest import MANIFEST_LIMIT_BYTES, Manifest
    from fieldops.operations import release as operation
    from fieldops.wire import decode_signed

    call = Call.of(context, json=json, timeout=300.0)
    spec = folder / SPEC_FILE
    manifest: Manifest = decode_signed(_bytes(spec), Manifest, what=str(spec), limit=MANIFEST_LIMIT_BYTES)
    release = call.laptop.release(repo, keys)
    added = call.run(lambda: operation.add(release, call.laptop.runner, folder, manifest, call.deadline(), channel=channel))
    _said(
        call,
        "add",
        [
            f"golden set: {added.golden.accuracy:.4f} of {added.golden.n} right, floor {added.golden.floor:.4f}",
            f"{added.manifest.model}@{added.manifest.version} is in the draft of {channel}; sign it next",
        ],
    )


@app.command()
def policy(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Such as policy/rules/current/policy.json.")],
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    repo: Repo,
    keys: Keys,
    json: Json = False,
) -> None:
    """Put a file of the policy (rules, runbook, golden set, people) into the policy's draft. It is checked first."""
    call = Call.of(context, json=json)
    data = _bytes(file)
    if target.endswith("/policy.json"):
        from fieldops.policy import decode_policy

        decode_policy(data)
    if target.endswith("/runbook.yaml"):
        from fieldops.runbooks.format import parse

        parse(data, str(file))
    call.laptop.release(repo, keys).add_policy_target(target, data)
    _said(call, "policy", [f"{target} is in the draft of policy; sign it next"])


@app.command()
def sign(
    context: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="stable, canary, policy, targets or root.")],
    repo: Repo,
    keys: Keys,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Only with this key, such as stable-2. Default: all at hand.")
    ] = None,
    json: Json = False,
) -> None:
    """Add your signatures to a role's draft. Some roles need two people."""
    call = Call.of(context, json=json)
    count = call.laptop.release(repo, keys).sign(role, key)
    _said(call, "sign", [f"{role} carries {count} signature{'' if count == 1 else 's'}"])


@app.command()
def withdraw(
    context: typer.Context, bundle: RefArg, repo: Repo, keys: Keys, channel: Channel = "stable", json: Json = False
) -> None:
    """Say that nobody may take a version any more; devices then know why. `sign` comes next."""
    call = Call.of(context, json=json)
    call.laptop.release(repo, keys).withdraw(bundle, channel)
    _said(call, "withdraw", [f"{bundle} is withdrawn in the draft of {channel}; sign it next"])


@app.command()
def publish(context: typer.Context, repo: Repo, keys: Keys, json: Json = False) -> None:
    """Make all that is signed the release. Nothing is published when a draft lacks signatures."""
    call = Call.of(context, json=json)
    version = call.laptop.release(repo, keys).publish()
    _said(call, "publish", [f"published as timestamp {version}"])


@app.command()
def stick(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="The mounted stick.")],
    repo: Repo,
    keys: Keys,
    bundle: Annotated[
        list[str] | None, typer.Option("--bundle", metavar="MODEL@VERSION", help="Only these. Default: all.")
    ] = None,
    days: Annotated[float, typer.Option("--days", help="How long the stick lasts, at most 90.")] = 30,
    json: Json = False,
) -> None:
    """Write a stick for technicians: metadata, policy, bundles."""
    call = Call.of(context, json=json)
    written = call.laptop.release(repo, keys).export_stick(folder, days, refs=bundle)
    _said(call, "stick", [f"written to {written}; check it with `fieldops stick verify {folder}`"])


@app.command()
def renew(context: typer.Context, repo: Repo, keys: Keys, json: Json = False) -> None:
    """Sign again what has expired, with every key at hand, and publish."""
    call = Call.of(context, json=json)
    roles = call.laptop.release(repo, keys).resign_expired()
    _said(call, "renew", [f"signed again: {', '.join(roles)}" if roles else "nothing has expired"])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that can be read") from error

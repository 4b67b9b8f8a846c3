"""`fieldops release ...`: for the release team, on the machines that hold its keys. The walk-through: docs/release-guide.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli import release_keys, release_policy
from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import agreed, at_terminal, tell
from fieldops.cli.documents.office import ReleaseHealth
from fieldops.cli.office import (
    HERE,
    Keys,
    PassphraseFile,
    Repo,
    file_bytes,
    keys_in,
    moment,
    release,
    said,
)
from fieldops.cli.options import Json
from fieldops.cli.output import document, instant, line, size
from fieldops.errors import CheckFailed, UsageFault

if TYPE_CHECKING:
    from fieldops.bundles.manifest import Manifest
    from fieldops.wiring import ReleaseKeys

app = group()
for verb in (release_keys.keygen, release_keys.init, release_keys.rotate):
    app.command()(verb)
app.add_typer(release_policy.app, name="policy", help="The signed rules: set, add-person, revoke.")

SPEC_FILE = "spec.json"  # a manifest without digests and figures, which are measured here
ADD_LIMIT_S = 1800.0

RefArg = Annotated[str, typer.Argument(metavar="MODEL@VERSION")]
RoleArg = Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, stable, canary or policy.")]
Channel = Annotated[str, typer.Option("--channel", help="stable or canary.")]
KeyNames = Annotated[
    list[str] | None, typer.Option("--key", metavar="NAME", help="Name such as stable-2, or the key's file. May be repeated.")
]


@app.command()
def add(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The bundle's files, with its spec.json; or MODEL@VERSION of another channel."),
    ],
    repo: Repo,
    channel: Channel = "canary",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="FILE.npz", help="Data that the drift reference is counted over.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds the measurements may take.")] = ADD_LIMIT_S,
    json: Json = False,
) -> None:
    """Judge a bundle by its task's signed golden set, measure each variant, list it in a channel. `sign` comes next."""
    from fieldops.bundles.manifest import MANIFEST_LIMIT_BYTES, Manifest
    from fieldops.operations import release as operation
    from fieldops.wire import decode_signed

    call = Call.of(context, json=json, timeout=timeout)
    if "@" in folder.name and not folder.exists():
        other = release(call, repo, HERE).promote(str(folder), channel)
        said(call, "add", [f"{folder} is pending in {channel}, exactly as in {other}; sign it next"])
        return
    spec = folder / SPEC_FILE
    manifest: Manifest = decode_signed(file_bytes(spec), Manifest, what=str(spec), limit=MANIFEST_LIMIT_BYTES)
    opened = release(call, repo, HERE)
    added = call.run(
        lambda: operation.add(
            opened, call.laptop.office.appraiser, folder, manifest, call.deadline(), channel=channel, calibration=calibration
        )
    )
    found = added.appraisal
    done = [f"golden set: {found.accuracy:.4f} of {found.n} right, floor {found.floor:.4f}"]
    done += [
        f"{tier.name} ({tier.variant}): {tier.accuracy:.4f} right, {tier.p50_ms:g} ms, {size(tier.memory_bytes)}"
        for tier in added.manifest.tiers
    ]
    done.append(f"{added.manifest.model}@{added.manifest.version} is pending in {channel}; sign it next")
    said(call, "add", done)
    for warning in added.warnings:
        tell(f"warning: {warning}")


@app.command("add-agent")
def add_agent(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="KIT", help="The folder that `fieldops kit build` made.")],
    repo: Repo,
    channel: Channel = "canary",
    json: Json = False,
) -> None:
    """List an agent's software in a channel, for `device enrol --upgrade`. Every byte is compared first. `sign` comes next."""
    call = Call.of(context, json=json)
    made = call.laptop.office.read_kit(folder.absolute())
    name = release(call, repo, HERE).add_agent(channel, made.folder, made.kit)
    kit = made.kit
    said(
        call,
        "add-agent",
        [
            f"{name}: agent {kit.version}, {size(kit.size_bytes)}",
            f"{kit.agent}@{kit.version} is pending in {channel}; sign it next",
        ],
    )


@app.command()
def sign(
    context: typer.Context,
    role: RoleArg,
    repo: Annotated[Path | None, typer.Option("--repo", metavar="DIR", help="The release repository.")] = None,
    key: KeyNames = None,
    keys: Keys = HERE,
    pending: Annotated[
        Path | None,
        typer.Option(
            "--pending", metavar="FILE", help="A pending role carried here; with --repo, its signatures are taken over."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Add your signature to what is pending. Without anything pending, the role is signed for another term."""
    call = Call.of(context, json=json)
    holder = keys_in(call, keys, passphrase_file)
    if repo is None:
        said(call, "sign", _sign_carried(call, holder, role, key or [], pending))
        return
    opened = call.laptop.office.release(repo, holder)
    if pending is not None:
        opened.join(role, pending)
    if pending is None or key:
        _confirm(opened.changes(role))
        opened.sign(role, key)
    file = opened.pending_file(role)
    done = [*opened.changes(role), *(str(each) for each in opened.standing(role))]
    if not all(each.complete for each in opened.standing(role)):
        done.append(f"carry {file} to the next signer")
    said(call, "sign", done)


def _sign_carried(call: Call, holder: ReleaseKeys, role: str, names: list[str], pending: Path | None) -> list[str]:
    if pending is None:
        raise UsageFault(
            "neither a repository nor a carried file",
            reason="usage",
            next_step="give --repo DIR, or --pending FILE and --key NAME",
        )
    changes = call.laptop.office.sign_carried(holder, role, [], pending)
    if not names:
        return [*changes, "not signed: give --key NAME to sign it"]
    _confirm(changes)
    call.laptop.office.sign_carried(holder, role, names, pending)
    return [*changes, f"signed; carry {pending} back"]


def _confirm(changes: list[str]) -> None:
    """Nobody signs unread: at a terminal it is shown first. A script has decided already."""
    if changes and at_terminal():
        for text in changes:
            tell(text)
        agreed("sign this?")


@app.command()
def withdraw(context: typer.Context, bundle: RefArg, repo: Repo, channel: Channel = "stable", json: Json = False) -> None:
    """Say that nobody may take a version any more; devices then know why. `sign` comes next."""
    call = Call.of(context, json=json)
    release(call, repo, HERE).withdraw(bundle, channel)
    said(call, "withdraw", [f"{bundle} is withdrawn in what is pending for {channel}; sign it next"])


@app.command()
def publish(
    context: typer.Context,
    repo: Repo,
    keys: Keys = HERE,
    renewal: Annotated[
        Path | None, typer.Option("--renewal", metavar="FILE", help="Also write the metadata into one small file to send out.")
    ] = None,
    days: Annotated[float, typer.Option("--expires-in-days", help="How long the renewal lasts, at most 90.")] = 30,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="A day the renewal must cover.")] = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Make all that is signed the release. Nothing is published when a signature is missing."""
    call = Call.of(context, json=json)
    opened = release(call, repo, keys, passphrase_file)
    first = not opened.published
    done = [f"published as timestamp {opened.publish()}"]
    if first:
        done.append(release_keys.fingerprint_line(opened))
    if renewal is not None:
        made = opened.renewal(renewal, days, until=moment(until))
        done.append(f"renewal {made.place}: {made.size_bytes} bytes, valid until {instant(made.expires)}")
    said(call, "publish", done)


@app.command()
def doctor(
    context: typer.Context, repo: Repo, keys: Keys = HERE, passphrase_file: PassphraseFile = None, json: Json = False
) -> int:
    """What will hurt later: expiries within 90 days, clocks, thresholds, missing signatures, damage. Exit 7 for any."""
    call = Call.of(context, json=json)
    problems = release(call, repo, keys, passphrase_file).doctor()
    if json:
        document(ReleaseHealth(ok=not problems, problems=problems))
    else:
        for problem in problems or ["nothing to do"]:
            line(problem)
    return CheckFailed.exit_code if problems else 0

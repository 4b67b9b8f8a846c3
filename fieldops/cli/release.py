"""`fieldops release ...`: for the release team, on the machines that hold its keys. The walk-through: docs/release-guide.md."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli import release_policy
from fieldops.cli.call import Call, Json, group
from fieldops.cli.diagnostics import tell
from fieldops.cli.documents import ReleaseHealth
from fieldops.cli.office import (
    HERE,
    Keys,
    PassphraseFile,
    Repo,
    Unencrypted,
    file_bytes,
    keys_in,
    moment,
    new_keys_in,
    release,
    said,
)
from fieldops.cli.output import document, instant, line, size
from fieldops.errors import CheckFailed, UsageFault

if TYPE_CHECKING:
    from fieldops.bundles.manifest import Manifest
    from fieldops.wiring import Release

app = group()
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
        folder = call.laptop.release_keys(keys, None, None)
        key = folder.attach(name, public, program)
    else:
        folder = new_keys_in(call, keys, passphrase_file, unencrypted=unencrypted)
        key = folder.make(name)
    said(call, "keygen", [f"{name}: {key.keyid}", f"hand in {folder.public_file(name)}; nothing else leaves this machine"])


@app.command()
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
        folder = new_keys_in(call, keys, passphrase_file, unencrypted=unencrypted)
    made = call.laptop.new_release(repo, folder, _thresholds(threshold or []))
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
            opened, call.laptop.appraiser, folder, manifest, call.deadline(), channel=channel, calibration=calibration
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
        if pending is None or not key:
            raise UsageFault(
                "without --repo, a carried file is signed", reason="usage", next_step="give --pending FILE and --key NAME"
            )
        said(call, "sign", [*call.laptop.sign_carried(holder, role, key, pending), f"signed; carry {pending} back"])
        return
    opened = call.laptop.release(repo, holder)
    if pending is not None:
        opened.join(role, pending)
    if pending is None or key:
        opened.sign(role, key)
    file = opened.pending_file(role)
    done = [*opened.changes(role), *(str(each) for each in opened.standing(role))]
    if not all(each.complete for each in opened.standing(role)):
        done.append(f"carry {file} to the next signer")
    said(call, "sign", done)


@app.command()
def withdraw(context: typer.Context, bundle: RefArg, repo: Repo, channel: Channel = "stable", json: Json = False) -> None:
    """Say that nobody may take a version any more; devices then know why. `sign` comes next."""
    call = Call.of(context, json=json)
    release(call, repo, HERE).withdraw(bundle, channel)
    said(call, "withdraw", [f"{bundle} is withdrawn in what is pending for {channel}; sign it next"])


@app.command()
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
    opened = call.laptop.release(repo, holder)
    roles = opened.rotate(role, out=out, into=into, threshold=threshold)
    done = [text for each in roles for text in (*opened.changes(each), *map(str, opened.standing(each)))]
    said(call, "rotate", [*done, f"sign next: {', '.join(roles)}"])


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
        done.append(fingerprint_line(opened))
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

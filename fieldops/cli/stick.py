"""`fieldops stick ...`"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import progress_of, report_all
from fieldops.cli.documents.trust import Bundle, Bundles, StickRenewed, StickVerified
from fieldops.cli.office import HERE, Keys, PassphraseFile, Repo, moment, release, said
from fieldops.cli.options import Json, Timeout
from fieldops.cli.output import document, instant, line, size, table
from fieldops.cli.site import hear_site
from fieldops.errors import FieldopsError, TrustRefused, UsageFault, gravest
from fieldops.ports import Candidate, OnProgress, Source
from fieldops.wire import error_doc

app = group()


@app.command("list")
def list_bundles(
    context: typer.Context,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="A folder or http(s) address. Default: removable media.")
    ] = None,
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """What sticks offer, each with the reason where it is not usable. Signatures are checked, payloads not yet read."""
    call = Call.of(context, json=json, timeout=timeout)
    site = hear_site(call)
    sources = _sources(call, path, site)
    found: list[Candidate] = []
    refusals: list[FieldopsError] = []
    for source in sources:
        try:
            found += call.run(partial(call.laptop.trust.candidates, source, call.deadline()))
        except TrustRefused as error:
            refusals.append(error)
    if refusals and len(sources) == 1:
        raise refusals[0]
    if json:
        document(
            Bundles(
                sources=[source.name for source in sources],
                bundles=[_bundle(each, each.reason, each.message) for each in found],
                refused=[error_doc(error) for error in refusals],
            )
        )
        return gravest(error.exit_code for error in refusals)
    if found or not refusals:
        _print(found, empty=f"no bundles on {', '.join(source.name for source in sources)}")
    return report_all(refusals)


@app.command()
def verify(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The stick's folder, or an http(s) address.")],
    bundle: Annotated[str | None, typer.Option("--bundle", metavar="MODEL@VERSION", help="Only this one.")] = None,
    json: Json = False,
    timeout: Timeout = 600.0,
) -> int:
    """Read and check every byte a stick offers. Exit 3 when anything on it is refused."""
    from fieldops.operations.sticks import check

    call = Call.of(context, json=json, timeout=timeout)
    laptop, source = call.laptop, call.laptop.media.at(path)
    hear_site(call)

    def progress(ref: str) -> OnProgress | None:
        return progress_of(f"{ref} from {source.name}")

    judged = call.run(lambda: check(laptop.gate, laptop.trust, source, call.deadline, ref=bundle, progress=progress))
    checked = [_bundle(each.candidate, each.reason, each.message) for each in judged]
    ok = all(not each.reason for each in checked)
    if json:
        document(StickVerified(source=source.name, ok=ok, bundles=checked))
    else:
        _table(checked, empty=f"{source.name} offers no bundles")
        line(f"{source.name}: {'every byte is as signed' if ok else 'REFUSED in part; do not use what is marked'}")
    return 0 if ok else TrustRefused.exit_code


@app.command()
def export(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The mounted stick, or a folder.")],
    repo: Repo,
    keys: Keys = HERE,
    channel: Annotated[list[str] | None, typer.Option("--channel", help="Only these. Default: all.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only these. Default: all.")] = None,
    bundle: Annotated[
        list[str] | None, typer.Option("--bundle", metavar="MODEL@VERSION", help="Only these. Default: all.")
    ] = None,
    days: Annotated[float, typer.Option("--expires-in-days", help="How long the stick lasts, at most 90.")] = 30,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="A day the stick must cover, else refuse.")] = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Write a stick for technicians: metadata, policy, bundles; its timestamp signed to last as long as said."""
    call = Call.of(context, json=json)
    written = release(call, repo, keys, passphrase_file).export(
        path, days, channels=channel, models=model, bundles=bundle, until=moment(until)
    )
    said(
        call,
        "export",
        [
            f"{written.place}: {', '.join(written.bundles) or 'no bundles'}; {size(written.size_bytes)}",
            f"valid until {instant(written.expires)}; check it with `fieldops stick verify {path}`",
        ],
    )


@app.command()
def renew(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The renewal from the release team.")],
    stick: Annotated[
        list[str] | None, typer.Option("--stick", metavar="PATH", help="Write it onto this stick too. May be repeated.")
    ] = None,
    json: Json = False,
    timeout: Timeout = 60.0,
) -> int:
    """Take newer signed metadata from a small file: sticks from last month are valid again, without new payloads."""
    from fieldops.operations.renew import renew as operation

    call = Call.of(context, json=json, timeout=timeout)
    sticks = [call.laptop.office.stick_at(path) for path in stick or ()]
    source = call.laptop.office.renewal(file)
    at_hand = [*(call.laptop.media.at(path) for path in stick or ()), *call.laptop.media.find()]
    done = call.run(lambda: operation(call.laptop.gate(), call.laptop.trust, source, sticks, call.deadline(), payloads=at_hand))
    refused = [error for _, error in done.refused]
    if json:
        document(
            StickRenewed(
                timestamp_version=done.facts.timestamp_version,
                expires=done.facts.expires,
                sticks=list(done.sticks),
                refused=[error_doc(error) for error in refused],
            )
        )
        return gravest(error.exit_code for error in refused)
    line(f"this laptop trusts timestamp {done.facts.timestamp_version}, valid until {instant(done.facts.expires)}")
    for name in done.sticks:
        line(f"renewed {name}")
    return report_all(refused)


def _sources(call: Call, path: str | None, site: Source | None) -> list[Source]:
    if path is not None:
        return [call.laptop.media.at(path)]
    found = [*call.laptop.media.find(), *([site] if site is not None else [])]
    if not found:
        raise UsageFault(
            "no stick with a FIELDOPS folder is mounted",
            reason="no_stick",
            next_step="plug one in and mount it, or name its folder",
        )
    return found


def _bundle(each: Candidate, reason: str, message: str) -> Bundle:
    return Bundle(
        ref=each.ref,
        channel=each.channel,
        counter=each.counter,
        size_bytes=each.size_bytes,
        source=each.source,
        reason=reason,
        message=message,
    )


def _print(found: Sequence[Candidate], *, empty: str) -> None:
    _table([_bundle(each, each.reason, each.message) for each in found], empty=empty)


def _table(bundles: Sequence[Bundle], *, empty: str) -> None:
    table(
        ("BUNDLE", "CHANNEL", "SIZE", "USABLE", "WHY NOT", "FROM"),
        [
            (
                each.ref,
                each.channel,
                size(each.size_bytes),
                "no" if each.reason else "yes",
                f"{each.reason.replace('_', ' ')}: {each.message}" if each.reason else None,
                each.source,
            )
            for each in bundles
        ],
        empty=empty,
    )

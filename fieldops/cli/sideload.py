"""`fieldops sideload DEVICE... --bundle MODEL@VERSION`"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.bundles.approvals import STATEMENT_S
from fieldops.cli.asked import Asked, changes
from fieldops.cli.call import Call, single
from fieldops.cli.diagnostics import progress_of, tell
from fieldops.cli.options import Approvals, DevicesArg, StatementFile
from fieldops.cli.output import line
from fieldops.cli.site import hear_site
from fieldops.errors import TrustRefused, UsageFault
from fieldops.ports import BreakGlass
from fieldops.wiring.statements import read_approvals, write_new

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.ports import Device, Source

app = single()


@app.command()
@changes(900.0)
def sideload(
    asked: Asked,
    devices: DevicesArg,
    bundle: Annotated[str, typer.Option("--bundle", metavar="MODEL@VERSION", help="See `fieldops stick list`.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="PATH", help="Stick, folder or address; several: the newest counts. Default: removable media."
        ),
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Where several channels hold the version.")] = None,
    trial: Annotated[
        int, typer.Option("--trial", metavar="SECONDS", min=5, max=86_400, help="The device reverts by itself after this.")
    ] = 300,
    shadow: Annotated[
        int,
        typer.Option(
            "--shadow",
            metavar="SECONDS",
            min=0,
            max=600,
            help="Before the trial: only copies of live requests; agreement is told.",
        ),
    ] = 0,
    commit: Annotated[bool, typer.Option("--commit/--no-commit", help="End the trial here, or leave it to be judged.")] = True,
    arm: Annotated[
        str | None, typer.Option("--arm", metavar="WINDOW", help="Stage now; the device tries it alone in 22:00-04:00, or +8h.")
    ] = None,
    accept_expired: Annotated[
        bool, typer.Option("--accept-expired", help="Break glass: metadata that is only too old, with two approvals.")
    ] = False,
    approval: Approvals = None,
    statement: StatementFile = None,
) -> int:
    """Verify a signed version on this laptop, bring it to the devices, let each validate and try it, then commit."""
    from fieldops.cli.changes import carry_out
    from fieldops.operations import sideload as operation

    asked.need_person(writes_only=statement is not None)
    call = asked.call
    entries = call.entries(devices)
    site = hear_site(call)
    origins = _sources(call, source, bundle, site, accept_expired=accept_expired)
    if statement is not None:
        _write_statement(
            call, origins[0], bundle, entries, statement, accept_expired=accept_expired, channel=channel, reason=asked.reason
        )
        return 0
    approvals = read_approvals(approval or [])
    window = operation.window_of(arm, call.laptop.clock.now()) if arm is not None else None
    trusted = call.run(
        lambda: operation.fetch_newest(
            call.laptop.gate(),
            call.laptop.trust,
            origins,
            bundle,
            call.deadline(),
            channel=channel,
            words=asked.words,
            progress=progress_of(bundle),
            glass=BreakGlass(approvals, _ids(entries)) if accept_expired else None,
        )
    )

    def plan(device: Device, deadline: Deadline) -> SideloadPlan:
        return operation.plan(
            call.laptop.trust,
            device,
            trusted,
            deadline,
            trial_s=trial,
            shadow_s=shadow,
            commit=commit,
            approvals=approvals,
            window=window,
        )

    return carry_out(asked, entries, plan, trial_left=not commit and arm is None)


def _sources(call: Call, paths: list[str] | None, bundle: str, site: Source | None, *, accept_expired: bool) -> list[Source]:
    """Those named, else the media that offer the bundle, usable ones first. Raises UsageFault, TrustRefused."""
    if paths:
        return [call.laptop.media.at(path) for path in paths]
    from fieldops.operations import sticks

    refusal: TrustRefused | None = None
    media = [*call.laptop.media.find(), *([site] if site is not None else [])]
    found: list[tuple[bool, Source]] = []
    refs: set[str] = set()
    for medium in media:
        try:
            offered = call.run(partial(sticks.offered, call.laptop.gate, call.laptop.trust, medium, call.deadline()))
        except TrustRefused as error:
            refusal = error
            continue
        refs |= {each.ref for each in offered}
        mine = [each for each in offered if each.ref == bundle]
        if mine:
            found.append((any(not each.reason for each in mine), medium))
    if found:
        usable = [medium for good, medium in found if good]
        return usable or [medium for _, medium in found]
    if refusal is not None and not accept_expired:
        raise refusal
    looked_at = ", ".join(medium.name for medium in media) or "no stick is mounted"
    raise UsageFault(
        f"no medium offers {bundle} ({looked_at})",
        reason="unknown_bundle",
        next_step=(f"there are: {', '.join(sorted(refs))}; or " if refs else "")
        + "plug in the right stick, or name its folder with --from",
    )


def _ids(entries: Sequence[DeviceEntry]) -> tuple[str, ...]:
    """Raises UsageFault for a device that no verified link has named yet: approvals are for ids."""
    nameless = [entry.name for entry in entries if not entry.id]
    if nameless:
        raise UsageFault(
            f"the id of {', '.join(nameless)} is not known here", reason="no_id", next_step="enrol it: `fieldops device enrol`"
        )
    return tuple(str(entry.id) for entry in entries)


def _write_statement(
    call: Call,
    origin: Source,
    bundle: str,
    entries: Sequence[DeviceEntry],
    place: Path,
    *,
    accept_expired: bool,
    channel: str | None,
    reason: str,
) -> None:
    from fieldops.operations.sideload import statement

    text = call.run(
        lambda: statement(
            call.laptop.trust,
            origin,
            bundle,
            _ids(entries),
            call.deadline(),
            until=call.laptop.clock.now() + STATEMENT_S,
            accept_expired=accept_expired,
            channel=channel,
            reason=reason,
        )
    )
    write_new(place, text)
    line(f"{place}")
    tell(f"have it signed (`fieldops approve {place.name}`), then give each file with --approval")

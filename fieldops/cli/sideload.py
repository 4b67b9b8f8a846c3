"""`fieldops sideload DEVICE... --bundle MODEL@VERSION`"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, DevicesArg, DryRun, Json, Outcome, Reason, Ticket, Timeout, Yes, only_failure, single
from fieldops.cli.diagnostics import need_person, progress_of
from fieldops.cli.output import document
from fieldops.errors import TrustRefused, UsageFault

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.ports import Device, Source
    from fieldops.wire import StepRecord

app = single()


@app.command()
def sideload(
    context: typer.Context,
    devices: DevicesArg,
    bundle: Annotated[str, typer.Option("--bundle", metavar="MODEL@VERSION", help="See `fieldops stick list`.")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="Stick, folder or address. Default: removable media.")
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Where several channels hold the version.")] = None,
    trial: Annotated[
        int, typer.Option("--trial", metavar="SECONDS", min=5, max=86_400, help="The device reverts by itself after this.")
    ] = 300,
    commit: Annotated[bool, typer.Option("--commit/--no-commit", help="End the trial here, or leave it to be judged.")] = True,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 900.0,
) -> int:
    """Verify a signed version on this laptop, bring it to the devices, let each validate and try it, then commit."""
    from fieldops.cli.changes import agree_to, change_documents, plan_documents, print_changes, print_plans
    from fieldops.cli.documents import Changed, Plan
    from fieldops.operations import sideload as operation
    from fieldops.operations.gate import Words

    need_person(yes=yes, dry_run=dry_run)
    call = Call.of(context, json=json, timeout=timeout)
    words = Words(reason, ticket)
    entries = call.entries(devices)
    origin = _source(call, source, bundle)
    trusted = call.run(
        lambda: operation.fetch(
            call.laptop.gate(),
            call.laptop.trust,
            origin,
            bundle,
            call.deadline(),
            channel=channel,
            words=words,
            progress=progress_of(f"{bundle} from {origin.name}"),
        )
    )
    gate = call.laptop.gate()  # the stick may have brought another policy

    def plan(device: Device, deadline: Deadline) -> SideloadPlan:
        planned = operation.plan(call.laptop.trust, device, trusted, deadline, trial_s=trial, commit=commit)
        if dry_run:
            for each in planned.steps:
                gate.dry_run(device, each.step, words=words)
        return planned

    plans = call.on_each(entries, plan)
    only_failure(plans)
    if dry_run:
        if json:
            document(Plan(devices=plan_documents(gate, plans)))
        else:
            print_plans(gate, plans)
        return call.finish(plans)
    if not yes:
        agree_to(gate, plans)
    by_name = {outcome.entry.name: outcome.value for outcome in plans if outcome.value is not None}

    def run(device: Device, deadline: Deadline) -> tuple[StepRecord, ...]:
        name = device.entry.name
        return operation.run(gate, device, by_name[name], deadline, words=words, progress=progress_of(name))

    ready = [outcome.entry for outcome in plans if outcome.value is not None]
    outcomes = [*call.on_each(ready, run), *(Outcome(each.entry, error=each.error) for each in plans if each.error is not None)]
    only_failure(outcomes)
    if json:
        document(Changed(devices=change_documents(outcomes, by_name)))
    else:
        print_changes(outcomes, by_name, trial_left=not commit)
    return call.finish(outcomes)


def _source(call: Call, path: str | None, bundle: str) -> Source:
    """The one named, else the first medium that offers the bundle. Raises UsageFault, TrustRefused."""
    if path is not None:
        return call.laptop.media.at(path)
    refusal: TrustRefused | None = None
    media = call.laptop.media.find()
    for medium in media:
        try:
            offered = call.run(partial(call.laptop.trust.candidates, medium, call.deadline()))
        except TrustRefused as error:
            refusal = error
            continue
        if any(each.ref == bundle for each in offered):
            return medium
    if refusal is not None:
        raise refusal
    looked_at = ", ".join(medium.name for medium in media) or "no stick is mounted"
    raise UsageFault(
        f"no medium offers {bundle} ({looked_at})",
        reason="unknown_bundle",
        next_step="plug in the right stick (`fieldops stick list`), or name its folder with --from",
    )

"""`fieldops rollback DEVICE MODEL`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.bundles.approvals import STATEMENT_S
from fieldops.cli.call import Call, DeviceArg, DryRun, Json, Reason, Ticket, Timeout, Yes, only_failure, single
from fieldops.cli.diagnostics import need_person, progress_of, tell
from fieldops.cli.output import document, line
from fieldops.cli.statements import Approvals, StatementFile, read_approvals, write_new
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.ports import Device
    from fieldops.wire import StepRecord

app = single()


@app.command()
def rollback(
    context: typer.Context,
    device: DeviceArg,
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Default: last-good, which nobody has to approve.")
    ] = None,
    approval: Approvals = None,
    statement: StatementFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 120.0,
) -> int:
    """Go back to the last-good version, or to one the device still holds, which it validates like a new one."""
    from fieldops.cli.changes import agree_to, change_documents, plan_documents, print_changes, print_plans
    from fieldops.cli.documents.changes import Changed, Plan
    from fieldops.operations import rollback as operation
    from fieldops.operations.gate import Words

    need_person(yes=yes, dry_run=dry_run or statement is not None)
    call = Call.of(context, json=json, timeout=timeout)
    words = Words(reason, ticket)
    entries = [call.laptop.inventory().find(device)]
    gate = call.laptop.gate()
    if statement is not None:
        return _write_statement(call, entries, model, to, statement, reason)
    approvals = read_approvals(approval)

    def plan(connected: Device, deadline: Deadline) -> RollbackPlan:
        planned = operation.plan(connected, model, deadline, to=to, approvals=approvals)
        if dry_run:
            gate.dry_run(connected, planned.step, words=words)
        return planned

    plans = call.on_each(entries, plan)
    only_failure(plans)
    planned = plans[0].value
    if planned is not None and planned.from_version == planned.to_version:
        tell(f"{device}: {planned.to_version} answers already; going back to it checks it once more and changes nothing else")
    if dry_run:
        if json:
            document(Plan(devices=plan_documents(gate, plans)))
        else:
            print_plans(gate, plans)
        return 0
    if not yes:
        agree_to(gate, plans)
    by_name = {outcome.entry.name: outcome.value for outcome in plans if outcome.value is not None}

    def run(connected: Device, deadline: Deadline) -> tuple[StepRecord, ...]:
        name = connected.entry.name
        return (operation.run(gate, connected, by_name[name], deadline, words=words, progress=progress_of(name)),)

    outcomes = call.on_each(entries, run)
    only_failure(outcomes)
    if json:
        document(Changed(devices=change_documents(outcomes, by_name)))
    else:
        print_changes(outcomes, by_name)
    return call.finish(outcomes)


def _write_statement(call: Call, entries: Sequence[DeviceEntry], model: str, to: str | None, place: Path, reason: str) -> int:
    from fieldops.operations.rollback import statement

    if to is None:
        raise UsageFault("last-good needs no statement", reason="usage", next_step="name the version with --to")

    def write(connected: Device, deadline: Deadline) -> str:
        until = call.laptop.clock.now() + STATEMENT_S
        return statement(connected, model, to, deadline, until=until, reason=reason)

    made = call.on_each(entries, write)
    only_failure(made)
    write_new(place, made[0].value or "")
    line(f"{place}")
    tell(f"have it signed (`fieldops approve {place.name}`), then give the file with --approval")
    return call.finish(made)

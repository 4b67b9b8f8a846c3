"""`fieldops rollback DEVICE MODEL`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.bundles.approvals import STATEMENT_S
from fieldops.cli.asked import Asked, changes
from fieldops.cli.call import Call, only_failure, single
from fieldops.cli.diagnostics import tell
from fieldops.cli.options import Approvals, DeviceArg, ModelArg, StatementFile
from fieldops.cli.output import line
from fieldops.errors import UsageFault
from fieldops.wiring.statements import read_approvals, write_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.ports import Device

app = single()


@app.command()
@changes(120.0)
def rollback(
    asked: Asked,
    device: DeviceArg,
    model: ModelArg,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Default: last-good, which nobody has to approve.")
    ] = None,
    approval: Approvals = None,
    statement: StatementFile = None,
) -> int:
    """Go back to the last-good version, or to one the device still holds, which it validates like a new one."""
    from fieldops.cli.changes import carry_out
    from fieldops.operations import rollback as operation

    asked.need_person(writes_only=statement is not None)
    call = asked.call
    entries = [call.laptop.inventory().find(device)]
    if statement is not None:
        return _write_statement(call, entries, model, to, statement, asked.reason)
    approvals = read_approvals(approval or [])
    return carry_out(
        asked,
        entries,
        lambda connected, deadline: operation.plan(connected, model, deadline, to=to, approvals=approvals),
    )


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

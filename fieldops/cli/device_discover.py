"""`fieldops device discover`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call
from fieldops.cli.diagnostics import tell
from fieldops.cli.options import Json, Timeout
from fieldops.cli.output import document, line, table
from fieldops.cli.output import yes as yes_or_no
from fieldops.fleet import SHOWN_OF_ID

if TYPE_CHECKING:
    from fieldops.cli.documents.devices import FoundDevice
    from fieldops.operations.discover import Found


def discover(
    context: typer.Context,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST:PORT...]", help="LAN addresses to ask as well, where multicast does not reach."),
    ] = None,
    multicast: Annotated[bool, typer.Option("--multicast/--no-multicast", help="Listen for announcements (DNS-SD).")] = True,
    cable: Annotated[bool, typer.Option("--cable/--no-cable", help="Ask who is at the end of a cable (IPv6).")] = True,
    json: Json = False,
    timeout: Timeout = 6.0,
) -> None:
    """Which devices answer: the inventory's, those that announce themselves, and addresses you name. Adds none."""
    from fieldops.cli.documents.devices import Discovered
    from fieldops.operations.discover import LISTEN_S, addressed

    hints = addressed(addresses or ())
    call = Call.of(context, json=json, timeout=timeout)
    deadline = call.deadline(call.timeout + LISTEN_S)
    survey = call.run(lambda: call.laptop.links.survey(hints, deadline, multicast=multicast, cable=cable))
    if survey.deaf is not None:
        tell(str(survey.deaf))
    if json:
        document(Discovered(found=[_found(each) for each in survey.found]))
        return
    table(
        ("DEVICE", "KNOWN", "ANSWERS", "ADDRESS", "ID", "ENROLLED"),
        [
            (
                each.entry.name,
                yes_or_no(each.known),
                yes_or_no(each.hello is not None),
                each.entry.lan or each.entry.ssh,
                (each.hello.device if each.hello else each.entry.id or "")[:SHOWN_OF_ID],
                yes_or_no(each.hello.enrolled if each.hello else None),
            )
            for each in survey.found
        ],
        empty="nothing answers, and the inventory is empty; name an address: `fieldops device discover HOST:PORT`",
    )
    for each in survey.found:
        if each.error is not None:
            line(f"{each.entry.name} does not answer: {each.error.message.splitlines()[0]}")


def _found(each: Found) -> FoundDevice:
    from fieldops.cli.documents.devices import FoundDevice
    from fieldops.wire import error_doc

    return FoundDevice(
        name=each.entry.name,
        address=str(each.entry.lan or each.entry.ssh),
        known=each.known,
        id=each.hello.device if each.hello else each.entry.id,
        label=each.hello.label if each.hello else None,
        device_class=each.hello.device_class if each.hello else None,
        enrolled=each.hello.enrolled if each.hello else None,
        error=error_doc(each.error) if each.error else None,
    )

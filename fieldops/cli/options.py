"""Options and arguments that several verbs have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldops.errors import FieldopsError
from fieldops.wiring import Laptop


def device_names(incomplete: str) -> list[str]:
    """Shell completion: from the inventory file alone, never from the network; nothing when it cannot be read."""
    try:
        with Laptop.open() as laptop:
            return [entry.name for entry in laptop.inventory().devices if entry.name.startswith(incomplete)]
    except FieldopsError:
        return []


DEVICE_HELP = "Name, id prefix, or a pattern such as 'press-*'."
DeviceArg = Annotated[str, typer.Argument(metavar="DEVICE", help="Name or id prefix.", autocompletion=device_names)]
DevicesArg = Annotated[
    list[str], typer.Argument(metavar="DEVICE...", help=DEVICE_HELP, autocompletion=device_names, show_default=False)
]
SomeDevicesArg = Annotated[
    list[str] | None, typer.Argument(metavar="DEVICE...", help=DEVICE_HELP, autocompletion=device_names, show_default=False)
]
AllDevices = Annotated[bool, typer.Option("--all", help="Every device of the inventory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for a device.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the steps; change nothing.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
Ticket = Annotated[str, typer.Option("--ticket", metavar="ID", help="Ticket number, for the record.")]

ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help="As `fieldops models DEVICE` names it.")]
Approvals = Annotated[
    list[Path] | None,
    typer.Option("--approval", metavar="FILE", help="What `fieldops approve` wrote; give it once for each person."),
]
StatementFile = Annotated[
    Path | None, typer.Option("--statement", metavar="FILE", help="Only write what approvers have to sign; change nothing.")
]

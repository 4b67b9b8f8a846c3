"""`fieldops device add|remove`: the list of devices on this laptop. Nothing is sent to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.asked import Asked, changes
from fieldops.cli.diagnostics import agreed
from fieldops.cli.options import DeviceArg
from fieldops.cli.output import document, line

if TYPE_CHECKING:
    from fieldops.steps import Change


@changes(asks=False)
def add(
    asked: Asked,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, `.`, `_`, `-`.")],
    ssh: Annotated[str, typer.Option("--ssh", metavar="USER@HOST[:PORT]", show_default=False)] = "",
    lan: Annotated[str, typer.Option("--lan", metavar="HOST:PORT", show_default=False, help="The agent's LAN port.")] = "",
    site: Annotated[str, typer.Option("--site", metavar="TEXT")] = "",
    device_class: Annotated[str, typer.Option("--class", metavar="TEXT", help="Hardware class, as bundles name it.")] = "",
    owner: Annotated[str, typer.Option("--owner", metavar="TEXT")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TEXT", help="May be given several times.")] = None,
) -> None:
    """Add a device to the inventory. Nothing is sent to it."""
    from fieldops.operations import inventory

    entry = inventory.entry_of(name, ssh, lan, site=site, device_class=device_class, owner=owner, tags=tag or ())
    _change(asked, inventory.adding(asked.call.laptop.inventory_file, entry), entry.name)


@changes()
def remove(asked: Asked, device: DeviceArg) -> None:
    """Take a device out of the inventory. The device itself is not touched and stays enrolled."""
    from fieldops.operations import inventory

    asked.need_person()
    entry = asked.call.laptop.inventory().find(device)
    if not (asked.yes or asked.dry_run):
        agreed(f"remove {entry.name} from the inventory?")
    _change(asked, inventory.removing(entry), entry.name, device=entry.id or "")


def _change(asked: Asked, change: Change, name: str, *, device: str = "") -> None:
    from fieldops.operations import inventory
    from fieldops.steps import describe_change

    laptop = asked.call.laptop
    if not asked.dry_run:
        inventory.change(laptop.gate(), laptop.inventory_file, change, words=asked.words, device=device)
    told(asked, name, describe_change(change))


def told(asked: Asked, name: str, change: str, *, known: str = "") -> None:
    """What was done, or would be. known: what to say where nothing had to be."""
    if asked.call.json:
        from fieldops.cli.documents.devices import InventoryChange

        document(InventoryChange(device=name, change=change, done=not asked.dry_run))
    else:
        line(f"{'would ' if asked.dry_run else 'done: '}{change}" if change else known)

"""`fieldops device trust`: a host key that somebody compared."""

from __future__ import annotations

from typing import Annotated

import typer

from fieldops.cli.asked import Asked, changes
from fieldops.cli.device_inventory import told
from fieldops.cli.diagnostics import at_terminal, tell, typed
from fieldops.cli.options import DeviceArg
from fieldops.errors import Cancelled, UsageFault


@changes(15.0, asks=False)
def trust(
    asked: Asked,
    device: DeviceArg,
    expect: Annotated[
        str | None,
        typer.Option("--expect-fingerprint", metavar="SHA256:...", help="Had by another way, such as the device's label."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the key known so far: the device was set up again.")
    ] = False,
) -> None:
    """Show a device's SSH host key and, once its fingerprint was compared, trust it from now on."""
    from fieldops.operations import hostkeys

    expect = hostkeys.expected_in(expect) if expect is not None else None
    call = asked.call
    entry = call.laptop.inventory().find(device)
    if expect is None and not asked.dry_run and not at_terminal():
        raise UsageFault(
            "nobody is at a terminal to compare the host key",
            reason="needs_yes",
            next_step="give --expect-fingerprint SHA256:..., had by another way than this network",
            device=entry.name,
        )
    offered = call.about(entry, lambda: call.laptop.links.host_key(entry, call.deadline()))
    hostkeys.judge(entry, offered, expected=expect, replace=replace or asked.dry_run)
    change = hostkeys.in_words(entry, offered)
    if change and not asked.dry_run:
        if expect is None:
            _compared(offered.fingerprint, change)
        hostkeys.accept(call.laptop.gate(), call.laptop.inventory_file, entry, offered, words=asked.words)
    told(asked, entry.name, change, known=f"{offered.fingerprint} is known already")


def _compared(fingerprint: str, change: str) -> None:
    """Typing the end of it is what shows that somebody looked. Raises Cancelled."""
    tell(f"{change}\nCompare this fingerprint with the device's label, or with `ssh-keygen -lf` on the device.")
    if typed("the last four characters of the fingerprint", fingerprint[-4:]):
        return
    raise Cancelled("not confirmed; nothing was changed")

"""`fieldops config ...`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.options import Json
from fieldops.cli.output import document, line, pairs
from fieldops.errors import UsageFault

if TYPE_CHECKING:
    from fieldops.cli.documents.office import ConfigState
    from fieldops.wiring import Laptop

app = group()


@app.command()
def path(context: typer.Context, json: Json = False) -> None:
    """Where this laptop's files are."""
    call = Call.of(context, json=json)
    if json:
        document(_state(call.laptop))
    else:
        line(call.laptop.home / "config.toml")


@app.command()
def show(context: typer.Context, json: Json = False) -> None:
    """The settings in force, defaults included."""
    call = Call.of(context, json=json)
    if json:
        document(_state(call.laptop))
        return
    config, file = call.laptop.config, call.laptop.home / "config.toml"
    pairs(
        [
            ("home", call.laptop.home),
            ("file", f"{file}{'' if file.is_file() else ' (not there: defaults)'}"),
            ("theme", config.theme or "(default)"),
            ("data", config.data or "(as installed)"),
            ("person key", config.person_key or "(none: you can read, and roll back to last-good)"),
            ("store", config.store_url or "(none: entries stay on this laptop)"),
            ("ssh identities", ", ".join(map(str, config.ssh_identities)) or "(the person's key, else ~/.ssh)"),
            ("site server", config.site or "(none)"),
            ("stick folders", ", ".join(map(str, config.stick_folders)) or "(removable media only)"),
            *((f"key {binding}", keys) for binding, keys in config.keys.items()),
        ]
    )


def _state(laptop: Laptop) -> ConfigState:
    from fieldops.cli.documents.office import ConfigState

    config = laptop.config
    return ConfigState(
        home=str(laptop.home),
        file=str(laptop.home / "config.toml"),
        theme=config.theme,
        data=str(config.data) if config.data else None,
        person_key=str(config.person_key) if config.person_key else None,
        store_url=config.store_url,
        ssh_identities=[str(each) for each in config.ssh_identities],
        site=config.site,
        stick_folders=[str(each) for each in config.stick_folders],
        keys=dict(config.keys),
    )


@app.command()
def check(context: typer.Context, json: Json = False) -> int:
    """Every fault of config.toml and fleet.toml at once, and whether the files they name are there."""
    call = Call.of(context, json=json)
    faults: list[str] = []
    try:
        config = call.laptop.config
    except UsageFault as error:
        faults += [str(fault) for fault in error.faults] or [str(error)]
    else:
        named = [("[person] key", config.person_key), ("data", config.data)]
        named += [("[ssh] identities", each) for each in config.ssh_identities]
        faults += [f"{what}: no file {file}" for what, file in named if file is not None and not file.exists()]
    try:
        call.laptop.inventory()
    except UsageFault as error:
        faults += [str(fault) for fault in error.faults] or [str(error)]
    if json:
        from fieldops.cli.documents.office import ConfigCheck

        document(ConfigCheck(ok=not faults, faults=faults))
    elif faults:
        for fault in faults:
            line(fault)
    else:
        line("config.toml and fleet.toml are in order")
    return UsageFault.exit_code if faults else 0

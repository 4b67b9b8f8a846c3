"""`fieldops device ...`: the inventory, and who devices are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from fieldops.cli import device_discover, device_enrol, device_inventory, device_trust
from fieldops.cli.call import Call, Outcome, group
from fieldops.cli.options import AllDevices, Json, SomeDevicesArg, Timeout
from fieldops.cli.output import document, line, pairs, table
from fieldops.cli.output import yes as yes_or_no
from fieldops.errors import FieldopsError
from fieldops.fleet import SHOWN_OF_ID, DeviceEntry

if TYPE_CHECKING:
    from fieldops.cli.documents.devices import DeviceState
    from fieldops.operations.observe import Snapshot

app = group()


@app.command("list")
def list_devices(
    context: typer.Context,
    site: Annotated[str | None, typer.Option("--site", help="Only devices of this site.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only devices with this tag.")] = None,
    json: Json = False,
) -> None:
    """The inventory. Asks no device."""
    call = Call.of(context, json=json)
    kept = [
        entry
        for entry in call.laptop.inventory().devices
        if (site is None or entry.site == site) and (tag is None or tag in entry.tags)
    ]
    if json:
        from fieldops.cli.documents.devices import Devices, item_of

        document(Devices(devices=[item_of(entry) for entry in kept]))
        return
    table(
        ("DEVICE", "SITE", "CLASS", "SSH", "LAN", "ID", "TAGS"),
        [
            (
                entry.name,
                entry.site,
                entry.device_class,
                entry.ssh,
                entry.lan,
                (entry.id or "")[:SHOWN_OF_ID],
                ", ".join(entry.tags),
            )
            for entry in kept
        ],
        empty="no devices yet: `fieldops device add NAME --ssh user@host`, or `fieldops demo` for a sample fleet",
    )


for verb in (
    device_inventory.add,
    device_inventory.remove,
    device_discover.discover,
    device_trust.trust,
    device_enrol.enrol,
):
    app.command()(verb)


@app.command()
def show(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    json: Json = False,
    timeout: Timeout = 10.0,
) -> int:
    """Ask devices how they are: state in one word with its reasons, link, identity, models."""
    from fieldops.operations import observe

    call = Call.of(context, json=json, timeout=timeout)
    entries = call.entries(devices, everyone=everyone)
    outcomes = call.for_each(
        entries, lambda entry: observe.snapshot(call.laptop.connect, entry, call.deadline(), call.laptop.clock.now)
    )
    read = [outcome.value for outcome in outcomes if outcome.value is not None]
    if len(read) == 1 and read[0].error is not None:
        raise read[0].error.about(read[0].entry.name)
    if json:
        from fieldops.cli.documents.devices import DeviceStates

        document(DeviceStates(devices=[_state(each) for each in read]))
    elif len(read) == 1:
        _show_one(read[0])
        if read[0].link.startswith("bare"):
            _show_support(call, read[0].entry)
    else:
        table(
            ("DEVICE", "STATE", "LINK", "MODELS", "WHY"),
            [
                (
                    each.entry.name,
                    each.state,
                    each.link,
                    ", ".join(f"{slot.model} {slot.active or 'none'}" for slot in each.models.slots) if each.models else None,
                    "; ".join(each.reasons),
                )
                for each in read
            ],
            empty="no devices yet: `fieldops device add`",
        )
    failed = [Outcome(each.entry, value=each, error=each.error) for each in read if each.error is not None]
    return call.finish([*(outcome for outcome in outcomes if outcome.error is not None), *failed])


def _show_support(call: Call, entry: DeviceEntry) -> None:
    """What a device without an agent could do, and what keeps it from more."""
    try:
        support = call.about(entry, lambda: call.laptop.links.support(entry, call.deadline()))
    except FieldopsError:  # the state of the device is shown already
        return
    if support is None:
        return
    pairs([("supports", support.text), ("why not more", "; ".join(support.why) or None)])
    if support.kit:
        line(f"next: fieldops kit build {support.kit} --dest KIT; fieldops device enrol {entry.name} --kit KIT")


def _state(each: Snapshot) -> DeviceState:
    from fieldops.cli.documents.devices import DeviceState, item_of
    from fieldops.wire import error_doc

    return DeviceState(
        device=item_of(each.entry),
        state=cast("Literal['OK', 'WARN', 'FAIL', 'OFF']", each.state),
        reasons=list(each.reasons),
        link=each.link,
        agent=each.hello.agent if each.hello else None,
        enrolled=each.hello.enrolled if each.hello else None,
        boot_id=each.hello.boot_id if each.hello else None,
        models=each.models.slots if each.models else None,
        error=error_doc(each.error) if each.error else None,
    )


def _show_one(each: Snapshot) -> None:
    entry, hello = each.entry, each.hello
    pairs(
        [
            ("device", entry.name),
            ("state", f"{each.state}{': ' if each.reasons else ''}{'; '.join(each.reasons)}"),
            ("site", entry.site),
            ("class", hello.device_class if hello and hello.device_class else entry.device_class),
            ("label", hello.label if hello else None),
            ("link", each.link),
            ("ssh", entry.ssh),
            ("lan", entry.lan),
            ("id", hello.device if hello else entry.id),
            ("agent", hello.agent if hello else None),
            ("enrolled", yes_or_no(hello.enrolled if hello else None)),
            ("owner", entry.owner),
            ("tags", ", ".join(entry.tags)),
        ]
    )
    for slot in each.models.slots if each.models else ():
        line(f"model {slot.model} {slot.active or 'none'} ({slot.state.replace('_', ' ')}), last-good {slot.last_good or 'none'}")

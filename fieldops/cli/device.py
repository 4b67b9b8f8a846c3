"""`fieldops device ...`: the inventory, and who devices are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from fieldops.cli import device_enrol
from fieldops.cli.call import Call, Outcome, group
from fieldops.cli.diagnostics import agreed, at_terminal, need_person, tell, typed
from fieldops.cli.options import AllDevices, DeviceArg, DryRun, Json, Reason, SomeDevicesArg, Ticket, Timeout, Yes
from fieldops.cli.output import document, line, pairs, table
from fieldops.cli.output import yes as yes_or_no
from fieldops.errors import Cancelled, LinkFault, UsageFault
from fieldops.fleet import NAME_PATTERN, SHOWN_OF_ID, DeviceEntry, Hint, parse_address, parse_ssh_address, toml_table

if TYPE_CHECKING:
    from fieldops.cli.documents.devices import DeviceState, FoundDevice
    from fieldops.operations.discover import Found
    from fieldops.operations.observe import Snapshot
    from fieldops.steps import Change

app = group()
app.command()(device_enrol.enrol)

LISTEN_S = 3.0  # announcements come within a second or two; silence must not cost the visit


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


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, `.`, `_`, `-`.")],
    ssh: Annotated[str | None, typer.Option("--ssh", metavar="USER@HOST[:PORT]")] = None,
    lan: Annotated[str | None, typer.Option("--lan", metavar="HOST:PORT", help="The agent's LAN port.")] = None,
    site: Annotated[str, typer.Option("--site")] = "",
    device_class: Annotated[str, typer.Option("--class", help="Hardware class, as bundles name it.")] = "",
    owner: Annotated[str, typer.Option("--owner")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be given several times.")] = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
) -> None:
    """Add a device to the inventory. Nothing is sent to it."""
    from fieldops.steps import AddDevice

    call = Call.of(context, json=json)
    entry = _entry(name, ssh, lan, site=site, device_class=device_class, owner=owner, tags=tuple(tag or ()))
    if any(known.name == name for known in call.laptop.inventory().devices):
        raise UsageFault(
            f"{name} is in the inventory already", reason="known_device", next_step="choose another name, or edit fleet.toml"
        )
    _change(call, AddDevice(table=toml_table(entry), name=name), name, dry_run=dry_run, reason=reason, ticket=ticket)


def _entry(
    name: str, ssh: str | None, lan: str | None, *, site: str, device_class: str, owner: str, tags: tuple[str, ...]
) -> DeviceEntry:
    faults = (
        [] if NAME_PATTERN.fullmatch(name) else [f"the name {name!r} has other than lower-case letters, digits, `.`, `_`, `-`"]
    )
    ssh_address = lan_address = None
    try:
        ssh_address = parse_ssh_address(ssh) if ssh is not None else None
    except ValueError as error:
        faults.append(f"--ssh {ssh!r} is not {error}")
    try:
        lan_address = parse_address(lan) if lan is not None else None
    except ValueError as error:
        faults.append(f"--lan {lan!r} is not {error}")
    if ssh is None and lan is None:
        faults.append("no address: neither --ssh nor --lan")
    if faults:
        raise UsageFault("; ".join(faults), reason="usage", next_step="correct this; see `fieldops device add --help`")
    return DeviceEntry(name=name, site=site, device_class=device_class, ssh=ssh_address, lan=lan_address, tags=tags, owner=owner)


@app.command()
def remove(
    context: typer.Context,
    device: DeviceArg,
    yes: Yes = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
) -> None:
    """Take a device out of the inventory. The device itself is not touched and stays enrolled."""
    from fieldops.steps import RemoveDevice

    need_person(yes=yes, dry_run=dry_run)
    call = Call.of(context, json=json)
    entry = call.laptop.inventory().find(device)
    if not (yes or dry_run):
        agreed(f"remove {entry.name} from the inventory?")
    _change(call, RemoveDevice(name=entry.name), entry.name, dry_run=dry_run, reason=reason, ticket=ticket, device=entry.id or "")


def _change(call: Call, change: Change, name: str, *, dry_run: bool, reason: str, ticket: str, device: str = "") -> None:
    from fieldops.operations.gate import Words
    from fieldops.steps import describe_change

    if not dry_run:
        call.laptop.gate().change(call.laptop.inventory_file, change, words=Words(reason, ticket), device=device)
    if call.json:
        from fieldops.cli.documents.devices import InventoryChange

        document(InventoryChange(device=name, change=describe_change(change), done=not dry_run))
    else:
        line(f"{'would ' if dry_run else 'done: '}{describe_change(change)}")


@app.command()
def trust(
    context: typer.Context,
    device: DeviceArg,
    expect: Annotated[
        str | None,
        typer.Option("--expect-fingerprint", metavar="SHA256:...", help="Had by another way, such as the device's label."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the key known so far: the device was set up again.")
    ] = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 15.0,
) -> None:
    """Show a device's SSH host key and, once its fingerprint was compared, trust it from now on."""
    from fieldops.operations import hostkeys
    from fieldops.operations.gate import Words

    expect = hostkeys.expected_in(expect) if expect is not None else None
    call = Call.of(context, json=json, timeout=timeout)
    entry = call.laptop.inventory().find(device)
    if expect is None and not dry_run and not at_terminal():
        raise UsageFault(
            "nobody is at a terminal to compare the host key",
            reason="needs_yes",
            next_step="give --expect-fingerprint SHA256:..., had by another way than this network",
            device=entry.name,
        )
    (outcome,) = call.for_each([entry], lambda each: call.laptop.links.host_key(each, call.deadline()))
    if outcome.value is None:
        raise outcome.error or UsageFault("no answer", next_step="try again", device=entry.name)
    offered = outcome.value
    hostkeys.judge(entry, offered, expected=expect, replace=replace or dry_run)
    change = f"trust {offered.key_type} {offered.fingerprint} of {entry.ssh}" + (
        f" in place of {', '.join(offered.known)}" if offered.verdict == "changed" else ""
    )
    known = offered.verdict == "ok"
    if not known and not dry_run:
        if expect is None:
            _compared(offered.fingerprint, change)
        hostkeys.accept(call.laptop.gate(), call.laptop.inventory_file, entry, offered, words=Words(reason, ticket))
    if json:
        from fieldops.cli.documents.devices import InventoryChange

        document(InventoryChange(device=entry.name, change="" if known else change, done=not dry_run))
    else:
        line(f"{offered.fingerprint} is known already" if known else f"{'would ' if dry_run else 'done: '}{change}")


def _compared(fingerprint: str, change: str) -> None:
    """Typing the end of it is what shows that somebody looked. Raises Cancelled."""
    tell(f"{change}\nCompare this fingerprint with the device's label, or with `ssh-keygen -lf` on the device.")
    if typed("the last four characters of the fingerprint", fingerprint[-4:]):
        return
    raise Cancelled("not confirmed; nothing was changed")


@app.command()
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

    call = Call.of(context, json=json, timeout=timeout)
    hints = [Hint(name=text, lan=device_enrol.address_of(text)) for text in addresses or ()]
    if multicast:
        hints += _heard(call)
    if cable:
        hints += call.run(lambda: call.laptop.links.neighbours(call.deadline(min(call.timeout, LISTEN_S))))
    found = call.run(lambda: call.laptop.links.discover(hints, call.deadline()))
    if json:
        document(Discovered(found=[_found(each) for each in found]))
        return
    table(
        ("DEVICE", "IN INVENTORY", "ANSWERS", "ADDRESS", "ID", "CLASS", "ENROLLED", "WHY NOT"),
        [
            (
                each.entry.name,
                yes_or_no(each.known),
                yes_or_no(each.hello is not None),
                each.entry.lan or each.entry.ssh,
                (each.hello.device if each.hello else each.entry.id or "")[:SHOWN_OF_ID],
                each.hello.device_class if each.hello else each.entry.device_class,
                yes_or_no(each.hello.enrolled if each.hello else None),
                each.error.message.splitlines()[0] if each.error else None,
            )
            for each in found
        ],
        empty="nothing answers, and the inventory is empty; name an address: `fieldops device discover HOST:PORT`",
    )


def _heard(call: Call) -> list[Hint]:
    try:
        return call.run(lambda: call.laptop.links.heard(call.deadline(min(call.timeout, LISTEN_S))))
    except LinkFault as error:
        tell(str(error))
        return []


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
    (outcome,) = call.for_each([entry], lambda each: call.laptop.links.support(each, call.deadline()))
    support = outcome.value
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

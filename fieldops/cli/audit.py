"""`fieldops audit ...`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import tell
from fieldops.cli.options import Json, Timeout, device_names
from fieldops.cli.output import document, instant, line, size, span, table
from fieldops.errors import CheckFailed, FieldopsError

if TYPE_CHECKING:
    from fieldops.audit.entry import Entry

app = group()

PAGE = 1000


@app.command("list")
def list_entries(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many, the newest.")] = 50,
    device: Annotated[str | None, typer.Option("--device", help="Only about this one.", autocompletion=device_names)] = None,
    json: Json = False,
) -> None:
    """What was done, refused and tried from this laptop, oldest first. Asks nobody."""
    call = Call.of(context, json=json)
    journal = call.laptop.journal
    size = journal.size()
    wanted = call.laptop.inventory().find(device).id if device is not None else None
    entries = [] if device is not None and not wanted else _newest(call, size, limit, wanted)
    if json:
        from fieldops.cli.documents.log import AuditEntries

        document(AuditEntries(log=journal.log if size else "", size=size, entries=entries))
        return
    names: dict[str, str] = {entry.id: entry.name for entry in call.laptop.inventory().devices if entry.id}
    table(
        ("SEQ", "TIME", "WHO", "WHAT", "DEVICE", "SUBJECT", "OUTCOME", "REASON"),
        [_row(entry, names) for entry in entries],
        empty="nothing was done from this laptop yet",
    )


def _newest(call: Call, size: int, limit: int, device: str | None) -> list[Entry]:
    found: list[Entry] = []
    upper = size
    while upper > 0 and len(found) < limit:
        after = max(0, upper - PAGE)
        page = [entry for entry, _ in call.laptop.journal.read(after, upper - after)]
        found = [entry for entry in page if device is None or entry.device == device] + found
        upper = after
    return found[-limit:]


def _row(entry: Entry, names: dict[str, str]) -> tuple[object, ...]:
    kind, _, who = entry.actor.partition(":")
    subject = entry.subject
    about = ""
    if subject is not None:
        versions = " -> ".join(part for part in (subject.from_, subject.to) if part)
        about = " ".join(part for part in (subject.name, versions) if part)
    outcome = {"intent": "begun", "note": "noted"}.get(entry.phase, "")
    if entry.result is not None:
        outcome = entry.result.status.replace("_", " ")
        if entry.result.reason and entry.result.status not in {"done", "dry_run"}:
            outcome += f" ({entry.result.reason})"
    return (
        entry.seq,
        instant(entry.time),
        f"person {who.removeprefix('SHA256:')[:8]}" if kind == "person" else f"{kind} {who[:12]}",
        entry.act,
        names.get(entry.device, entry.device[:8]),
        about,
        outcome,
        " ".join(part for part in (entry.reason, f"[{entry.ticket}]" if entry.ticket else "") if part),
    )


@app.command()
def verify(context: typer.Context, json: Json = False) -> int:
    """Recompute the log from its bytes: order, tree, signatures, and what devices and the store cosigned."""
    from fieldops.operations import trail

    call = Call.of(context, json=json)
    report = call.run(lambda: trail.verify(call.laptop.journal))
    if json:
        from fieldops.cli.documents.log import AuditVerified

        document(
            AuditVerified(
                ok=report.ok,
                size=report.size,
                root=report.root,
                problems=list(report.problems),
                witnesses=list(report.witnesses),
                unchecked=report.unchecked,
            )
        )
    else:
        line(f"{report.size} entries, root {report.root}")
        names = _names(call)
        for witness in report.witnesses:
            line(f"  cosigned by {_witness(witness, names)}")
        if report.unchecked:
            line(f"  {report.unchecked} cosignatures by keys this laptop does not know were not checked")
        for problem in report.problems:
            line(f"  {problem}")
        line("the log is whole and signed" if report.ok else "the log is NOT as it was written")
    if not report.ok and not json:
        tell("next: keep audit.db as evidence and compare it with the central store's copy")
    return 0 if report.ok else CheckFailed.exit_code


def _names(call: Call) -> dict[str, str]:
    """Id -> name; empty when the inventory cannot be read, which is no fault of the log."""
    try:
        return {entry.id: entry.name for entry in call.laptop.inventory().devices if entry.id}
    except FieldopsError:
        return {}


def _witness(text: str, names: dict[str, str]) -> str:
    """`device:<id> up to N` as a person reads it."""
    who, _, size = text.partition(" up to ")
    kind, _, id_ = who.partition(":")
    return f"{names.get(id_, f'{kind} {id_[:8]}')}, up to entry {size}"


@app.command()
def sync(context: typer.Context, json: Json = False, timeout: Timeout = 60.0) -> None:
    """Bring new entries, and what devices counted, to the central store. Safe to repeat: the store says what it has."""
    from fieldops.operations import sync as pushing

    call = Call.of(context, json=json, timeout=timeout)
    laptop = call.laptop
    store = laptop.store()
    with laptop.exclusive("sync"):
        report = call.run(lambda: pushing.push(laptop.journal, store, laptop.clock, call.deadline(), shelf=laptop.telemetry))
    if json:
        from fieldops.cli.documents.log import AuditSynced

        document(
            AuditSynced(
                pushed=report.pushed,
                duplicate=report.duplicate,
                size=report.size,
                root=_hex(report.root),
                telemetry=report.telemetry,
            )
        )
    else:
        line(f"{report.pushed} entries sent, {report.duplicate} were there already; the store holds {report.size}")
        if report.telemetry:
            line(f"{report.telemetry} records of telemetry sent")


@app.command()
def status(context: typer.Context, json: Json = False) -> None:
    """How many entries the store has not confirmed yet, and since when. Asks nobody."""
    from fieldops.operations import sync as pushing

    call = Call.of(context, json=json)
    state, waiting = pushing.status(call.laptop.journal), call.laptop.telemetry.queue()
    if json:
        from fieldops.cli.documents.log import AuditStatus

        document(
            AuditStatus(size=state.size, acked=state.acked, queued=state.queued, oldest=state.oldest, telemetry=waiting.records)
        )
        return
    line(f"{state.size} entries, {state.acked} confirmed by the store, {state.queued} queued")
    if waiting.records:
        line(f"{waiting.records} records of telemetry queued, {size(waiting.size_bytes)}")
    if state.oldest is not None:
        line(f"the oldest queued one is {span(call.laptop.clock.now() - state.oldest)} old")


def _hex(root: str | bytes) -> str:
    return root if isinstance(root, str) else root.hex()

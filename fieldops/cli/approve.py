"""`fieldops approve FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.approvals import ApprovalFile, decode_statement, describe_statement, encode_approval
from fieldops.cli.call import Call, single
from fieldops.cli.diagnostics import agreed, need_person, tell
from fieldops.cli.options import Json, Reason, Yes
from fieldops.cli.output import document, instant, line
from fieldops.operations.gate import Words
from fieldops.wiring.statements import read_text, write_new

app = single()


@app.command()
def approve(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A statement, as `--statement FILE` writes it.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: beside it, named by your key.")] = None,
    reason: Reason = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Sign a statement with your SSH key, after reading what it allows. The file that this writes is used by --approval."""
    need_person(yes=yes, dry_run=False)
    call = Call.of(context, json=json)
    text = read_text(file)
    statement = decode_statement(text)
    tell(f"this allows: {describe_statement(statement)}")
    for device in statement.devices:
        tell(f"  device {device}")
    tell(f"  until {instant(statement.until)}, manifest {statement.manifest_sha256}")
    if statement.reason:
        tell(f"  reason: {statement.reason}")
    if not yes:
        agreed("sign it?")
    made = call.laptop.approve(text)
    by = call.laptop.technician.actor().name
    signed = ApprovalFile(statement=made.statement, signature=made.signature, by=by)
    place = out or file.with_name(f"{file.name}.{by.removeprefix('SHA256:')[:8].replace('/', '-')}.approval")
    write_new(place, encode_approval(signed))
    call.laptop.gate().note(
        "approve",
        subject=Subject(kind="model", name=statement.model, to=statement.version, digest=statement.manifest_sha256),
        result=Result(status="done", reason=statement.allow, detail=f"devices {', '.join(statement.devices)}"),
        words=Words(reason or statement.reason),
    )
    if json:
        document(signed)
    else:
        line(f"{place}")

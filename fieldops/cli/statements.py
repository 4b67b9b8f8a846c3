"""Options for the statement and approval files that are carried from person to person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fieldops.bundles.approvals import ApprovalFile
from fieldops.steps import Approval
from fieldops.wiring.statements import read_approvals as read_files
from fieldops.wiring.statements import write_new as write_text

Approvals = Annotated[
    list[Path] | None,
    typer.Option("--approval", metavar="FILE", help="What `fieldops approve` wrote; give it once for each person."),
]
StatementFile = Annotated[
    Path | None, typer.Option("--statement", metavar="FILE", help="Only write what approvers have to sign; change nothing.")
]


def write_new(path: Path, content: str | ApprovalFile) -> None:
    """Never over a file that is there: it may carry a signature. Raises UsageFault."""
    text = content if isinstance(content, str) else msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
    write_text(path, text)


def read_approvals(paths: list[Path] | None) -> tuple[Approval, ...]:
    """Raises UsageFault."""
    return read_files(paths or [])

"""Statement and approval files, as they are carried from person to person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fieldops.bundles.approvals import MOST_APPROVALS, STATEMENT_LIMIT_BYTES
from fieldops.cli.documents import ApprovalFile
from fieldops.decoding import decoder
from fieldops.errors import UsageFault
from fieldops.steps import Approval

_APPROVAL_LIMIT_BYTES = 4 * STATEMENT_LIMIT_BYTES
STATEMENT_S = 3 * 86_400.0  # how long a new statement holds

Approvals = Annotated[
    list[Path] | None,
    typer.Option("--approval", metavar="FILE", help="What `fieldops approve` wrote; give it once for each person."),
]
StatementFile = Annotated[
    Path | None, typer.Option("--statement", metavar="FILE", help="Only write what approvers have to sign; change nothing.")
]


def read_text(path: Path, limit: int = STATEMENT_LIMIT_BYTES) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path}: no UTF-8 text", reason="bad_file", next_step="get an intact copy") from error
    if len(data) > limit:
        raise UsageFault(f"{path}: more than {limit} bytes", reason="oversized", next_step="name the right file")
    return text


def write_new(path: Path, content: str | ApprovalFile) -> None:
    """Never over a file that is there: it may carry a signature. Raises UsageFault."""
    text = content if isinstance(content, str) else msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that is not there yet") from error


def read_approvals(paths: Sequence[Path] | None) -> tuple[Approval, ...]:
    """Raises UsageFault."""
    if paths and len(paths) > MOST_APPROVALS:
        raise UsageFault(f"{len(paths)} approvals", reason="usage", next_step=f"give at most {MOST_APPROVALS}")
    return tuple(_approval(path) for path in paths or ())


def _approval(path: Path) -> Approval:
    try:
        found = decoder(ApprovalFile).decode(read_text(path, _APPROVAL_LIMIT_BYTES))
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageFault(
            f"{path}: no approval: {error}", reason="malformed", next_step="give a file that `fieldops approve` wrote"
        ) from error
    return Approval(statement=found.statement, signature=found.signature)

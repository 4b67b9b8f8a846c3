"""Statement and approval files, as they are carried from person to person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldops.bundles.approvals import MOST_APPROVALS, STATEMENT_LIMIT_BYTES, decode_approval
from fieldops.errors import UsageFault
from fieldops.steps import Approval

_APPROVAL_LIMIT_BYTES = 4 * STATEMENT_LIMIT_BYTES


def read_text(path: Path, limit: int = STATEMENT_LIMIT_BYTES) -> str:
    """Raises UsageFault."""
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


def write_new(path: Path, text: str) -> None:
    """Never over a file that is there: it may carry a signature. Raises UsageFault."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that is not there yet") from error


def read_approvals(paths: Sequence[Path]) -> tuple[Approval, ...]:
    """Raises UsageFault."""
    if len(paths) > MOST_APPROVALS:
        raise UsageFault(f"{len(paths)} approvals", reason="usage", next_step=f"give at most {MOST_APPROVALS}")
    return tuple(_approval(path) for path in paths)


def _approval(path: Path) -> Approval:
    try:
        return decode_approval(read_text(path, _APPROVAL_LIMIT_BYTES))
    except UsageFault as error:
        error.message = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise


def keep_text(path: Path, text: str) -> str:
    """In place of what the file held before; a power cut leaves one of the two whole. Raises StorageFault."""
    from fieldops.edges.disk import write_whole

    write_whole(path, text.encode("utf-8"), 0o600)
    return str(path)

"""stdout, and nothing else: tables of plain text aligned by spaces, and `--json` documents. Nothing here asks or decides.

What devices and sticks say is printed with its control characters replaced, so that no label can move the cursor.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import msgspec

UNKNOWN = "-"
GAP = 2


def clean(text: object) -> str:
    """One line of printable text; a control or formatting character becomes U+FFFD, a line break a space."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(char if char.isprintable() else " " if char in "\r\n\t" else "\ufffd" for char in plain)


def width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


class ReaderGone(Exception):
    """Whoever read stdout has what it wanted (`| head`). No OSError: typer would end the program at one."""


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError as error:
        raise ReaderGone from error


def flush() -> None:
    """Raises ReaderGone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def line(text: object = "") -> None:
    _write(f"{clean(text)}\n")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """Columns two spaces apart. Columns that hold numbers only stand to the right. `empty` replaces a table without rows.

    On a terminal the widest columns give way; a program gets one line a row, however long.
    """
    cells = [[UNKNOWN if cell is None or cell == "" else clean(cell) for cell in row] for row in rows]
    if not cells:
        if empty:
            line(empty)
        return
    for text in laid_out(headers, cells, _terminal_columns()):
        _write(f"{text}\n")


def _terminal_columns() -> int | None:
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def laid_out(headers: Sequence[str], cells: Sequence[Sequence[str]], room: int | None) -> Iterator[str]:
    """The lines of a table. room: columns of the terminal; None: without end."""
    columns = list(zip(*cells, strict=True))
    widths = [max(width(head), *(width(cell) for cell in column)) for head, column in zip(headers, columns, strict=True)]
    right = [{UNKNOWN} != set(column) and all(cell == UNKNOWN or _numeric(cell) for cell in column) for column in columns]
    if room is not None:
        least = [
            max(width(word) for cell in (head, *column) for word in cell.split())
            for head, column in zip(headers, columns, strict=True)
        ]
        widths = _fitted(widths, least, room - GAP * (len(widths) - 1))
    for row in (headers, *cells):
        folded = [_folded(cell, size) for cell, size in zip(row, widths, strict=True)]
        for at in range(max(len(parts) for parts in folded)):
            padded = (
                _pad(parts[at] if at < len(parts) else "", size, to_right)
                for parts, size, to_right in zip(folded, widths, right, strict=True)
            )
            yield (" " * GAP).join(padded).rstrip()


def _fitted(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widest column gives way first, none below its longest word; as they were where that does not do."""
    fitted = list(widths)
    while sum(fitted) > room:
        can = [at for at, size in enumerate(fitted) if size > least[at]]
        if not can:
            return list(widths)
        fitted[max(can, key=fitted.__getitem__)] -= 1
    return fitted


def _folded(cell: str, size: int) -> list[str]:
    if width(cell) <= size:
        return [cell]
    import textwrap

    return textwrap.wrap(cell, size, break_on_hyphens=False)


def _numeric(cell: str) -> bool:
    """A number, perhaps with a unit; a version is none."""
    return re.fullmatch(r"-?\d+(\.\d+)?( ?[%A-Za-z/]{1,3})?", cell) is not None


def _pad(cell: str, size: int, to_right: bool) -> str:
    space = " " * (size - width(cell))
    return space + cell if to_right else cell + space


def pairs(rows: Iterable[tuple[str, object]], *, indent: int = 0) -> None:
    """`name  value` lines, values aligned; a value of None is unknown and printed as such."""
    kept = [(name, UNKNOWN if value is None or value == "" else clean(value)) for name, value in rows]
    size = max((width(name) for name, _ in kept), default=0)
    for name, value in kept:
        _write(f"{' ' * indent}{_pad(name, size, False)}  {value}\n")


def document(value: msgspec.Struct) -> None:
    """The one document of `--json`: indented for a person at a terminal, one line for a program."""
    import msgspec

    data = msgspec.json.encode(value)
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    _write(data.decode("utf-8") + "\n")


# --- units -----------------------------------------------------------------------------------------------------------------


def size(count: float | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return UNKNOWN


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.{digits}f}{unit}"


def instant(unix: float | None) -> str:
    """Local time with its offset: what stands on the technician's watch."""
    import time

    return UNKNOWN if not unix else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(unix))


def span(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    for unit, length, lower, lower_length in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // lower_length} {lower}"
    return f"{whole} s"


def yes(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "no"

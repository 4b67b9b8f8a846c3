"""The domain does no I/O: a test here fails when a fieldops frame opens a file, a socket, a process or a database.

The audit hook counts only events raised from fieldops' own frames: pytest, hypothesis and importlib open files as they please.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

WATCHED = (
    "open",
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "sqlite3.connect",
    "shutil.",
)
PACKAGE = str(Path(__file__).parents[2] / "fieldops")
_seen: list[str] = []
_armed = False


def _raised_by_us(frame: FrameType | None) -> bool:
    """Walks up to the first frame that is not importlib's: importing a module is not the domain's own I/O."""
    while frame is not None:
        name = frame.f_code.co_filename
        if "importlib" in name:
            return False
        if name.startswith(PACKAGE):
            return True
        if "site-packages" not in name and "/lib/python" not in name:
            return False
        frame = frame.f_back
    return False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _armed and event.startswith(WATCHED) and _raised_by_us(sys._getframe(1)):
        _seen.append(f"{event} {arguments!r:.120}")


sys.addaudithook(_hook)


@pytest.fixture(autouse=True)
def no_io() -> Iterator[list[str]]:
    global _armed  # noqa: PLW0603 - an audit hook cannot be removed, only disarmed
    _seen.clear()
    _armed = True
    yield _seen
    _armed = False
    assert not _seen, f"the domain did I/O: {_seen}"

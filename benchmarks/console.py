"""The console's first full frame on a terminal against an empty Textual app's, both through a pty."""

from __future__ import annotations

import compileall
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fieldops
from benchmarks import startup
from benchmarks.bars import Bar

ROWS, COLUMNS = 24, 80
LAST_ROW = b"\x1b[24;1H"  # the renderer writes row by row: this is the end of the first full frame
TURNS = 9
LONGEST_S = 20.0
EMPTY_APP = "from textual.app import App\nclass Empty(App[None]): pass\nEmpty().run()"


def first_paint(words: list[str]) -> float:
    """Seconds from the start of the process to the last row of its first frame. Raises TimeoutError."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**startup.environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    )
    os.close(theirs)
    seen = b""
    try:
        while LAST_ROW not in seen:
            left = LONGEST_S - (time.perf_counter() - start)
            if left <= 0 or not select.select([ours], [], [], left)[0]:
                raise TimeoutError(f"no full frame of {words} in {LONGEST_S} s")
            seen += os.read(ours, 65536)
        return time.perf_counter() - start
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(ours)


def bars() -> Iterator[Bar]:
    compileall.compile_dir(Path(fieldops.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory() as home:
        console, empty = ["-m", "fieldops", "--home", home], ["-c", EMPTY_APP]
        first_paint(empty)
        first_paint(console)
        times = [(first_paint(console), first_paint(empty)) for _ in range(TURNS)]
    yield Bar("console, first full frame", "empty Textual app", min(a for a, _ in times), min(b for _, b in times), 1.35)

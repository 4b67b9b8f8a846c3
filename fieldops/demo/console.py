"""The console on the sample fleet: `python -m fieldops.demo.console FD HOME`. It ends when the demo does, however that ends.

FD is a pipe from the demo. At its end the console is stopped and the terminal given back as it was, since a console that is
stopped from outside leaves it in raw mode on its own screen.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
from typing import Any

LOOK_S = 0.3
STOP_S = 3.0
# the main screen, a visible cursor, no mouse reports, no bracketed paste, plain keys, plain letters
BACK = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[<u\x1b[0m\r\n"


def stop(console: subprocess.Popen[bytes]) -> int:
    console.terminate()
    try:
        return console.wait(STOP_S)
    except subprocess.TimeoutExpired:
        console.kill()
        return console.wait()


def give_back(terminal: list[Any] | None) -> None:
    """terminal: as tcgetattr gave it before the console took it; None: there is none."""
    if terminal is None:
        return
    try:
        sys.stdout.write(BACK)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, terminal)
    except (OSError, termios.error):
        pass  # the demo was killed and the shell has the terminal again; it sets it up itself


def main() -> int:
    pipe, home = int(sys.argv[1]), sys.argv[2]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # the pipe's end is the sign, or the console's own; a handler, unlike SIG_IGN, is not inherited by the console
        signal.signal(number, lambda *_: None)
    terminal = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    console = subprocess.Popen([sys.executable, "-m", "fieldops", "--home", home])
    while console.poll() is None:
        ready, _, _ = select.select([pipe], [], [], LOOK_S)
        if ready and not os.read(pipe, 1):
            status = stop(console)
            give_back(terminal)
            return status
    return console.returncode


if __name__ == "__main__":
    sys.exit(main())

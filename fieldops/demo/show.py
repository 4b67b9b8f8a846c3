"""The three ways to run the sample fleet: under the console, without a screen until told to stop, or through the tour."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fieldops.deadline import CancelToken, Deadline
from fieldops.demo import plant
from fieldops.errors import UsageFault

START_S = 180.0  # for the whole plant, keys and release included
STORE_S = 30.0
NEEDED = ("asyncssh", "uvicorn", "starlette", "psutil")
STOPPED_AFTER_S = 10.0
LOOK_S = 0.3


def show(*, tour: bool, serve: bool, devices: int | None, folder: Path | None, json: bool) -> int:
    cameras = plant.cameras(devices if devices is not None else plant.DEFAULT)
    _check(tour=tour, serve=serve, count=len(cameras))
    from fieldops.demo.fleet import folder_for

    with _stoppable() as token, folder_for(folder) as place:
        deadline = Deadline.after(START_S, time.monotonic, token)
        if tour:
            return _tour(place, cameras, deadline, json=json)
        if serve:
            return _serve(place, cameras, deadline)
        return _console(place, cameras, deadline, kept=folder is not None)


def _check(*, tour: bool, serve: bool, count: int) -> None:
    """Raises UsageFault before anything is started."""
    if sys.platform == "win32":
        raise UsageFault(
            "the sample fleet runs on Linux and macOS: its devices speak over unix sockets",
            reason="platform",
            next_step="use WSL, or add real devices with `fieldops device add`",
        )
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageFault(
            f"the sample fleet needs {', '.join(missing)}",
            reason="not_installed",
            next_step="install it: pip install 'fieldops[demo]'",
        )
    if tour and serve:
        raise UsageFault("--tour and --serve exclude each other", next_step="give one of them")
    if tour and count < plant.DEFAULT:
        raise UsageFault(
            f"the tour needs all {plant.DEFAULT} conditions",
            reason="devices",
            next_step=f"give --devices {plant.DEFAULT} or more",
        )
    if not (tour or serve or sys.stdout.isatty()):
        raise UsageFault(
            "the console needs a terminal",
            reason="no_terminal",
            next_step="give --tour for the main job without a screen, or --serve to keep the fleet running",
        )


@contextmanager
def _stoppable() -> Iterator[CancelToken]:
    """SIGTERM and Ctrl+C ask everything to end in order; a second Ctrl+C ends at once (children see their pipe end)."""
    token = CancelToken()

    def asked(number: int, _frame: object) -> None:
        if token.cancelled and number == signal.SIGINT:
            os._exit(130)
        token.cancel()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield token
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _talk(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _export_line(home: Path) -> str:
    return f'export FIELDOPS_HOME="{home}"'


def _tour(folder: Path, cameras: tuple[plant.Camera, ...], deadline: Deadline, *, json: bool) -> int:
    from fieldops.demo.documents import TourDocument
    from fieldops.demo.fleet import running
    from fieldops.demo.report import reporting
    from fieldops.demo.tour import FAILED, walk

    with reporting(json=json) as report:
        began = time.monotonic()
        with running(folder, cameras, deadline, report.say) as fleet:
            report.say(f"{len(cameras)} devices in {time.monotonic() - began:.1f} s")
            results = walk(fleet, report, deadline.cancel)
        ok = all(result.ok for result in results)
        report.say(f"tour {'ok' if ok else 'FAILED'} in {time.monotonic() - began:.1f} s")
    if json:
        document = TourDocument(ok=ok, steps=list(results))
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
    return 0 if ok else FAILED


def _serve(folder: Path, cameras: tuple[plant.Camera, ...], deadline: Deadline) -> int:
    from fieldops.demo.fleet import bring_up_store, running

    token = deadline.cancel
    with running(folder, cameras, deadline, _talk) as fleet:
        bring_up_store(fleet, deadline.within(STORE_S))
        _talk(_export_line(fleet.home))
        sys.stdout.write(msgspec.json.encode(fleet.document()).decode() + "\n")
        sys.stdout.flush()
        while not token.wait(3600.0):
            pass
    return 0


def _console(folder: Path, cameras: tuple[plant.Camera, ...], deadline: Deadline, *, kept: bool) -> int:
    """The console is a child like the others, on this terminal; when it ends, so does the plant."""
    from fieldops.demo.fleet import running

    with running(folder, cameras, deadline, _talk) as fleet:
        if kept:
            sys.stdout.write(f"{_export_line(fleet.home)}\n")
            sys.stdout.flush()
        return _run_console(fleet.home, deadline.cancel)


def _run_console(home: Path, token: CancelToken) -> int:
    from fieldops.demo import children

    read, write = os.pipe()
    try:
        command = children.python("fieldops.demo.console", str(read), str(home))
        console = subprocess.Popen(command, env=children.environment(), pass_fds=(read,))
        os.close(read)
        while console.poll() is None and not token.wait(LOOK_S):
            pass
    finally:
        os.close(write)  # its sign to end, when it has not ended by itself
    try:
        return console.wait(STOPPED_AFTER_S)
    except subprocess.TimeoutExpired:
        console.kill()
        return console.wait()

"""How the tour is shown while it goes: a moving line on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from fieldops.demo.documents import StepResult


class Report(Protocol):
    def say(self, text: str) -> None:
        """What goes on before the first step."""

    def begin(self, step: str) -> None: ...

    def end(self, result: StepResult) -> None: ...


def line_of(result: StepResult) -> str:
    return f"{'ok    ' if result.ok else 'FAILED'} {result.id:<24} {result.seconds:6.1f} s  {result.detail}"


class PlainReport:
    """To stderr while JSON goes to stdout, else to stdout."""

    def __init__(self, *, talk_only: bool) -> None:
        self._stream = sys.stderr if talk_only else sys.stdout

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def begin(self, step: str) -> None:
        pass

    def end(self, result: StepResult) -> None:
        self.say(line_of(result))


class TerminalReport:
    """A spinner with the step under way below the finished ones."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._status = self._console.status("starting")
        self._status.start()

    def say(self, text: str) -> None:
        self._status.update(text)

    def begin(self, step: str) -> None:
        self._status.update(step)

    def end(self, result: StepResult) -> None:
        from rich.text import Text

        mark = Text("✓ " if result.ok else "✗ ", style="green" if result.ok else "bold red")
        self._console.print(mark, Text(f"{result.id:<24} {result.seconds:5.1f} s  {result.detail}"), sep="")

    def close(self) -> None:
        self._status.stop()


@contextmanager
def reporting(*, json: bool) -> Iterator[Report]:
    if json or not sys.stdout.isatty():
        yield PlainReport(talk_only=json)
        return
    report = TerminalReport()
    try:
        yield report
    finally:
        report.close()

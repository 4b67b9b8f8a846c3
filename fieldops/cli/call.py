"""One call of a verb: the laptop, the options every verb has, and work on several devices at once.

Ctrl+C asks the work to stop through its cancel token, so that each step ends where the device and the log agree; a second
one ends the program at once, and the next run settles what stayed open.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import typer
from msgspec import Struct

from fieldops.cli.diagnostics import CANCELLED, ask, at_terminal, report_all, tell
from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import Cancelled, FieldopsError, UsageFault, gravest
from fieldops.wiring import Laptop

if TYPE_CHECKING:  # at run time only where they are used: a light verb needs none of them
    from concurrent.futures import Future

    from fieldops.fleet import DeviceEntry
    from fieldops.ports import Device
    from fieldops.wire import ErrorDoc

T = TypeVar("T")

AT_ONCE = 16  # devices served in parallel; more would only share the laptop's link


def group() -> typer.Typer:
    """A verb with verbs of its own."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


def single() -> typer.Typer:
    """A verb that stands alone."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


class Outcome(Struct, Generic[T], frozen=True):
    """What came of one device: exactly one of value and error."""

    entry: DeviceEntry
    value: T | None = None
    error: FieldopsError | None = None

    @property
    def error_doc(self) -> ErrorDoc | None:
        if self.error is None:
            return None
        from fieldops.wire import error_doc

        return error_doc(self.error)


class Call:
    """Made at the start of a verb; `json` and `timeout` as given there."""

    def __init__(self, home: Path | None, *, json: bool = False, timeout: float = 30.0) -> None:
        self.laptop = Laptop.open(home)
        self.json = json
        self.timeout = timeout
        self.token = CancelToken()

    @classmethod
    def of(cls, context: typer.Context, *, json: bool = False, timeout: float = 30.0) -> Call:
        home: str | None = context.find_root().params.get("home")  # typer has not made a path of it here
        call = cls(Path(home) if home is not None else None, json=json, timeout=timeout)
        if at_terminal():
            call.laptop.ask = ask
        context.call_on_close(call.laptop.close)
        return call

    def deadline(self, seconds: float | None = None) -> Deadline:
        return self.laptop.deadline(self.timeout if seconds is None else seconds, self.token)

    def entries(self, wanted: Sequence[str] | None, *, everyone: bool = False) -> list[DeviceEntry]:
        """Of the inventory, in the order asked, each once. Raises UsageFault for an unknown one, and for none at all."""
        import fnmatch

        inventory = self.laptop.inventory()
        if everyone:
            return list(inventory.devices)
        found: dict[str, DeviceEntry] = {}
        for word in wanted or ():
            if any(char in word for char in "*?["):
                matching = [entry for entry in inventory.devices if fnmatch.fnmatchcase(entry.name, word)]
            else:
                matching = []
            for entry in matching or [inventory.find(word)]:
                found.setdefault(entry.name, entry)
        if not found:
            raise UsageFault("no device named", reason="usage", next_step="name one or several, or give --all")
        return list(found.values())

    def on_each(self, entries: Sequence[DeviceEntry], work: Callable[[Device, Deadline], T]) -> list[Outcome[T]]:
        """`work` with a connection to each device, in parallel; each has the whole timeout for itself."""

        def connected(entry: DeviceEntry) -> T:
            deadline = self.deadline()
            with self.laptop.connect(entry, deadline) as device:
                return work(device, deadline)

        return self.for_each(entries, connected)

    def for_each(self, entries: Sequence[DeviceEntry], work: Callable[[DeviceEntry], T]) -> list[Outcome[T]]:
        """In parallel, without a connection. An exception that is no FieldopsError rises: it is a bug."""
        from concurrent.futures import ThreadPoolExecutor

        with self.interruptible(), ThreadPoolExecutor(min(AT_ONCE, max(1, len(entries)))) as pool:
            futures = [pool.submit(work, entry) for entry in entries]
            self._await(futures)
        return [_outcome(entry, future) for entry, future in zip(entries, futures, strict=True)]

    def about(self, entry: DeviceEntry, work: Callable[[], T]) -> T:
        """Work on one device without a connection, stoppable by Ctrl+C; its error says which device."""
        (outcome,) = self.for_each([entry], lambda _: work())
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.value)

    def run(self, work: Callable[[], T]) -> T:
        """Work that is not about the inventory's devices, stoppable by Ctrl+C as well."""
        from concurrent.futures import ThreadPoolExecutor

        with self.interruptible(), ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            self._await([future])
        return future.result()

    @staticmethod
    def _await(futures: Sequence[Future[T]]) -> None:
        from concurrent.futures import wait

        # In slices: Windows delivers Ctrl+C only between waits.
        while wait(futures, timeout=0.25).not_done:
            pass

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        import signal

        def interrupted(_signal: int, _frame: FrameType | None) -> None:
            if self.token.cancelled:
                tell("ended; a change that was under way is recorded as unknown by the next run: see `fieldops audit list` then")
                os._exit(CANCELLED)
            self.token.cancel()
            tell("stopping; Ctrl+C again ends the program at once")

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def finish(self, outcomes: Sequence[Outcome[T]], codes: Sequence[int] = ()) -> int:
        """Errors of single devices on stderr (with --json they stand in the document); the gravest exit code of all."""
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if not self.json:
            report_all(errors)
        return gravest([*(error.exit_code for error in errors), *codes])


def only_failure(outcomes: Sequence[Outcome[T]]) -> None:
    """A verb asked of one device ends with that device's error, as if there were no others to speak of."""
    if len(outcomes) == 1 and outcomes[0].error is not None:
        raise outcomes[0].error


def _outcome(entry: DeviceEntry, future: Future[T]) -> Outcome[T]:
    try:
        return Outcome(entry, value=future.result())
    except Cancelled as error:
        return Outcome(entry, error=error.about(entry.name))
    except FieldopsError as error:
        return Outcome(entry, error=error.about(entry.name))

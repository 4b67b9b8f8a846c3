"""Work in threads beside the screen. Threads are daemons of our own: the event loop's executor would make quitting wait for
a device that does not answer. A job can be cancelled by its token; its progress is a value the screen looks at, never a
message a step.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fieldops.deadline import CancelToken
from fieldops.errors import Cancelled, FieldopsError

if TYPE_CHECKING:
    from fieldops.ports import Progress


T = TypeVar("T")


class Bug(FieldopsError):
    """An exception outside the tree of errors.py: the console goes on, says so, and keeps the stack for a report."""

    exit_code = 1

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"{type(error).__name__}: {error}",
            reason="bug",
            next_step="this is a bug: please report it (:messages has the stack)",
        )
        self.stack = "".join(traceback.format_exception(error))


@dataclass(slots=True)
class Job(Generic[T]):
    """title: for the strip above the key bar; "" keeps it off. changes: quitting asks while it runs."""

    title: str
    changes: bool = False
    cancel: CancelToken = field(default_factory=CancelToken)
    _progress: Progress | None = None

    @property
    def progress(self) -> Progress | None:
        return self._progress

    def report(self, progress: Progress) -> None:
        """Called by the worker; assignment of one reference needs no lock."""
        self._progress = progress


Done = Callable[[Any], None]


class Jobs:
    """deliver(callback, value) brings a result to the screen's thread."""

    def __init__(self, deliver: Callable[[Done, object], object]) -> None:
        self._deliver = deliver
        self._lock = threading.Lock()
        self._running: list[Job[Any]] = []

    @property
    def running(self) -> list[Job[Any]]:
        with self._lock:
            return list(self._running)

    def start(
        self, job: Job[T], work: Callable[[Job[T]], T], done: Callable[[T], None], failed: Callable[[FieldopsError], None]
    ) -> Job[T]:
        with self._lock:
            self._running.append(job)
        threading.Thread(target=self._run, args=(job, work, done, failed), name=f"job {job.title}", daemon=True).start()
        return job

    def cancel_all(self) -> None:
        for job in self.running:
            job.cancel.cancel()

    def _run(
        self, job: Job[T], work: Callable[[Job[T]], T], done: Callable[[T], None], failed: Callable[[FieldopsError], None]
    ) -> None:
        callback: Done = failed
        value: object
        try:
            value, callback = work(job), done
        except FieldopsError as error:
            value = error
        except Exception as error:  # noqa: BLE001 - the console's outermost boundary for workers
            value = Bug(error)
        finally:
            with self._lock:
                self._running.remove(job)
        if not (job.cancel.cancelled and isinstance(value, Cancelled) and job.title == ""):
            self._deliver(callback, value)

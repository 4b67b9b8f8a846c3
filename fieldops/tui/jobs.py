"""Work in threads beside the screen. Threads are daemons of our own: the event loop's executor would make quitting wait for
a device that does not answer. A job can be cancelled by its token; its progress is a value the screen looks at, never a
message a step.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
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
    """title: for the strip above the key bar; "" keeps it off. changes: quitting, and stopping it, ask while it runs.

    error: how it ended, when not well; ended: whether it is over.
    """

    title: str
    changes: bool = False
    cancel: CancelToken = field(default_factory=CancelToken)
    error: FieldopsError | None = None
    ended: bool = False
    _progress: Progress | None = None

    @property
    def state(self) -> str:
        """In a word for a list: running, STOPPING, done, CANCELLED or FAILED."""
        if not self.ended:
            return "STOPPING" if self.cancel.cancelled else "running"
        if self.error is None:
            return "done"
        return "CANCELLED" if isinstance(self.error, Cancelled) else "FAILED"

    @property
    def progress(self) -> Progress | None:
        return self._progress

    def report(self, progress: Progress) -> None:
        """Called by the worker; assignment of one reference needs no lock."""
        self._progress = progress


Done = Callable[[Any], None]
MOST_KEPT = 50  # ended jobs that the list still shows


class Jobs:
    """deliver(callback, value) brings a result to the screen's thread."""

    def __init__(self, deliver: Callable[[Done, object], object]) -> None:
        self._deliver = deliver
        self._lock = threading.Lock()
        self._running: list[Job[Any]] = []
        self._ended: deque[Job[Any]] = deque(maxlen=MOST_KEPT)

    @property
    def running(self) -> list[Job[Any]]:
        with self._lock:
            return list(self._running)

    @property
    def shown(self) -> list[Job[Any]]:
        """Those with a title that run, the newest last."""
        return [job for job in self.running if job.title]

    @property
    def newest_first(self) -> list[Job[Any]]:
        """All with a title: those that run, then those that ended."""
        with self._lock:
            return [job for job in reversed(self._running) if job.title] + list(reversed(self._ended))

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
            value = job.error = error
        except Exception as error:  # noqa: BLE001 - the console's outermost boundary for workers
            value = job.error = Bug(error)
        finally:
            with self._lock:
                job.ended = True
                self._running.remove(job)
                if job.title:
                    self._ended.append(job)
        if not (job.cancel.cancelled and isinstance(value, Cancelled) and job.title == ""):
            self._deliver(callback, value)

"""What only the person can say (a passphrase, a password, a device's question), asked for by any thread.

The thread waits; the console shows one question at a time. A question ends by an answer, by the person's cancel, which cancels
the job that asked, or when that job's own time is over. What is said is handed over once and kept nowhere.

Background reading never asks for a password: twenty silent logins must not become twenty dialogs. It says in its error that the
device wants one, and `log in` asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import Cancelled
from fieldops.ports import Question

KEY_S = 120.0  # a key's passphrase opens the way to all devices, so it may wait longer than the reading that met it
LOOK_S = 0.1


@dataclass(slots=True)
class Asked:
    """One question on its way to the person and back. deadline: of the job it is for."""

    question: Question
    deadline: Deadline
    said: str | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, said: str | None) -> None:
        """By the screen's thread. None: the person does not want to."""
        self.said = said
        self.over.set()

    @property
    def withdrawn(self) -> bool:
        """Nobody waits for the answer any more."""
        return self.over.is_set() or self.deadline.passed or self.deadline.cancel.cancelled


class Asker:
    """`ask` implements ports.Ask."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._show: Callable[[Asked], None] | None = None
        self._stopped = CancelToken()
        self._one = threading.Lock()
        self._lock = threading.Lock()
        self._for: dict[str, list[Deadline]] = {}  # by device: what the person is waiting for there
        self._mine = threading.local()

    def show_with(self, show: Callable[[Asked], None]) -> None:
        """show: brings a question to the screen, from any thread."""
        self._show = show

    def stop(self) -> None:
        """Every question is over; those who wait get no answer."""
        self._stopped.cancel()

    @contextmanager
    def waiting_for(self, device: str, deadline: Deadline) -> Iterator[None]:
        """Within it, the person stands by for this device and may be asked about it."""
        before: Deadline | None = getattr(self._mine, "deadline", None)
        self._mine.deadline = deadline
        with self._lock:
            self._for.setdefault(device, []).append(deadline)
        try:
            yield
        finally:
            self._mine.deadline = before
            with self._lock:
                self._for[device].remove(deadline)

    @contextmanager
    def by_itself(self) -> Iterator[None]:
        """Within it this thread only reads in the background: nobody is asked for a password because of it."""
        self._mine.background = True
        try:
            yield
        finally:
            self._mine.background = False

    def ask(self, question: Question) -> str | None:
        """None: nobody answered. Raises Cancelled when the person cancels what waits for it."""
        waited_for = self._waited_for(question)
        deadline = waited_for or self._by_itself(question)
        show = self._show
        if deadline is None or show is None:
            return None
        while not self._one.acquire(timeout=LOOK_S):
            if self._ended(deadline):
                return None
        try:
            asked = Asked(question, deadline)
            show(asked)
            while not asked.over.wait(LOOK_S):
                if self._ended(deadline):
                    return None
            said, asked.said = asked.said, None
        finally:
            self._one.release()
        if said is None and waited_for is not None:
            waited_for.cancel.cancel()
            if question.kind != "answer":  # that one is asked in the middle of a library's exchange
                raise Cancelled(device=question.device or None)
        return said

    def _waited_for(self, question: Question) -> Deadline | None:
        """Of what the person stands by for: on this thread, or for the device that asks (libraries ask on threads of their own)."""
        mine: Deadline | None = getattr(self._mine, "deadline", None)
        if mine is not None or getattr(self._mine, "background", False):
            return mine
        with self._lock:
            waiting = self._for.get(question.device, [])
            return max(waiting, key=lambda each: each.at) if waiting else None

    def _by_itself(self, question: Question) -> Deadline | None:
        """How long a question of background reading may stand; None: it is not asked at all."""
        return Deadline.after(KEY_S, self._monotonic) if question.kind == "passphrase" else None

    def _ended(self, deadline: Deadline) -> bool:
        return deadline.passed or deadline.cancel.cancelled or self._stopped.cancelled

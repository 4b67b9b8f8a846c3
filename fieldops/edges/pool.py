"""Links kept open between uses: one a host, shared by all who want it, closed when idle, and not asked for in vain.

A host is dialled by one thread at a time while others of the same host wait for it; no host waits for another. A link is handed
out again only while it is alive and what it was made on (files, pins, policy) is still the same. A host whose dialling took
long and failed is not dialled again for a while: the error is told at once instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from fieldops.deadline import Deadline
from fieldops.edges.dial import STEP_S
from fieldops.errors import LinkFault, Unreachable

IDLE_S = 30.0  # after which an unused link is closed: longer than the pauses between polls
COSTLY_S = 0.5  # a failure that came sooner costs nobody anything and is tried again at once
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class Kept(Protocol):
    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


K = TypeVar("K", bound=Kept)


@dataclass(slots=True)
class _Link(Generic[K]):
    kept: K
    basis: Hashable
    users: int = 0
    idle_since: float = 0.0
    doubted: bool = False


@dataclass(slots=True)
class _Host(Generic[K]):
    """dialling: held by the one thread that dials. link: the one handed out; those before it live until their users are done."""

    dialling: threading.Lock = field(default_factory=threading.Lock)
    link: _Link[K] | None = None
    failures: int = 0
    not_before: float = 0.0
    fault: Unreachable | None = None


class Pool(Generic[K]):
    """Safe for several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._hosts: dict[Hashable, _Host[K]] = {}
        self._closed = threading.Event()
        self._janitor: threading.Thread | None = None

    @contextmanager
    def borrow(self, host: Hashable, basis: Hashable, dial: Callable[[], K], deadline: Deadline) -> Iterator[K]:
        """A link to the host, dialled where none is kept. A LinkFault that rises out of the block ends the link's keeping."""
        with self._lock:
            at = self._hosts.setdefault(host, _Host())
        link = self._taken(at, basis) or self._dialled(at, basis, dial, deadline)
        try:
            yield link.kept
        except LinkFault:
            link.doubted = True
            raise
        finally:
            self._give_back(at, link)

    def close(self) -> None:
        """Ends all links that nobody uses; the others when they are given back."""
        self._closed.set()
        self._sweep(self._monotonic() + IDLE_S + 1)

    def _taken(self, at: _Host[K], basis: Hashable) -> _Link[K] | None:
        with self._lock:
            link = at.link
            if link is not None and (link.doubted or link.basis != basis or not link.kept.alive):
                at.link = None
                if link.users:
                    link = None
            elif link is not None:
                link.users += 1
                return link
        if link is not None:
            link.kept.close()
        return None

    def _dialled(self, at: _Host[K], basis: Hashable, dial: Callable[[], K], deadline: Deadline) -> _Link[K]:
        while not at.dialling.acquire(timeout=min(STEP_S, deadline.check("the connection"))):
            pass
        try:
            if (link := self._taken(at, basis)) is not None:
                return link
            began = self._monotonic()
            if at.fault is not None and began < at.not_before:
                raise Unreachable(
                    f"{at.fault.message} (tried just now; again in {at.not_before - began:.0f} s)",
                    phase=at.fault.phase,
                    next_step=at.fault.next_step,
                    device=at.fault.device,
                )
            try:
                kept = dial()
            except Unreachable as error:
                self._note_failure(at, error, began)
                raise
            at.failures, at.fault = 0, None
            link = _Link(kept, basis, users=1)
            with self._lock:
                at.link = link
            return link
        finally:
            at.dialling.release()

    def _note_failure(self, at: _Host[K], error: Unreachable, began: float) -> None:
        now = self._monotonic()
        if now - began < COSTLY_S:
            return
        at.fault = error
        at.not_before = now + BACK_OFF_S[min(at.failures, len(BACK_OFF_S) - 1)]
        at.failures += 1

    def _give_back(self, at: _Host[K], link: _Link[K]) -> None:
        with self._lock:
            link.users -= 1
            link.idle_since = self._monotonic()
            keep = at.link is link and not link.doubted and not self._closed.is_set()
            if not keep and at.link is link:
                at.link = None
            over = not keep and link.users == 0
            if keep and self._janitor is None:
                self._janitor = threading.Thread(target=self._tidy, name="fieldops-pool", daemon=True)
                self._janitor.start()
        if over:
            link.kept.close()

    def _tidy(self) -> None:
        while not self._closed.wait(IDLE_S / 4):
            self._sweep(self._monotonic())

    def _sweep(self, now: float) -> None:
        with self._lock:
            idle = [
                at.link
                for at in self._hosts.values()
                if at.link is not None and at.link.users == 0 and now - at.link.idle_since > IDLE_S
            ]
            for at in self._hosts.values():
                if at.link in idle:
                    at.link = None
        for link in idle:
            with suppress(LinkFault):
                link.kept.close()

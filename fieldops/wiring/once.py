"""Values made at first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar, cast, overload

T = TypeVar("T")


class Locked(Protocol):
    """What has such values, with the lock under which they are made."""

    @property
    def lock(self) -> threading.RLock: ...


class once(Generic[T]):  # noqa: N801 - used like property
    """A value made at first use, by one thread only (functools.cached_property lost its lock in Python 3.12)."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: Locked, kind: type) -> T: ...
    def __get__(self, owner: Locked | None, kind: type) -> Self | T:
        if owner is None:
            return self
        with owner.lock:
            values = owner.__dict__
            if self._name not in values:
                values[self._name] = self._make(owner)
            return cast("T", values[self._name])

    def forget(self, owner: Locked) -> T | None:
        """Take the value away, if it was made: the next use makes another."""
        with owner.lock:
            return cast("T | None", owner.__dict__.pop(self._name, None))

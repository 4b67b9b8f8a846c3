"""The central store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # ports are shapes: who implements or calls them brings the values
    from fieldops.deadline import Deadline
    from fieldops.wire import TelemetryPart, TelemetryReply


@dataclass(frozen=True, slots=True)
class Head:
    """What the store knows of a log. size 0: nothing yet. root: hex."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's cosignature over a checkpoint, given after its commit."""

    size: int
    root: str
    line: str
    accepted: int  # entries that were new
    duplicate: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which number of which telemetry ring of a device the laptop has everything that there was."""

    ring: str
    seq: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Telemetry that the store has not confirmed."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """id: key_id(public_key)."""

    id: str
    public_key: bytes


class Store(Protocol):
    """The central store. Raises StoreFault when away or refusing, CheckFailed (reason fork or gap) on disagreement."""

    def identity(self, deadline: Deadline) -> StoreIdentity: ...

    def head(self, log: str, deadline: Deadline) -> Head: ...

    def push(self, log: str, first: int, entries: Iterable[bytes], checkpoint: str, deadline: Deadline) -> Receipt: ...

    def bring(self, parts: list[TelemetryPart], deadline: Deadline) -> TelemetryReply:
        """Signed by this laptop for this store; the same again changes nothing."""

"""What the parts of a running agent share: who this device is, its folders, its registry, its models, its voice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fieldops.agent.config import AgentConfig
from fieldops.agent.current import show
from fieldops.agent.home import AgentHome
from fieldops.agent.identity import Identity
from fieldops.agent.models import Models
from fieldops.edges.registry import Change, Registry
from fieldops.edges.sensors import Sensors
from fieldops.errors import DeviceCannot
from fieldops.fleet import Hardware
from fieldops.policy import NO_POLICY, PolicyDocument, decode_policy
from fieldops.slots import RESTING, Slot
from fieldops.wire import Check, JournalEntry, StepRecord

T = TypeVar("T")
CALL_S = 600.0  # longest that the transaction waits for work on the event loop; a validation is the longest


class Bell:
    """Wakes everybody who waits on the event loop for news; may be rung from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._swap)

    def _swap(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def heard(self, within_s: float) -> bool:
        """False when nothing happened in that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class RecentLines(logging.Handler):
    """The newest lines of the agent's own log, for GET /v1/logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=2000)

    def emit(self, record: logging.LogRecord) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        self.lines.append(f"{stamp} {record.levelname.lower()} {record.getMessage()}")


@dataclass(slots=True, kw_only=True)
class Device:
    home: AgentHome
    config: AgentConfig
    identity: Identity
    registry: Registry
    models: Models
    sensors: Sensors
    boot_id: str
    loop: asyncio.AbstractEventLoop
    bell: Bell
    recent: RecentLines = field(default_factory=RecentLines)
    lan_port: int | None = None
    infer_port: int | None = None  # of loopback HTTP
    tls: ssl.SSLContext | None = None
    stopping: bool = False
    hardware: Hardware | None = None  # see agent/hardware.py
    behind: bool = False  # links in current/ could not be written
    _policy: tuple[bytes, PolicyDocument] = (b"", NO_POLICY)

    @property
    def actor(self) -> str:
        return f"device:{self.identity.id}"

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        """Seconds since this boot; goes on across restarts of the agent."""
        return time.monotonic()

    def trusted_now(self) -> float:
        """The clock, but never below what signed metadata proved."""
        return max(time.time(), self.clock_floor())

    def clock_floor(self) -> float:
        return float(self.registry.fact("clock_floor", "0"))

    def under_way(self) -> bool:
        """Is a step running, or a model between two of its resting states."""
        return any(slot.state not in RESTING for slot in self.registry.slots()) or bool(self.registry.running())

    def policy(self) -> PolicyDocument:
        """The device's own verified copy; NO_POLICY before the first RotateTrust."""
        try:
            data = self.home.policy.read_bytes()
        except FileNotFoundError:
            return NO_POLICY
        if data != self._policy[0]:
            self._policy = (data, decode_policy(data))
        return self._policy[1]

    def trust_certificate(self, pem: str) -> None:
        """Let this certificate finish the handshake on the LAN from now on; works on the live context."""
        if self.tls is not None and pem:
            self.tls.load_verify_locations(cadata=pem)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the event loop; for the transaction's thread only. Raises DeviceCannot (stopping)."""
        if self.stopping:
            work.close()
            raise _stopping()
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_S)
        except CancelledError as error:
            raise _stopping() from error

    def entry(self, actor: str, action: str, model: str, version: str, reason: str, detail: str = "") -> JournalEntry:
        logging.getLogger("fieldops.agent").info("%s %s %s %s by %s %s", action, model, version, reason, actor, detail)
        return JournalEntry(
            seq=0,
            time=self.now(),
            boot_id=self.boot_id,
            actor=actor,
            action=action,
            model=model,
            version=version,
            reason=reason,
            detail=detail,
        )

    def save(
        self,
        *,
        slot: Slot | None = None,
        checks: list[Check] | None = None,
        record: StepRecord | None = None,
        note: JournalEntry | None = None,
        also: list[Any] | None = None,
    ) -> None:
        """One durable commit of what belongs together, then news for who waits. also: callables taking the Change."""
        with self.registry.change() as change:
            write(change, slot, checks, record, note)
            for more in also or []:
                more(change)
        if slot is not None:
            self.show([slot])
        self.bell.ring()

    def show(self, slots: list[Slot]) -> None:
        """After the registry knows them."""
        if not show(self.home, self.registry, slots):
            self.behind = True


def _stopping() -> DeviceCannot:
    return DeviceCannot("the agent is stopping", reason="stopping", next_step="wait until it is back, then read the step")


def write(
    change: Change, slot: Slot | None, checks: list[Check] | None, record: StepRecord | None, note: JournalEntry | None
) -> None:
    if slot is not None:
        change.slot(slot, checks)
    if record is not None:
        change.record(record)
    if note is not None:
        change.note(note)

"""`Site` over a laptop's wiring: each call is one operation, imported when it is first asked for: after the first paint.

Links to devices are kept between readings. Reading a device asks over the link that stands; a link that failed is closed and made anew at the next reading. Changes use
a link of their own, so that polling never waits behind a sideload.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import LinkFault, StoreFault, TrustRefused, UsageFault
from fieldops.tui.snapshots import Key, key_of

if TYPE_CHECKING:
    from pathlib import Path

    from fieldops.audit.entry import Entry
    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.gate import Words
    from fieldops.operations.observe import Snapshot
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.operations.sideload import Planned, SideloadPlan
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.operations.trail import TrailReport
    from fieldops.policy import Decision
    from fieldops.ports import Candidate, Device, OnProgress, Source, TrustedBundle
    from fieldops.steps import Step
    from fieldops.wire import StepRecord
    from fieldops.wiring import Laptop


@dataclass(slots=True)
class _Kept:
    """A link that stays open; one reader at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    entry: DeviceEntry | None = None
    device: Device | None = None
    hold: ExitStack | None = None

    def drop(self) -> None:
        hold, self.hold, self.device = self.hold, None, None
        if hold is not None:
            hold.close()


class LaptopSite:
    """Implements tui.site.Site."""

    def __init__(self, laptop: Laptop) -> None:
        self._laptop = laptop
        self._lock = threading.Lock()
        self._kept: dict[Key, _Kept] = {}
        self._sources: dict[str, Source] = {}

    # --- time and who --------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._laptop.clock.now()

    def monotonic(self) -> float:
        return self._laptop.clock.monotonic()

    def deadline(self, seconds: float, cancel: CancelToken) -> Deadline:
        return self._laptop.deadline(seconds, cancel)

    def actor(self) -> str:
        return str(self._laptop.technician.actor())

    @property
    def inventory_place(self) -> str:
        return str(self._laptop.home / "fleet.toml")

    # --- looking ---------------------------------------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        return self._laptop.inventory()

    def snapshot(self, entry: DeviceEntry, deadline: Deadline) -> Snapshot:
        from fieldops.operations import observe

        return observe.snapshot(self._linked, entry, deadline, self.now)

    @contextmanager
    def _linked(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        with self._lock:
            kept = self._kept.setdefault(key_of(entry), _Kept())
        with kept.lock:
            if kept.entry != entry:  # its address changed in fleet.toml
                kept.drop()
            if kept.device is None:
                hold = ExitStack()
                kept.device = hold.enter_context(self._laptop.connect(entry, deadline))
                kept.hold, kept.entry = hold, entry
            try:
                yield kept.device
            except LinkFault:
                kept.drop()
                raise

    # --- sideload ----------------------------------------------------------------------------------------------------------------

    def candidates(self, deadline: Deadline) -> list[Candidate]:
        from fieldops.operations import sideload

        sources = self._laptop.media.find()
        self._sources = {source.name: source for source in sources}
        return sideload.candidates(self._laptop.trust, sources, deadline)

    def fetch(self, candidate: Candidate, deadline: Deadline, progress: OnProgress) -> TrustedBundle:
        from fieldops.operations import sideload

        source = self._sources.get(candidate.source)
        if source is None:
            raise TrustRefused(
                f"{candidate.source} is gone", reason="io_error", next_step="plug the stick in again, then press r"
            )
        laptop = self._laptop
        return sideload.fetch(
            laptop.gate(), laptop.trust, source, candidate.ref, deadline, channel=candidate.channel, progress=progress
        )

    def plan_sideload(self, entry: DeviceEntry, bundle: TrustedBundle, deadline: Deadline) -> SideloadPlan:
        from fieldops.operations import sideload

        with self._laptop.connect(entry, deadline) as device:
            return sideload.plan(self._laptop.trust, device, bundle, deadline)

    def apply(
        self, entry: DeviceEntry, plan: SideloadPlan, planned: Planned, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        from fieldops.operations import sideload

        with self._laptop.connect(entry, deadline) as device:
            one = replace(plan, steps=(planned,))
            return sideload.run(self._laptop.gate(), device, one, deadline, words=words, progress=progress)[0]

    def commit(self, entry: DeviceEntry, model: str, version: str, words: Words, deadline: Deadline) -> StepRecord:
        from fieldops.operations import sideload

        with self._laptop.connect(entry, deadline) as device:
            return sideload.commit(self._laptop.gate(), device, model, version, deadline, words=words)

    # --- rollback ------------------------------------------------------------------------------------------------------------------

    def plan_rollback(self, entry: DeviceEntry, model: str, to: str | None, deadline: Deadline) -> RollbackPlan:
        from fieldops.operations import rollback

        with self._laptop.connect(entry, deadline) as device:
            return rollback.plan(device, model, deadline, to=to)

    def rollback(
        self, entry: DeviceEntry, plan: RollbackPlan, words: Words, deadline: Deadline, progress: OnProgress
    ) -> StepRecord:
        from fieldops.operations import rollback

        with self._laptop.connect(entry, deadline) as device:
            return rollback.run(self._laptop.gate(), device, plan, deadline, words=words, progress=progress)

    def decide(self, step: Step) -> Decision:
        return self._laptop.gate().decide(step)

    # --- the log -------------------------------------------------------------------------------------------------------------------

    def trail(self, limit: int) -> list[Entry]:
        from fieldops.operations import trail

        return trail.listing(self._laptop.journal, -1, limit)[::-1]

    def sync_status(self) -> SyncStatus:
        from fieldops.operations import sync

        return sync.status(self._laptop.journal)

    def verify_trail(self, deadline: Deadline) -> TrailReport:
        from fieldops.operations import trail

        deadline.check("the log")
        return trail.verify(self._laptop.journal)

    def sync(self, deadline: Deadline, progress: OnProgress) -> SyncReport:
        from fieldops.operations import sync

        laptop = self._laptop
        store = laptop.store()
        with laptop.exclusive("sync"):
            return sync.push(laptop.journal, store, laptop.clock, deadline, progress)

    # --- the demo's store ------------------------------------------------------------------------------------------------------------

    @property
    def is_demo(self) -> bool:
        return self._control() is not None

    @property
    def _demo_file(self) -> Path:
        return self._laptop.home.parent / "demo.json"

    def _control(self) -> tuple[str, int] | None:
        """Where the demo that owns this home listens; None when there is none."""
        try:
            document = json.loads(self._demo_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        control = document.get("control") if isinstance(document, dict) else None
        host, colon, port = str(control or "").rpartition(":")
        return (host, int(port)) if colon and port.isdigit() else None

    def bring_up_store(self, deadline: Deadline) -> None:
        control = self._control()
        if control is None:
            raise UsageFault("this home belongs to no demo", reason="no_demo", next_step="start one with `fieldops demo`")
        try:
            with socket.create_connection(control, timeout=deadline.check("the demo")) as link:
                link.settimeout(deadline.check("the demo"))
                link.sendall(b"store up\n")
                answer = link.recv(4096).decode("utf-8", "replace").strip()
        except OSError as error:
            raise StoreFault(
                f"the demo does not answer: {error}", reason="unreachable", next_step="start `fieldops demo` again"
            ) from error
        if answer and not answer.lower().startswith(("ok", "{")):
            raise StoreFault(f"the demo says: {answer}", reason="refused", next_step="look at the demo's own output")

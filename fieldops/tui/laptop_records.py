"""The part of LaptopSite for the log and its way to the centre; and a demo's store."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from fieldops.deadline import Deadline
from fieldops.errors import StoreFault, UsageFault
from fieldops.tui.laptop_base import Base

if TYPE_CHECKING:
    from pathlib import Path

    from fieldops.audit.entry import Entry
    from fieldops.operations.sync import SyncReport, SyncStatus
    from fieldops.operations.trail import TrailReport
    from fieldops.ports import OnProgress


class Records(Base):
    """Implements site.Recording."""

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
            return sync.push(laptop.journal, store, laptop.clock, deadline, progress, shelf=laptop.telemetry)

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

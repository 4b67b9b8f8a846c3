"""What the parts of LaptopSite share: the laptop, and a link for which the person may be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.ports import Device
    from fieldops.tui.prompts import Asker
    from fieldops.wiring import Laptop


class Base:
    def __init__(self, laptop: Laptop, asker: Asker | None = None) -> None:
        self._laptop = laptop
        self._asker = asker

    def _standing_by(self, entry: DeviceEntry, deadline: Deadline) -> AbstractContextManager[None]:
        """Within it the person may be asked for passphrase and password, until the deadline."""
        return self._asker.waiting_for(entry.name, deadline) if self._asker is not None else nullcontext()

    @contextmanager
    def _connect(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        with self._standing_by(entry, deadline), self._laptop.connect(entry, deadline) as device:
            yield device

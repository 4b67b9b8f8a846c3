"""What the tour's steps share: the fleet, the laptop at it, waiting with a deadline, and saying what is not as claimed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fieldops.deadline import CancelToken, Deadline
from fieldops.demo.fleet import Count, Fleet
from fieldops.demo.release import MODEL
from fieldops.fleet import DeviceEntry
from fieldops.ports import Device, TrustedBundle
from fieldops.wire import SlotStatus
from fieldops.wiring import Laptop

T = TypeVar("T")

STEP_S = 60.0  # longest that one step may take
LOOK_AGAIN_S = 0.2


class NotSo(Exception):
    """A claim of the tour that does not hold."""


def check(holds: bool, claim: str) -> None:
    """Raises NotSo with the claim that does not hold."""
    if not holds:
        raise NotSo(claim)


@dataclass(slots=True)
class Scene:
    fleet: Fleet
    token: CancelToken
    bundle: TrustedBundle | None = None  # what stick-verify brought

    @property
    def laptop(self) -> Laptop:
        return self.fleet.laptop

    def deadline(self, seconds: float = STEP_S) -> Deadline:
        return self.laptop.deadline(seconds, self.token)

    def entry(self, name: str) -> DeviceEntry:
        return self.laptop.inventory().find(name)

    def device_of(self, condition: str) -> DeviceEntry:
        return self.entry(self.fleet.of_condition(condition))

    @contextmanager
    def at(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        with self.laptop.connect(entry, deadline) as device:
            yield device

    def slot(self, device: Device, deadline: Deadline) -> SlotStatus:
        for slot in device.models(deadline).slots:
            if slot.model == MODEL:
                return slot
        raise NotSo(f"{device.entry.name} has no {MODEL}")

    def count(self, name: str) -> Count:
        return self.fleet.counts(self.deadline(10))[name]

    def until(self, look: Callable[[], T | None], deadline: Deadline, what: str) -> T:
        """The first answer that is not None, looking again and again. Raises DeadlinePassed that names `what`."""
        while True:
            found = look()
            if found is not None:
                return found
            deadline.check(what)
            deadline.cancel.wait(LOOK_AGAIN_S)

    @contextmanager
    def answering(self, name: str, versions: set[str]) -> Iterator[None]:
        """Around a change: the device never failed a request meanwhile, answered some, and only with these versions."""
        before = self.count(name)
        yield
        deadline = self.deadline(15)
        after = self.until(lambda: self._more_than(name, before), deadline, f"{name} to answer the load generator")
        failed = after.failed - before.failed
        check(failed == 0, f"{name} failed {failed} requests: {after.last_error}")
        seen = {version for version, count in after.versions.items() if count > before.versions.get(version, 0)}
        check(seen <= versions, f"{name} answered with {', '.join(sorted(seen - versions))}")

    def _more_than(self, name: str, before: Count) -> Count | None:
        now = self.count(name)
        return now if now.ok > before.ok else None

    @contextmanager
    def other_laptop(self, folder: Path, keep: tuple[str, ...]) -> Iterator[Laptop]:
        """Another laptop's home in a fresh folder, with some of this one's files: for what must be refused."""
        for name in keep:
            source, target = self.fleet.home / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copyfile(source, target)
                target.chmod(0o600)
        with Laptop.open(folder) as laptop:
            yield laptop

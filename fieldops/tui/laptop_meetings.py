"""The part of LaptopSite for devices that are not known well yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.deadline import Deadline
from fieldops.tui.laptop_base import Base
from fieldops.tui.site import Enrolment

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.discover import Found
    from fieldops.operations.gate import Words
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.ports import OnProgress


class Meetings(Base):
    """Implements site.Meeting."""

    def log_in(self, entry: DeviceEntry, deadline: Deadline) -> None:
        self._laptop.links.ask_again()
        with self._connect(entry, deadline) as device:
            device.hello(deadline)

    def host_key(self, entry: DeviceEntry, expected: str | None, deadline: Deadline) -> OfferedKey:
        from fieldops.operations import hostkeys

        offered = self._laptop.links.host_key(entry, deadline)
        hostkeys.judge(entry, offered, expected=expected, replace=expected is None)
        return offered

    def trust_host_key(self, entry: DeviceEntry, offered: OfferedKey, words: Words) -> None:
        from fieldops.operations import hostkeys

        hostkeys.accept(self._laptop.gate(), self._laptop.inventory_file, entry, offered, words=words)

    def discover(self, deadline: Deadline) -> tuple[Found, ...]:
        return self._laptop.links.survey((), deadline).found

    def add_device(self, typed: Mapping[str, str], words: Words) -> DeviceEntry:
        from fieldops.operations import inventory

        entry = inventory.entry_of(typed["name"], typed["ssh"], typed["lan"], site=typed["site"], device_class=typed["class"])
        inventory.add(self._laptop.gate(), self._laptop.inventory_file, entry, words=words)
        return entry

    def enrol_steps(self, deadline: Deadline) -> list[str]:
        from fieldops.operations.intake import Intake

        deadline.check("the plan")
        return self._laptop.enrolment.steps(Intake())

    def enrol(
        self,
        entry: DeviceEntry,
        label: str,
        kit: str,
        words: Words,
        deadline: Deadline,
        progress: OnProgress,
        *,
        adopt: bool,
    ) -> Enrolment:
        from fieldops.operations.intake import Intake

        wanted = Intake(label=label, kit=Path(kit).expanduser() if kit else None, adopt=adopt)
        with self._standing_by(entry, deadline):
            made = self._laptop.enrolment.take_on(entry, wanted, deadline, words, progress=progress)
        return Enrolment(made.id, made.proof, made.unproved)

"""The part of LaptopSite for devices that are not known well yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.deadline import Deadline
from fieldops.errors import LinkFault
from fieldops.tui.laptop_base import Base
from fieldops.tui.site import Enrolment

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.discover import Found
    from fieldops.operations.gate import Words
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.ports import OnProgress

LISTEN_S = 3.0  # announcements come within a second or two; silence must not cost the visit


class Meetings(Base):
    """Implements site.Meeting."""

    def log_in(self, entry: DeviceEntry, deadline: Deadline) -> None:
        self._laptop.links.ask_again()
        with self._connect(entry, deadline) as device:
            device.hello(deadline)

    def host_key(self, entry: DeviceEntry, deadline: Deadline) -> OfferedKey:
        return self._laptop.links.host_key(entry, deadline)

    def trust_host_key(self, entry: DeviceEntry, offered: OfferedKey, words: Words) -> None:
        from fieldops.operations import hostkeys

        hostkeys.accept(self._laptop.gate(), self._laptop.inventory_file, entry, offered, words=words)

    def discover(self, deadline: Deadline) -> tuple[Found, ...]:
        links, hints = self._laptop.links, []
        try:
            hints += links.heard(deadline.within(LISTEN_S))
        except LinkFault:  # a laptop without any network has a cable and its list
            deadline.check("discovery")
        hints += links.neighbours(deadline.within(LISTEN_S))
        return links.discover(hints, deadline)

    def add_device(self, typed: Mapping[str, str], words: Words) -> DeviceEntry:
        from fieldops.operations import inventory

        entry = inventory.entry_of(typed["name"], typed["ssh"], typed["lan"], site=typed["site"], device_class=typed["class"])
        inventory.add(self._laptop.gate(), self._laptop.inventory_file, entry, words=words)
        return entry

    def enrol_steps(self, deadline: Deadline) -> list[str]:
        from fieldops.operations import enrol
        from fieldops.steps import describe

        deadline.check("the plan")
        laptop = self._laptop
        return [describe(step) for step in enrol.plan(laptop.gate(), laptop.trust, laptop.certificate)]

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
        enrolment = self._laptop.enrolment
        with self._standing_by(entry, deadline):
            if not kit:
                hello = enrolment.enrol(entry, deadline, words, label=label, adopt=adopt, progress=progress)
                return Enrolment(hello.device)
            folder = Path(kit).expanduser().absolute()
            made = enrolment.install(entry, folder, deadline, words, label=label, adopt=adopt, progress=progress)
            return Enrolment(made.hello.device, made.proof, made.unproved)

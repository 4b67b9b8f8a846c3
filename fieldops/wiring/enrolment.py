"""Taking a device on, with or without its agent, and letting it go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.errors import DeviceCannot, LinkFault
from fieldops.wiring.links import Links

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.edges.installing import InstallingDevice, Wishes
    from fieldops.edges.kit import KitFolder
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.gate import Words
    from fieldops.operations.intake import Intake, TakenOn
    from fieldops.ports import Device, OnProgress
    from fieldops.wire import Hello, StepRecord


@dataclass(frozen=True, slots=True)
class Installed:
    """A device after its agent came from a kit. proof "": it was not seen to come back by itself, and unproved says why."""

    hello: Hello
    proof: str
    unproved: str


class Enrolment:
    def __init__(self, links: Links) -> None:
        self.links = links
        self.desk = links.desk

    def enrol(
        self,
        entry: DeviceEntry,
        deadline: Deadline,
        words: Words,
        *,
        label: str = "",
        adopt: bool = False,
        progress: OnProgress | None = None,
    ) -> Hello:
        """Over SSH only: a LAN pin is what this makes. Returns the device's hello after it."""
        device = self.links.over_ssh(entry, deadline)
        try:
            self._know_witness(device.hello(deadline))
            return self._enrolled(device, deadline, words, label=label, adopt=adopt, progress=progress)
        finally:
            device.close()

    def install(
        self,
        entry: DeviceEntry,
        kit: Path,
        deadline: Deadline,
        words: Words,
        *,
        label: str = "",
        lan: str = "",
        foreign: tuple[str, str] | None = None,
        adopt: bool = False,
        sudo: bool = False,
        progress: OnProgress | None = None,
    ) -> Installed:
        """Push the kit, install, enrol, prove. Raises UsageFault for a kit that is not as it was built."""
        from fieldops.edges.installing import Wishes
        from fieldops.edges.kit import read

        wishes = Wishes(device_class=entry.device_class, label=entry.site, lan=lan, foreign=foreign, sudo=sudo)
        device = self._installing(entry, read(kit), wishes)
        try:
            self._know_witness(device.hello(deadline))
            hello = self._enrolled(device, deadline, words, label=label, adopt=adopt, progress=progress, installs=True)
            return Installed(hello, device.proof, device.unproved)
        except (DeviceCannot, LinkFault) as error:
            if not device.unproved:
                raise
            # Its agent is gone, so what comes after the proof fails as well, and says less.
            raise DeviceCannot(
                f"enrolled, and NOT PROVED that its agent comes back: {device.unproved}; then: {error.message}",
                reason="not_proved",
                next_step="see `When it fails` in docs/links.md, then enrol again; until then it puts nothing on trial",
                device=entry.name,
            ) from error
        finally:
            device.close()

    def steps(self, wanted: Intake) -> list[str]:
        """What is going to happen, in words. Raises UsageFault for a kit or a root that is not there."""
        from fieldops.edges.kit import read
        from fieldops.operations import enrol, intake

        desk = self.desk
        kit = read(wanted.kit.absolute()).kit if wanted.kit is not None else None
        return intake.in_words(wanted, kit, enrol.plan(desk.gate(), desk.trust, desk.certificate, label=wanted.label))

    def take_on(
        self, entry: DeviceEntry, wanted: Intake, deadline: Deadline, words: Words, *, progress: OnProgress | None = None
    ) -> TakenOn:
        from fieldops.operations.intake import TakenOn

        if wanted.expected:
            self.links.trust_expected(entry, wanted.expected, deadline, words)
        if wanted.kit is None:
            hello = self.enrol(entry, deadline, words, label=wanted.label, adopt=wanted.adopt, progress=progress)
            return TakenOn(hello.device)
        made = self.install(
            entry,
            wanted.kit.absolute(),
            deadline,
            words,
            label=wanted.label,
            lan=wanted.lan,
            foreign=wanted.foreign,
            adopt=wanted.adopt,
            sudo=wanted.sudo,
            progress=progress,
        )
        return TakenOn(made.hello.device, made.proof, made.unproved)

    def remove_agent(
        self, entry: DeviceEntry, deadline: Deadline, words: Words, *, progress: OnProgress | None = None
    ) -> StepRecord:
        """Unenrol, then take the agent's software and folder away."""
        from fieldops.edges.installing import Wishes
        from fieldops.operations.enrol import unenrol

        desk = self.desk
        device = self._installing(entry, None, Wishes())
        try:
            return unenrol(desk.gate(), device, desk.inventory_file, desk.pins.drop, deadline, words, progress=progress)
        finally:
            device.close()

    def _enrolled(
        self,
        device: Device,
        deadline: Deadline,
        words: Words,
        *,
        label: str,
        adopt: bool,
        progress: OnProgress | None,
        installs: bool = False,
    ) -> Hello:
        from fieldops.operations import enrol as operation

        desk = self.desk
        gate = desk.gate()
        hello = operation.enrol(
            gate,
            device,
            desk.inventory_file,
            desk.trust,
            desk.certificate,
            desk.pins.save,
            deadline,
            words,
            label=label,
            installs=installs,
            progress=progress,
        )
        if adopt:
            operation.adopt(gate, device, deadline, words, progress=progress)
        return hello

    def _installing(self, entry: DeviceEntry, kit: KitFolder | None, wishes: Wishes) -> InstallingDevice:
        from fieldops.edges.installing import InstallingDevice

        return InstallingDevice(
            entry,
            lambda deadline: self.links.login(entry, deadline),
            lambda deadline: self.links.over_ssh(entry, deadline, meet=False),
            self._know_witness,
            kit,
            wishes,
            self.links.sudo_password(entry),
        )

    def _know_witness(self, hello: Hello) -> None:
        """Before the device first cosigns the log: without its key nobody could tell later what it has seen."""
        from fieldops.wire import unb64

        if hello.versions != (0, 0):  # a bare device signs nothing
            self.desk.journal.know_witness(f"device:{hello.device}", unb64(hello.public_key))

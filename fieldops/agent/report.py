"""What the device tells of itself: who it is, its hardware, its models, what it counted, what it trusts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from fieldops import __version__
from fieldops.agent.arming import shown
from fieldops.agent.device import Device
from fieldops.agent.health import Health
from fieldops.agent.lease import Lease
from fieldops.agent.newcomer import own_name
from fieldops.agent.shelf import Shelf
from fieldops.edges.registry import Installed
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import UsageFault
from fieldops.fleet import Resources, Serving
from fieldops.slots import Slot
from fieldops.wire import (
    SUPPORTED,
    DriftReports,
    Hello,
    ModelsReport,
    SlotStatus,
    TrustStatus,
    VersionInfo,
    b64,
)

Role = Literal["active", "last_good", "candidate", "stored", "quarantined"]


@dataclass(frozen=True, slots=True)
class Report:
    device: Device
    health: Health
    lease: Lease
    telemetry: Telemetry

    @property
    def set_aside(self) -> int:
        """Telemetry files that were found damaged."""
        return self.telemetry.set_aside

    def hello(self) -> Hello:
        device = self.device
        return Hello(
            device=device.identity.id,
            public_key=b64(device.identity.public_key),
            versions=SUPPORTED,
            agent=__version__,
            enrolled=bool(device.registry.laptops()),
            boot_id=device.boot_id,
            time=device.now(),
            device_class=device.config.device_class,
            label=device.config.label,
            lan_certificate=device.identity.certificate if device.lan_port is not None else "",
            lan_port=device.lan_port,
            software=own_name(),
        )

    def serving(self) -> list[Serving]:
        registry, now = self.device.registry, self.device.loop.time()
        rows: list[Serving] = []
        for served in self.device.models.all():
            baseline = registry.baseline(served.model, served.version)
            rows.append(served.figures.serving(served.model, served.version, now, baseline.served_p50_ms if baseline else None))
        return rows

    def resources(self) -> Resources:
        used = Shelf(self.device.home).used_bytes()
        return replace(self.device.sensors.read(used), hardware=self.device.hardware, serving=self.serving())

    def models(self) -> ModelsReport:
        held = self.lease.held()
        return ModelsReport(
            read_at=self.device.now(),
            slots=[self._slot(slot) for slot in self.device.registry.slots()],
            lease_holder=held[0] if held else None,
            lease_s=held[1] if held else None,
        )

    def _slot(self, slot: Slot) -> SlotStatus:
        registry, device = self.device.registry, self.device
        bad = registry.quarantined()
        left = max(0.0, slot.trial.deadline - device.monotonic()) if slot.trial and slot.state == "trial" else None
        armed = shown(registry, slot)
        return SlotStatus(
            model=slot.model,
            task=slot.task,
            state=slot.state,
            active=slot.active,
            last_good=slot.last_good,
            candidate=slot.candidate,
            floor=slot.floor,
            deadline_s=left,
            armed_from=armed[0],
            armed_until=armed[1],
            reason=slot.reason,
            since=slot.since,
            versions=[
                VersionInfo(
                    version=version.version,
                    counter=version.counter,
                    manifest_sha256=version.manifest_sha256,
                    size_bytes=version.size_bytes,
                    role=_role(slot, version, bad),
                    signed_by=version.channel,
                )
                for version in registry.versions(slot.model)
            ],
            checks=registry.checks(slot.model),
        )

    def trust(self) -> TrustStatus:
        registry = self.device.registry
        return TrustStatus(
            root_version=int(registry.fact("root_version", "0")),
            timestamp_version=int(registry.fact("timestamp_version", "0")),
            policy_sha256=registry.fact("policy_sha256"),
            laptops=[laptop.id for laptop in registry.laptops()],
            clock_floor=self.device.clock_floor(),
        )

    async def drift(self, model: str | None) -> DriftReports:
        """Counts up to now: what the workers hold is taken in first. Raises UsageFault (unknown_model)."""
        served = self.device.models.get(model) if model is not None else None
        if model is not None and served is None:
            names = ", ".join(place.model for place in self.device.models.all()) or "none"
            raise UsageFault(f"no model {model!r} here", reason="unknown_model", next_step=f"use one of: {names}")
        chosen = [served] if served is not None else self.device.models.all()
        reports = [await self.health.drift(place) for place in chosen]
        return DriftReports(read_at=self.device.now(), models=reports)


def _role(slot: Slot, version: Installed, bad: dict[str, str]) -> Role:
    if version.version == slot.active:
        return "active"
    if version.version == slot.candidate:
        return "candidate"
    if version.manifest_sha256 in bad:
        return "quarantined"
    return "last_good" if version.version == slot.last_good else "stored"

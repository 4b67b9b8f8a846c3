"""The ring of records: what each model did in each stretch of time, written whether or not anybody ever comes to read it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from fieldops.agent.device import Device
from fieldops.agent.serving import Served
from fieldops.drift.sketch import Window, packed
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import DeviceCannot
from fieldops.wire import TelemetryPage, TelemetryRecord, encode

_FEATURES = ("routes", "rested", "latency", "drift", "bins")


@dataclass(slots=True)
class _Totals:
    """What was told already. A version's figures go on counting, so records hold the differences."""

    at: float
    requests: int = 0
    failed: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)


class Recorder:
    """Lives on the event loop."""

    def __init__(self, device: Device, telemetry: Telemetry) -> None:
        self._device = device
        self._telemetry = telemetry
        self._told: dict[str, _Totals] = {}
        self._started = device.monotonic()

    async def run(self) -> None:
        """Until cancelled; what was counted since the last record is then written as one more."""
        await asyncio.to_thread(self._tell_troubles)
        for served in self._device.models.all():
            self._told[served.model] = _Totals(self._device.now())
        try:
            while True:
                await asyncio.sleep(self._device.config.telemetry_s)
                await asyncio.to_thread(self._write)
                await asyncio.to_thread(self._tell_troubles)
        finally:
            self._write()

    def _write(self) -> None:
        for served in self._device.models.all():
            self._telemetry.record(self._since_told(served))

    def _tell_troubles(self) -> None:
        """Into the log, and into the journal, which the next laptop copies."""
        for trouble in self._telemetry.troubles():
            note = self._device.entry(self._device.actor, "telemetry_damaged", "", "", "damaged", trouble)
            with contextlib.suppress(DeviceCannot):  # a full disk costs the entry, never the agent
                self._device.save(note=note)

    def _since_told(self, served: Served) -> TelemetryRecord:
        device, figures = self._device, served.figures
        before = self._told.get(served.model) or _Totals(self._device.now())
        now = _Totals(
            device.now(),
            figures.requests,
            figures.failed,
            {"routes": Counter(figures.routes), "rested": Counter(figures.rested), "latency": Counter(figures.latency)},
        )
        slot, heat, supply = device.registry.slot(served.model), device.sensors.heat(), device.sensors.supply()
        counted = self._telemetry.counted(served.model, served.version)
        self._told[served.model] = now
        grown = {name: dict(counts - before.counts.get(name, Counter())) for name, counts in now.counts.items()}
        return TelemetryRecord(
            seq=0,
            started=before.at,
            ended=now.at,
            boot_id=device.boot_id,
            uptime_s=device.monotonic() - self._started,
            model=served.model,
            version=served.version,
            state=slot.state if slot else "idle",
            requests=now.requests - before.requests,
            failed=now.failed - before.failed,
            routes=grown["routes"],
            rested=grown["rested"],
            latency=grown["latency"],
            drift=_strays(counted) if counted else {},
            counted=counted.n if counted else 0,
            bins=packed(counted).counts if counted else {},
            soc_temp_c=heat.soc_temp_c,
            throttled=heat.throttled,
            battery_pct=supply.pct,
        )

    def page(self, after: int, name: str | None = None) -> TelemetryPage:
        """name: of the ring that `after` counts in. Blocking."""
        ring = self._telemetry.records(after, name)
        sizes = {feature: sum(len(encode(getattr(each, feature))) for each in ring.records) for feature in _FEATURES}
        sizes["other"] = sum(len(msgspec.json.encode(each)) for each in ring.records) - sum(sizes.values())
        return TelemetryPage(
            records=ring.records,
            newest=ring.newest,
            lost=ring.lost,
            sizes=sizes,
            ring=ring.name,
            set_aside=self._telemetry.set_aside,
        )


def _strays(window: Window) -> dict[str, int]:
    """Values under, over or no number, by feature."""
    return {name: cells[0] + sum(cells[-2:]) for name, cells in window.counts.items()}

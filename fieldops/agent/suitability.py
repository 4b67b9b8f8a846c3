"""The device's side of the prechecks: what it measures of itself just before a version comes, or goes on trial."""

from __future__ import annotations

import time
from dataclasses import replace

from fieldops.agent.device import Device
from fieldops.agent.hardware import look
from fieldops.bench import median
from fieldops.bundles.manifest import Manifest
from fieldops.bundles.prechecks import WORKER_BYTES, Condition, Shortfall, refusal, shortfalls, trial_shortfalls, worker_needs
from fieldops.slots import Slot

IDLE_S = 0.5
READINGS = 5
IDLE_FACT = "idle_w"  # of the device when it was last measured; what a budget above idle counts from


def check_plan(device: Device, manifest: Manifest, slot: Slot | None) -> None:
    """Before the first byte of payload. Raises DeviceCannot with everything that is in the way."""
    hardware, now = look(device), _now(device, slot)
    if hardware is not None:
        now = replace(now, isa=frozenset(hardware.isa), opset=hardware.opset, providers=tuple(hardware.providers))
    error = refusal(manifest, shortfalls(manifest, now))
    if error is not None:
        raise error


def check_trial(device: Device, manifest: Manifest, slot: Slot | None) -> None:
    """Again as the trial begins: hours may lie between. Raises DeviceCannot (memory, thermal, battery)."""
    error = refusal(manifest, trial_obstacles(device, manifest, slot))
    if error is not None:
        raise error


def check_heat(device: Device, manifest: Manifest) -> None:
    """In the middle of the checks: what they heated up must still keep the margin. Raises DeviceCannot (thermal)."""
    heat = device.sensors.heat()
    now = Condition(throttled=heat.throttled, soc_temp_c=heat.soc_temp_c, temp_limit_c=heat.limit_c)
    error = refusal(manifest, trial_shortfalls(manifest, now))
    if error is not None:
        raise error


def idle_power(device: Device, manifest: Manifest | None) -> float | None:
    """Watts of the device before a version is tried; only where its manifest states a budget. Blocking, IDLE_S."""
    if manifest is None or manifest.objectives.power_w is None or device.sensors.power() is None:
        return None
    seen: list[float] = []
    for _ in range(READINGS):
        watts = device.sensors.power()
        seen += [watts] if watts is not None else []
        time.sleep(IDLE_S / READINGS)
    return median(seen) if seen else None


def trial_obstacles(device: Device, manifest: Manifest, slot: Slot | None) -> tuple[Shortfall, ...]:
    """What forbids a trial at this moment, and may pass."""
    return trial_shortfalls(manifest, _now(device, slot))


def _now(device: Device, slot: Slot | None) -> Condition:
    total, available = device.sensors.memory()
    heat, supply = device.sensors.heat(), device.sensors.supply()
    served = device.models.get(slot.model) if slot else None
    return Condition(
        ram_bytes=total,
        ram_available_bytes=available,
        ram_freed_bytes=WORKER_BYTES if served is not None and served.ready else 0,
        throttled=heat.throttled,
        soc_temp_c=heat.soc_temp_c,
        temp_limit_c=heat.limit_c,
        on_battery=supply.on_battery,
        battery_pct=supply.pct,
    )


def needs_way(device: Device, manifest: Manifest | None) -> bool:
    """Must the worker in service end before the candidate's can start, since memory does not hold both."""
    if device.config.unload_first or manifest is None:
        return device.config.unload_first
    return device.sensors.memory()[1] < worker_needs(manifest)

"""What the device can afford right now: its sensors against what was signed for the version, and this device's own settings."""

from __future__ import annotations

from fieldops.agent.device import Device
from fieldops.agent.settings import settings_of
from fieldops.agent.suitability import IDLE_FACT
from fieldops.bundles.manifest import Objectives
from fieldops.tiers import Allowance


def affordable(device: Device, model: str) -> Allowance:
    """Blocking; a few files under /sys. The queue is counted where requests come in."""
    settings, heat, supply = settings_of(device.registry, model), device.sensors.heat(), device.sensors.supply()
    promised = _objectives(device, model)
    margin = (promised.thermal_margin_c or 0.0) if promised else 0.0
    limits = [heat.limit_c - margin if heat.limit_c is not None else None, settings.hottest_c]
    budgets = [_budget(device, promised), settings.power_w]
    return Allowance(
        throttled=heat.throttled,
        soc_temp_c=heat.soc_temp_c,
        temp_limit_c=_least(limits),
        queue_limit=settings.queue,
        forbidden=settings.large == "never",
        on_battery=supply.on_battery,
        battery_pct=supply.pct,
        battery_limit_pct=settings.battery_pct,
        power_w=device.sensors.power() if _least(budgets) is not None else None,
        power_limit_w=_least(budgets),
    )


def _objectives(device: Device, model: str) -> Objectives | None:
    """Of the version in service."""
    served = device.models.get(model)
    installed = device.registry.version(model, served.version) if served is not None else None
    return installed.manifest.objectives if installed is not None and installed.manifest is not None else None


def _budget(device: Device, promised: Objectives | None) -> float | None:
    """Watts of the whole device; None: none was signed, or nobody knows what it takes idle."""
    idle = device.registry.fact(IDLE_FACT)
    return float(idle) + promised.power_w if idle and promised is not None and promised.power_w is not None else None


def _least(limits: list[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)

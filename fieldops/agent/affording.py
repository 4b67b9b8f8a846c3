"""What the device can afford right now, from its sensors and the settings of the model's tiers."""

from __future__ import annotations

from fieldops.agent.device import Device
from fieldops.agent.settings import settings_of
from fieldops.tiers import Allowance


def affordable(device: Device, model: str) -> Allowance:
    """Blocking; a few files under /sys. The queue is counted where requests come in."""
    settings, heat, supply = settings_of(device.registry, model), device.sensors.heat(), device.sensors.supply()
    limits = [limit for limit in (heat.limit_c, settings.hottest_c) if limit is not None]
    return Allowance(
        throttled=heat.throttled,
        soc_temp_c=heat.soc_temp_c,
        temp_limit_c=min(limits, default=None),
        queue_limit=settings.queue,
        forbidden=settings.large == "never",
        on_battery=supply.on_battery,
        battery_pct=supply.pct,
        battery_limit_pct=settings.battery_pct,
        power_w=device.sensors.power() if settings.power_w is not None else None,
        power_limit_w=settings.power_w,
    )

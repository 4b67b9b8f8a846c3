"""What a manifest promises of power and speed against what a device measured while it tried the version. Pure.

None means "not measurable here": such a promise is not judged, and the check says so. Latency and memory have ceilings of
their own; the figures of a device's class are shown beside its own and decide nothing, since they were taken elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from fieldops.bench import median
from fieldops.bundles.manifest import Manifest
from fieldops.wire import BenchBaseline, Check

ODD = 3.0  # times the median of its class: no release means that, so it is the device that is odd


def power_check(manifest: Manifest, idle_w: float | None, busy_w: Sequence[float]) -> Check | None:
    """busy_w: of the whole device, while the candidate answered. None: the manifest states no budget."""
    budget = manifest.objectives.power_w
    if budget is None:
        return None
    limit = f"{budget:g} W above idle"
    if idle_w is None or not busy_w:
        return Check(name="power", ok=True, measured="not measured: no power sensor here", limit=limit)
    more = max(0.0, median(busy_w) - idle_w)
    return Check(name="power", ok=more <= budget, measured=f"{more:.2f} W above idle ({idle_w:.2f} W)", limit=limit)


def beside_class(manifest: Manifest, device_class: str, p50_ms: float) -> str:
    """For the note of the latency check; "" where the release states no figures of this class."""
    base = manifest.baseline.get(device_class)
    if base is None:
        return ""
    told = f"class {device_class} at release: p50 {base.p50_ms:.2f} ms, p95 {base.p95_ms:.2f} ms"
    if p50_ms > ODD * base.p50_ms:
        told += f": {p50_ms / base.p50_ms:.1f} times that here, look at clock and heat of this device"
    return told


def class_baseline(manifest: Manifest | None, device_class: str) -> BenchBaseline | None:
    """What a device without a baseline of its own is shown beside."""
    base = manifest.baseline.get(device_class) if manifest is not None else None
    if manifest is None or base is None:
        return None
    return BenchBaseline(
        version=manifest.version, p50_ms=base.p50_ms, p90_ms=None, kernel_ms=0.0, measured=0.0, device_class=device_class
    )

"""Can this device run this bundle? Pure: the manifest's needs against what the device measured of itself."""

from __future__ import annotations

from dataclasses import dataclass

from fieldops.bundles.manifest import Manifest
from fieldops.errors import DeviceCannot, FieldopsError, TrustRefused


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """None: not known here, therefore not judged (the worker that loads the model finds out)."""

    device_class: str
    machine: str
    ram_bytes: int | None = None
    disk_free_bytes: int | None = None
    opset: int | None = None  # highest that the installed runtime understands
    providers: tuple[str, ...] | None = None


def misfit(manifest: Manifest, facts: DeviceFacts) -> FieldopsError | None:
    """Why the bundle cannot run here: TrustRefused (wrong_device) or DeviceCannot (ram, disk, opset, provider). None: it fits."""
    needs = manifest.needs
    name = f"{manifest.model}@{manifest.version}"
    for wanted, got in ((needs.device_classes, facts.device_class), (needs.machines, facts.machine)):
        if wanted and got not in wanted:
            return TrustRefused(
                f"{name} is for {', '.join(wanted)}; this device is {got!r}",
                reason="wrong_device",
                next_step="choose a bundle made for this class of device",
            )
    if facts.ram_bytes is not None and facts.ram_bytes < needs.ram_bytes:
        return _cannot("ram", f"{name} needs {needs.ram_bytes} bytes of memory; there are {facts.ram_bytes}")
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < needs.disk_bytes:
        return _cannot("disk", f"{name} needs {needs.disk_bytes} bytes of disk; {facts.disk_free_bytes} are free")
    if facts.opset is not None and facts.opset < needs.opset:
        return _cannot("opset", f"{name} needs opset {needs.opset}; the runtime here knows {facts.opset}")
    if needs.providers and facts.providers is not None and not set(needs.providers) & set(facts.providers):
        return _cannot("provider", f"{name} needs one of {', '.join(needs.providers)}; here is {', '.join(facts.providers)}")
    return None


def _cannot(reason: str, message: str) -> DeviceCannot:
    return DeviceCannot(message, reason=reason, next_step="choose a smaller bundle, or free or upgrade the device")

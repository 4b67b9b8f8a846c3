"""What a release must say of itself before it is signed. Pure; every fault of a manifest at once."""

from __future__ import annotations

from fieldops.bundles.manifest import Manifest
from fieldops.errors import UsageFault

PLAIN_VARIANTS = frozenset({"fp32"})  # anything else changed the numbers, so it shows what that cost


def check_measured(manifest: Manifest) -> None:
    """A quantized or pruned variant without measured accuracy and time is refused. Raises UsageFault (unmeasured)."""
    bare = [
        f"{tier.name} ({tier.variant})"
        for tier in manifest.tiers
        if tier.variant not in PLAIN_VARIANTS and (tier.accuracy is None or tier.p50_ms is None)
    ]
    if bare:
        raise UsageFault(
            f"{manifest.model}@{manifest.version}: no measured accuracy and time of {', '.join(bare)}",
            reason="unmeasured",
            next_step="add it by `fieldops release add`, which measures each variant",
        )


def check_complete(manifest: Manifest) -> None:
    """Raises UsageFault (incomplete) naming all that is missing."""
    found = [*_identity(manifest), *_tiers(manifest), *_objectives(manifest), *_needs(manifest)]
    if found:
        raise UsageFault(
            f"the manifest of {manifest.model}@{manifest.version} is not complete: {'; '.join(found)}",
            reason="incomplete",
            next_step="write them into spec.json",
        )


def _identity(manifest: Manifest) -> list[str]:
    found = []
    if manifest.v != 1:
        found.append(f"v is {manifest.v}, not 1")
    if manifest.counter < 1:
        found.append("counter must be 1 or more, and grow with every release")
    found += [f"{name} is empty" for name in ("owner", "task", "licence") if not getattr(manifest, name).strip()]
    if manifest.card is None:
        found.append("card names no model card")
    if not manifest.fallback.text.strip():
        found.append("fallback.text does not say what its label means")
    if not manifest.inputs or not manifest.outputs:
        found.append("inputs and outputs must describe the tensors")
    return found


def _tiers(manifest: Manifest) -> list[str]:
    names = [tier.name for tier in manifest.tiers]
    found = []
    if names not in (["core"], ["core", "large"]):
        found.append(f"tiers are {names}, not core, or core and large")
    found += [
        f"tier {tier.name} needs a threshold above 0 and at most 1"
        for tier in manifest.tiers[:-1]
        if tier.threshold is None or not 0.0 < tier.threshold <= 1.0
    ]
    if manifest.tiers and manifest.tiers[-1].threshold is not None:
        found.append(f"tier {manifest.tiers[-1].name} is the last and has a threshold")
    return found


def _objectives(manifest: Manifest) -> list[str]:
    wanted = manifest.objectives
    found = []
    if not wanted.p95_ms > 0:
        found.append("objectives.p95_ms must be above 0")
    if wanted.memory_bytes <= 0:
        found.append("objectives.memory_bytes must be above 0")
    if not 0.0 <= wanted.error_rate < 1.0:
        found.append("objectives.error_rate must be at least 0 and below 1")
    if wanted.power_w is not None and not wanted.power_w > 0:
        found.append("objectives.power_w must be above 0, or null where nobody can say")
    if wanted.thermal_margin_c is not None and wanted.thermal_margin_c < 0:
        found.append("objectives.thermal_margin_c must not be negative")
    for device_class, base in manifest.baseline.items():
        if not 0 < base.p50_ms <= base.p95_ms or base.memory_bytes < 0:
            found.append(f"baseline of {device_class} is no measurement")
        elif base.p95_ms > wanted.p95_ms:
            found.append(f"baseline of {device_class} is above the objective already: {base.p95_ms:g} > {wanted.p95_ms:g} ms")
    return found


def _needs(manifest: Manifest) -> list[str]:
    needs = manifest.needs
    found = []
    if needs.opset < 1:
        found.append("needs.opset is missing")
    if not needs.providers:
        found.append("needs.providers names no execution provider")
    if needs.device_classes and (lost := set(manifest.baseline) - set(needs.device_classes)):
        found.append(f"baseline for {', '.join(sorted(lost))}, which needs.device_classes leaves out")
    return found

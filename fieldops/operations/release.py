"""Put a version into a release: nothing is listed for signing that misses its task's own bar, or says less than it must.

What a device would refuse is refused here already, on the release machine, by the same golden set that the policy role signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from fieldops.bundles.appraisal import Appraisal
from fieldops.bundles.completeness import check_complete, check_measured
from fieldops.bundles.manifest import Manifest, Tier
from fieldops.deadline import Deadline
from fieldops.errors import CheckFailed, UsageFault

GOLDEN_TARGET = "policy/golden/{task}/set.npz"
REPLAY_FILE, SKETCH_FILE = "replay.npz", "sketch.json"


class Repository(Protocol):
    """A release repository that is being worked on."""

    def policy_target(self, name: str) -> bytes: ...

    def add_bundle(self, channel: str, folder: Path, manifest: Manifest, made: Mapping[str, bytes] | None = None) -> Manifest:
        """Lists the bundle in the channel's pending metadata; signing and publishing follow."""


class Appraiser(Protocol):
    def appraise(
        self, folder: Path, manifest: Manifest, golden: bytes, calibration: Path | None, deadline: Deadline
    ) -> Appraisal:
        """Loads every variant and runs the golden set. Raises UsageFault, DeviceCannot (does not load or run)."""


@dataclass(frozen=True, slots=True)
class Added:
    """manifest as it will be signed; warnings: what a person should know before signing."""

    channel: str
    manifest: Manifest
    appraisal: Appraisal
    warnings: tuple[str, ...] = ()


def add(
    repo: Repository,
    appraiser: Appraiser,
    folder: Path,
    spec: Manifest,
    deadline: Deadline,
    *,
    channel: str = "canary",
    calibration: Path | None = None,
) -> Added:
    """Judge a bundle by its task's golden set, measure its tiers, record its replay and sketch, list it.

    spec: a manifest without digests and figures; what it says of them is not believed.
    Raises CheckFailed (below_golden_floor, constant_outputs, replay_differs), UsageFault (incomplete, no golden set, a file
    missing), and what the appraiser raises.
    """
    golden = repo.policy_target(GOLDEN_TARGET.format(task=spec.task))
    check_complete(_with_opset(spec, max(spec.needs.opset, 1)))  # before minutes are spent on measuring
    found = appraiser.appraise(folder, msgspec.structs.replace(spec, files=[]), golden, calibration, deadline)
    _judge(spec, found)
    manifest = _filled(spec, found)
    check_complete(manifest)
    check_measured(manifest)
    made = {manifest.replay or REPLAY_FILE: found.replay}
    if found.sketch is not None:
        made[manifest.sketch or SKETCH_FILE] = found.sketch
    return Added(channel, repo.add_bundle(channel, folder, manifest, made), found, tuple(_warnings(manifest, found)))


def _judge(spec: Manifest, found: Appraisal) -> None:
    name = f"{spec.model}@{spec.version}"
    if found.answers < 2:
        raise CheckFailed(
            f"{name} answers the same to all {found.n} golden inputs",
            reason="constant_outputs",
            next_step="look at the export of the model: its weights or its input scaling are lost",
        )
    if not found.finite or found.accuracy < found.floor:
        raise CheckFailed(
            f"{name} gets {found.accuracy:.4f} of {found.n} golden inputs; the floor is {found.floor:.4f}"
            + ("" if found.finite else ", and some outputs are no numbers"),
            reason="below_golden_floor",
            next_step="train again; the floor belongs to the policy role, not to this bundle",
        )
    if not found.within_tolerance:
        raise CheckFailed(
            f"{name} differs by {found.worst_difference:g} from the outputs recorded in its folder",
            reason="replay_differs",
            next_step="if the model was changed on purpose, remove the replay file: it is recorded anew",
        )
    if 0 < spec.needs.opset < found.opset:
        raise UsageFault(
            f"{name} says needs.opset {spec.needs.opset}, and its graphs use {found.opset}",
            reason="incomplete",
            next_step="mend needs.opset in spec.json, or leave it 0 to have it filled",
        )


def _filled(spec: Manifest, found: Appraisal) -> Manifest:
    measured = {tier.name: tier for tier in found.tiers}
    tiers: list[Tier] = [
        msgspec.structs.replace(
            tier,
            accuracy=measured[tier.name].accuracy,
            p50_ms=measured[tier.name].p50_ms,
            memory_bytes=measured[tier.name].memory_bytes,
        )
        for tier in spec.tiers
    ]
    filled = msgspec.structs.replace(
        spec,
        tiers=tiers,
        files=[],
        replay=spec.replay or REPLAY_FILE,
        replay_key=found.replay_key,
        sketch=(spec.sketch or SKETCH_FILE) if found.sketch is not None else spec.sketch,
    )
    return _with_opset(filled, max(spec.needs.opset, found.opset))


def _with_opset(manifest: Manifest, opset: int) -> Manifest:
    return msgspec.structs.replace(manifest, needs=msgspec.structs.replace(manifest.needs, opset=opset))


def _warnings(manifest: Manifest, found: Appraisal) -> list[str]:
    warnings = []
    if manifest.sketch is None:
        warnings.append("no sketch: drift of this version can not be told; give --calibration FILE.npz")
    if found.p50_ms > manifest.objectives.p95_ms:
        warnings.append(f"half of the requests took {found.p50_ms:g} ms here; the objective is {manifest.objectives.p95_ms:g}")
    memory = [tier.memory_bytes for tier in found.tiers if tier.memory_bytes is not None]
    if sum(memory) > manifest.objectives.memory_bytes:
        warnings.append(f"{sum(memory)} bytes of memory here; the objective is {manifest.objectives.memory_bytes}")
    if not manifest.baseline:
        warnings.append("no baseline of any device class: devices compare with their own only")
    core, *rest = found.tiers
    warnings += [
        f"{tier.name} is no better than {core.name} on the golden set ({tier.accuracy:.4f}, {core.accuracy:.4f})"
        for tier in rest
        if tier.accuracy <= core.accuracy
    ]
    return warnings

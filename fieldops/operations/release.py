"""Put a version into a release: nothing is listed for signing that misses its task's own bar.

What a device would refuse is refused here already, on the release machine, by the same golden set that the policy role signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

import msgspec

from fieldops.bench import GoldenResult
from fieldops.bundles.manifest import Manifest, Tier
from fieldops.deadline import Deadline
from fieldops.errors import CheckFailed
from fieldops.ports import Runner

GOLDEN_TARGET = "policy/golden/{task}/set.npz"
SAMPLES = 64  # enough for p50 and p90 by the early-stopping rule
WARMUP = 10


class Repository(Protocol):
    """A release repository that is being worked on."""

    def policy_target(self, name: str) -> bytes: ...

    def add_bundle(self, channel: str, folder: Path, manifest: Manifest) -> Manifest:
        """Lists the bundle in the channel's draft; signing and publishing follow."""


@dataclass(frozen=True, slots=True)
class Added:
    """manifest as it will be signed; golden: how it did on the task's set."""

    channel: str
    manifest: Manifest
    golden: GoldenResult


def add(repo: Repository, runner: Runner, folder: Path, spec: Manifest, deadline: Deadline, *, channel: str = "stable") -> Added:
    """Judge a bundle by its task's golden set, measure its tiers, list it. spec: a manifest without digests and times.

    Raises CheckFailed (reason below_golden_floor), UsageFault (no golden set, a file missing), and what the runner raises.
    """
    golden = repo.policy_target(GOLDEN_TARGET.format(task=spec.task))
    result = runner.judge(folder, spec, golden)
    if not result.ok:
        raise CheckFailed(
            f"{spec.model}@{spec.version} gets {result.accuracy:.4f} of {result.n} golden inputs; the floor is {result.floor:.4f}",
            reason="below_golden_floor",
            next_step="train again; the floor belongs to the policy role, not to this bundle",
        )
    tiers = [_measured(runner, folder, tier, deadline) for tier in spec.tiers]
    manifest = repo.add_bundle(channel, folder, msgspec.structs.replace(spec, tiers=tiers, files=[]))
    return Added(channel=channel, manifest=manifest, golden=result)


def _measured(runner: Runner, folder: Path, tier: Tier, deadline: Deadline) -> Tier:
    measured = runner.measure(folder / tier.file, samples=SAMPLES, warmup=WARMUP, deadline=deadline)
    return msgspec.structs.replace(tier, p50_ms=round(median(measured.samples_ms), 4))

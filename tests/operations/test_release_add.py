"""A version enters a release only over its task's own bar; the bar is the policy's golden set, not the bundle's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from fieldops.bundles.manifest import Manifest
from fieldops.bundles.trust import Target, bundles_in
from fieldops.deadline import Deadline
from fieldops.edges.appraisal import OnnxAppraiser
from fieldops.edges.clock import SystemClock
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.errors import CheckFailed, UsageFault
from fieldops.operations.release import add

DIGITS = Path(__file__).parents[2] / "sample_fleet" / "digits"


@dataclass(frozen=True)
class Office:
    release: ReleaseRepo
    folder: Path

    def add(self, version: str) -> Manifest:
        spec = msgspec.json.decode((DIGITS / version / "spec.json").read_bytes(), type=Manifest)
        return add(
            self.release, OnnxAppraiser(), DIGITS / version, spec, Deadline.after(60, time.monotonic), channel="stable"
        ).manifest

    def listed(self) -> list[str]:
        """What a laptop sees on a stick made now."""
        self.release.publish()
        stick = self.release.export_stick(self.folder / "stick")
        store = TrustStore(self.folder / "trust", self.folder / "cache", SystemClock())
        store.pin(self.release.root(1), None)
        verified, _ = store.advance(FolderSource(stick), Deadline.after(60, time.monotonic))
        targets: tuple[Target, ...] = verified.targets
        return [f"{bundle.model}@{bundle.version}" for bundle in bundles_in(targets)]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    release = ReleaseRepo.init(tmp_path / "repo", tmp_path / "keys", SystemClock())
    release.add_policy_target("policy/golden/digits/set.npz", (DIGITS / "golden.npz").read_bytes())
    release.sign("policy")
    release.publish()
    return Office(release, tmp_path)


def test_a_good_version_is_measured_and_listed(office: Office) -> None:
    manifest = office.add("1.1.0")
    assert all(tier.p50_ms and tier.p50_ms > 0 for tier in manifest.tiers)
    assert {entry.name for entry in manifest.files} == {"core.onnx", "large.onnx", "replay.npz", "sketch.json", "card.md"}
    office.release.sign("stable")
    assert office.listed() == ["digits@1.1.0"]


def test_a_version_below_the_floor_is_not_listed(office: Office) -> None:
    with pytest.raises(CheckFailed) as caught:
        office.add("2.0.0-bad")
    assert caught.value.reason == "below_golden_floor"
    assert "0.95" in caught.value.message
    assert office.listed() == []


def test_without_a_golden_set_of_its_task_nothing_is_judged(tmp_path: Path) -> None:
    release = ReleaseRepo.init(tmp_path / "repo", tmp_path / "keys", SystemClock())
    with pytest.raises(UsageFault) as caught:
        Office(release, tmp_path).add("1.1.0")
    assert caught.value.reason == "unknown_target"
    assert json.loads((release.repo / "validity.json").read_bytes())["timestamp"] == 7

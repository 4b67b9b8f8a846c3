from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.deadline import Deadline
from fieldops.demo import home, release
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.errors import TrustRefused
from fieldops.operations import runbook
from fieldops.wiring import Laptop, data_dir

Within = Callable[[float], Deadline]


class LongAgo:
    """Two years back: whatever is signed by this clock has expired by now."""

    def now(self) -> float:
        return time.time() - 2 * 365 * 86_400

    def monotonic(self) -> float:
        return time.monotonic()


def test_a_release_of_long_ago_is_signed_again_and_a_laptop_that_knew_only_its_first_root_follows(
    tmp_path: Path, within: Within
) -> None:
    staff = home.staff_of(tmp_path / "home")
    old = release.make(tmp_path / "release", data_dir("sample_fleet"), staff, LongAgo(), within(60))
    old.export_stick(tmp_path / "old", 30)
    first_root = old.root(1)
    with Laptop.open(tmp_path / "home") as laptop:
        laptop.trust.pin(first_root, None)
        with pytest.raises(TrustRefused) as caught:
            laptop.trust.refresh(laptop.media.at(str(tmp_path / "old")), within(30))
        assert caught.value.reason == "expired"
        today = ReleaseRepo(tmp_path / "release" / "repo", tmp_path / "release" / "keys", laptop.clock)
        release.make_stick(today, tmp_path / "stick")
        source = laptop.media.at(str(tmp_path / "stick"))
        assert laptop.trust.refresh(source, within(30)).root_version == 2
        offered = {each.ref: each.reason for each in laptop.trust.candidates(source, within(30))}
        assert offered == {f"digits@{version}": "" for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0-bad")}
        assert runbook.available(laptop.trust) == [release.RUNBOOK]
        assert runbook.load(laptop.trust, release.RUNBOOK)[0].id == release.RUNBOOK


def test_a_release_that_broke_off_is_made_anew(tmp_path: Path, within: Within) -> None:
    staff = home.staff_of(tmp_path / "home")
    (tmp_path / "release" / "repo" / "metadata").mkdir(parents=True)
    (tmp_path / "release" / "repo" / "metadata" / "1.root.json").write_text("{")
    with Laptop.open(tmp_path / "home") as laptop:
        made = release.make(tmp_path / "release", data_dir("sample_fleet"), staff, laptop.clock, within(60))
        again = release.make(tmp_path / "release", data_dir("sample_fleet"), staff, laptop.clock, within(60))
    assert again.root(1) == made.root(1)

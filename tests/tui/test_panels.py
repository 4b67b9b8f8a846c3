"""Panels are functions from values to text; each test hands one a value and reads what a person would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fieldops.errors import TrustRefused
from fieldops.operations.observe import Snapshot
from fieldops.ports import Progress
from fieldops.tui.glyphs import ASCII, BLOCKS
from fieldops.tui.panels import change, device, drift, fleet, top, trail
from fieldops.tui.panels import models as models_panel
from fieldops.tui.panels.columns import fitted
from fieldops.tui.panels.ink import page
from fieldops.tui.panels.progress import progress_bar
from fieldops.tui.snapshots import Sight

NOW = 1_795_000_000.0


def sight_of(site: Any, name: str) -> Sight:
    snapshot: Snapshot = site.snapshots[name]
    return Sight(snapshot.entry, snapshot, NOW)


def texts(cells: tuple[Any, ...]) -> list[str]:
    return [cell.text for cell in cells]


def test_a_row_says_dash_for_what_was_never_measured(site: Any) -> None:
    assert texts(fleet.cells(sight_of(site, "gate-11"), NOW)) == ["OFF", "gate-11", "east", "-", "-", "-", "-", "-", "-", "-"]


def test_a_device_that_stopped_answering_keeps_its_values_muted_and_their_age_is_shown(site: Any) -> None:
    cells = fleet.cells(sight_of(site, "cam-hot"), NOW + 15_120)
    assert texts(cells)[-1] == "4h12"
    assert cells[4].text == "93%"
    assert {cell.tone for cell in cells[3:9]} == {"muted"}


def test_the_side_panel_of_a_dead_device_gives_reason_and_next_step(site: Any) -> None:
    text = fleet.side(sight_of(site, "gate-11"), NOW, 37, BLOCKS).plain
    assert "no connection to 10.0.4.23:22" in text
    assert "check the cable" in text
    assert "seen never" in text.replace("STALE", "seen")


def test_no_line_of_a_panel_is_wider_than_asked(site: Any) -> None:
    for name in site.snapshots:
        sight = sight_of(site, name)
        for width in (53, 75, 100):
            for content in (device.resources(sight, width, BLOCKS), drift.drift(sight, width, BLOCKS)):
                assert max(len(row) for row in content.plain.splitlines()) <= width, (name, width)
        assert max(len(row) for row in fleet.side(sight, NOW, 37, BLOCKS).plain.splitlines()) <= 37, name


def test_a_feature_without_a_limit_is_not_called_ok(site: Any) -> None:
    sight = sight_of(site, "cam-0001")
    assert sight.snapshot is not None
    one = sight.snapshot.drift[0]
    feature = replace(one.features[0], threshold=float("inf"))
    moved = replace(sight.snapshot, drift=(replace(one, features=(feature,)),))
    row = next(row for row in drift.drift(replace(sight, snapshot=moved), 75, ASCII).plain.splitlines() if "input.mean" in row)
    assert row.split()[:4] == ["input.mean", "-", "-", "-"]


def test_values_outside_the_range_of_release_are_shown_as_such_and_not_as_a_distance_of_nought(site: Any) -> None:
    sight = sight_of(site, "cam-0001")
    assert sight.snapshot is not None
    one = sight.snapshot.drift[0]
    newest = replace(one.features[0].newest, strays=1.0, strays_fire=True, statistic=0.0)
    feature = replace(one.features[0], statistic=0.0, threshold=float("inf"), shifted=True, newest=newest)
    moved = replace(sight.snapshot, drift=(replace(one, features=(feature,)),))
    text = drift.drift(replace(sight, snapshot=moved), 75, ASCII).plain
    row = next(row for row in text.splitlines() if "input.mean" in row)
    assert row.split()[:5] == ["input.mean", "100%", "out", "range", "SHIFT"]
    assert "out: share of requests outside the range seen at release" in text


def test_on_a_narrow_screen_columns_are_left_out_before_the_name_of_a_device_is_cut() -> None:
    for width in (60, 70, 80, 120, 200):
        widths = dict(zip((column.title for column in fleet.COLUMNS), fitted(fleet.COLUMNS, width), strict=True))
        shown = [each for each in widths.values() if each]
        assert sum(shown) + len(shown) - 1 + 3 <= width
        assert widths["DEVICE"] >= 11
        assert widths["MODEL"] >= 14
        assert (widths["SITE"] == 0) == (width < 80)


def test_on_trial_the_candidate_answers_and_the_active_version_is_the_way_back(site: Any) -> None:
    slot = site.snapshots["gate-12"].models.slots[0]
    text = models_panel.slot(slot, NOW, 75, BLOCKS).plain
    assert "TRIAL  251 s left" in text
    assert "answers    1.1.0   on trial   goes back to  1.0.0" in text


def test_an_unsigned_version_is_called_so(site: Any) -> None:
    slot = site.snapshots["cam-0001"].models.slots[0]
    foreign = msgspec.structs.replace(slot.versions[0], signed_by="")
    assert "unsigned" in texts(models_panel.version_cells(slot, foreign))


def test_the_countdown_goes_on_between_two_readings_and_never_below_nought(site: Any) -> None:
    slot = site.snapshots["gate-12"].models.slots[0]
    assert "241 s until the device goes back" in page(change.trial(slot, 300, 10.0, 75, BLOCKS)).plain
    assert "0 s until the device goes back" in page(change.trial(slot, 300, 999.0, 75, BLOCKS)).plain


def test_a_refusal_names_who_refused_the_reason_and_the_next_step() -> None:
    error = TrustRefused("core.onnx: sha256 differs", reason="hash_mismatch", next_step="get an intact stick")
    text = page(change.refusal(error, 60)).plain
    assert text.splitlines() == ["REFUSED BY TRUST   hash mismatch", "  core.onnx: sha256 differs", "next  get an intact stick"]


@pytest.mark.parametrize(
    "progress, part",
    [(None, "starting"), (Progress("payload", 0, None), "payload"), (Progress("payload", 512, 1024), " 50%  512 B of 1.0 KiB")],
)
def test_progress_claims_no_share_of_an_unknown_total(progress: Progress | None, part: str) -> None:
    text = progress_bar(progress, 60, ASCII).plain
    assert part in text
    assert ("#" in text) is bool(progress and progress.total)


def test_the_log_claims_nothing_before_it_was_read_or_verified() -> None:
    assert trail.state_line(None, None, NOW, 100, BLOCKS).plain.strip() == "reading the log  ·  log not verified in this session"


def test_a_broken_log_says_what_is_wrong(site: Any) -> None:
    report = replace(site.verify_trail(None), ok=False, problems=("entry 12: its bytes are not those that were hashed",))
    assert "log BROKEN: entry 12" in trail.state_line(site.sync_status(), report, NOW, 120, BLOCKS).plain


def test_the_header_fits_its_row_and_drops_words_before_numbers() -> None:
    counted = {"FAIL": 3, "WARN": 11, "OFF": 2, "OK": 198, "-": 0}
    text = top.fleet(counted, 37, 260_000.0, NOW, 80, BLOCKS, paused=False).plain
    assert len(text) <= 80
    assert "3 FAIL 11 WARN 2 OFF 198 OK" in text
    assert "outbox 37" in text

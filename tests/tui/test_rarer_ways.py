"""Arming, breaking glass, and runbooks: what is done seldom, and must then be plain."""

from __future__ import annotations

from typing import Any

import pytest

from fieldops.operations.runbook import RunReport
from fieldops.steps import Arm, Stage
from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.reader import ReaderScreen
from fieldops.tui.screens.runbooks import RunbooksScreen
from fieldops.tui.screens.sideload import SideloadScreen
from tests.tui.seeing import SIZES, Make, Until, answer, on, screen_text, shown, text_of, to_plan

pytestmark = pytest.mark.anyio


async def test_a_version_is_armed_for_a_window_and_waits_on_the_device(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await to_plan(app, pilot, until)
        await pilot.press("A")
        await answer(app, pilot, until, window="+8h")
        await until(pilot, lambda: screen.stage == "plan" and "tried by the device itself within 8.0 h" in text_of(app))
        await pilot.press("enter")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "ARM cam-hot" in text_of(app))
        await answer(app, pilot, until, unlock="cam-hot", reason="tonight")
        await until(pilot, lambda: "ARMED digits 1.1.0 waits on the device for its window" in text_of(app))
    assert [type(step) for _, step, _ in site.changes] == [Stage, Arm]


async def test_a_window_that_is_none_is_refused_and_the_plan_can_be_made_again(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await to_plan(app, pilot, until)
        await pilot.press("A")
        await answer(app, pilot, until, window="tonight")
        await until(pilot, lambda: "--arm tonight" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: "VERDICT" in text_of(app))
    assert site.changes == []


async def to_expired(app: Any, pilot: Any, until: Until) -> SideloadScreen:
    await shown(app, pilot, until)
    await pilot.press("j", "S")
    await until(pilot, on(app, SideloadScreen))
    screen = app.screen
    assert isinstance(screen, SideloadScreen)
    await until(pilot, lambda: len(screen.table.keys) == 3)
    keys = screen.table.keys
    screen.table.select(next(key for key in keys if "1.3.0" in key))
    await pilot.press("enter")
    await until(pilot, lambda: "REFUSED BY TRUST" in text_of(app))
    return screen


@pytest.mark.parametrize("size", SIZES)
async def test_expired_metadata_is_used_only_with_two_approvals_and_it_is_loud_until_the_end(
    make_console: Make, until: Until, site: Any, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        screen = await to_expired(app, pilot, until)
        assert "X BREAK GLASS" in text_of(app)
        assert "fieldops stick renew FILE" in text_of(app)
        await pilot.press("X")
        await answer(app, pilot, until, unlock="cam-hot", first="/media/usb0/kim.approval")
        await until(pilot, lambda: "REFUSED BY TRUST" in text_of(app))
        assert site.broken == []
        await pilot.press("X")
        await until(pilot, on(app, ConfirmScreen))
        assert app.screen.query_one("#confirm").has_class("loud")
        await answer(app, pilot, until, unlock="cam-hot", first="/media/usb0/kim.approval", second="/media/usb0/ada.approval")
        await until(pilot, lambda: screen.stage == "plan")
        await pilot.press("enter")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "BREAK GLASS: SIDELOAD to cam-hot" in text_of(app))
        assert app.screen.query_one("#confirm").has_class("loud")
    assert site.broken == [("cam-hot", "digits@1.3.0", "/media/usb0/kim.approval", "/media/usb0/ada.approval")]
    assert site.changes == []


async def test_the_statement_that_people_sign_is_written_from_the_same_dialog(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await to_expired(app, pilot, until)
        await pilot.press("X")
        await answer(app, pilot, until, button="third", statement="/tmp/s.json", why="line down")
        await until(pilot, lambda: any("/tmp/s.json: have two people sign it" in text for _, _, text in app.history))
    assert site.written == [("digits@1.3.0", "cam-hot", "/tmp/s.json", "line down")]


async def test_what_is_refused_for_another_reason_has_no_glass_to_break(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("S")
        await until(pilot, on(app, SideloadScreen))
        screen = app.screen
        assert isinstance(screen, SideloadScreen)
        await until(pilot, lambda: len(screen.table.keys) == 3)
        screen.table.select(next(key for key in screen.table.keys if "1.2.0" in key))
        await pilot.press("enter")
        await until(pilot, lambda: "hash mismatch" in text_of(app))
        assert "BREAK GLASS" not in text_of(app)
        await pilot.press("X")
        assert app.screen is screen


# --- the end of a visit -----------------------------------------------------------------------------------------------------


async def test_a_visit_is_closed_for_the_devices_shown_and_says_what_is_missing(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        fleet = await shown(app, pilot, until)
        await pilot.press("f")
        await until(pilot, lambda: len(fleet.shown) == 5)
        await pilot.press("V")
        await until(pilot, lambda: "CLOSE THE VISIT to 5 devices" in text_of(app))
        await answer(app, pilot, until, sync="y", reason="done here")
        await until(pilot, lambda: "MISSING not reached to the end: gate-11" in text_of(app))
        assert "digits is armed" in text_of(app)
    assert site.closed == [(("oven-03", "cam-hot", "gate-12", "press-07", "gate-11"), "done here", True)]


# --- runbooks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_runbook_shows_what_it_needs_and_does_runs_and_says_how_it_ended(
    make_console: Make, until: Until, site: Any, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "R")
        await until(pilot, on(app, RunbooksScreen))
        await until(pilot, lambda: "rollback-model signed" in text_of(app) and "model.revert" in text_of(app))
        await pilot.press("enter")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "2. model.revert model=digits to=@last-good" in text_of(app))
        await answer(app, pilot, until, reason="drift")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "outcome committed" in text_of(app))
    report = site.run_reports[0]
    assert report.params == {"device": "cam-hot", "model": "digits", "to": "@last-good", "reason": "other"}


async def test_a_run_that_was_cut_off_stands_on_top_and_goes_on(make_console: Make, until: Until, site: Any) -> None:
    site.run_reports = [RunReport("r-7", "rollback-model", {"device": "gate-12"}, None, (("before", "observe", True),))]
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, RunbooksScreen) and "NOT OVER" in screen_text(app)[2])
        assert "steps that are done are not done again" in text_of(app)
        await pilot.press("enter")
        await answer(app, pilot, until)
        await until(pilot, lambda: "outcome committed" in text_of(app))
    assert [each.outcome for each in site.run_reports] == ["committed"]


async def test_a_runbook_that_runs_can_be_stopped(make_console: Make, until: Until, site: Any) -> None:
    site.stuck.add("runbook")
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, RunbooksScreen) and "rollback-model" in text_of(app))
        await pilot.press("enter")
        await answer(app, pilot, until)
        await until(pilot, lambda: "1. back" in text_of(app))
        await pilot.press("x")
        await answer(app, pilot, until)
        await until(pilot, lambda: "CANCELLED" in text_of(app))


async def test_a_parameter_that_is_missing_is_told_before_anything_is_written(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, RunbooksScreen) and "rollback-model" in text_of(app))
        await pilot.press("enter")
        await answer(app, pilot, until, params="model=digits")
        await until(pilot, lambda: any("device" in text for _, kind, text in app.history if kind == "error"))
    assert site.run_reports == []

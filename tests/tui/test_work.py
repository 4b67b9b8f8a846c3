"""Work that runs: seen on every screen, stopped from every screen, and its end said."""

from __future__ import annotations

from typing import Any

import pytest

from fieldops.fleet import Inventory
from fieldops.tui.jobs import Job
from fieldops.tui.screens.audit import AuditScreen
from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.device import DeviceScreen
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.jobs import JobsScreen
from fieldops.tui.screens.reader import ReaderScreen
from tests.tui.conftest import entry
from tests.tui.seeing import Make, Until, answer, on, screen_text, shown, text_of

pytestmark = pytest.mark.anyio


async def rolling_back(app: Any, pilot: Any, until: Until) -> None:
    await shown(app, pilot, until)
    await pilot.press("j", "B")
    await answer(app, pilot, until, unlock="cam-hot", reason="x")
    await until(pilot, lambda: "Rolling back digits on cam-hot" in text_of(app))


@pytest.mark.parametrize("key", ["escape", "x"])
async def test_a_rollback_begun_from_the_fleet_can_be_stopped_there_and_its_end_is_said(
    make_console: Make, until: Until, site: Any, key: str
) -> None:
    site.stuck.add("Revert")
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await rolling_back(app, pilot, until)
        assert "x stop" in text_of(app)
        await pilot.press(key)
        await answer(app, pilot, until)
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "CANCELLED" in text_of(app))
        await pilot.press("escape", "J")
        await until(pilot, on(app, JobsScreen))
        await until(pilot, lambda: "CANCELLED Rolling back digits on cam-hot" in text_of(app))
    assert site.changes == []


async def test_keeping_on_waiting_and_leaving_it_running_stop_nothing(make_console: Make, until: Until, site: Any) -> None:
    site.stuck.add("Revert")
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await rolling_back(app, pilot, until)
        for button in ("cancel", "third"):
            await pilot.press("x")
            await answer(app, pilot, until, button=button)
            assert [job.state for job in app.jobs.shown] == ["running"]
        site.release.set()
        await until(pilot, lambda: "DONE" in text_of(app))
    assert len(site.changes) == 1


@pytest.mark.parametrize("keys, kind", [(["enter"], DeviceScreen), (["a"], AuditScreen), ([], FleetScreen)])
async def test_the_strip_with_the_key_that_stops_it_stands_on_every_screen(
    make_console: Make, until: Until, site: Any, keys: list[str], kind: Any
) -> None:
    site.stuck.add("Revert")
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await rolling_back(app, pilot, until)
        await pilot.press(*keys)
        await until(pilot, on(app, kind))
        await until(pilot, lambda: any("Rolling back digits on cam-hot" in row and "x stop" in row for row in screen_text(app)))
        await pilot.press("x")
        await until(pilot, on(app, ConfirmScreen))


async def test_what_only_looks_is_stopped_at_once(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        job = app.jobs.start(Job("looking"), lambda job: job.cancel.wait(20), lambda _: None, app.tell_error)
        await until(pilot, lambda: "looking" in text_of(app))
        await pilot.press("x")
        await until(pilot, lambda: job.ended)
        assert isinstance(app.screen, FleetScreen)


async def test_nothing_to_stop_is_no_command(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("x", "question_mark")
        await until(pilot, on(app, ReaderScreen))
        assert "Stop the work that runs" not in text_of(app)


async def test_the_selected_job_of_the_list_is_the_one_that_is_stopped_and_read(
    make_console: Make, until: Until, site: Any
) -> None:
    site.stuck.add("Revert")
    app = make_console()
    async with app.run_test(size=(120, 40)) as pilot:
        await rolling_back(app, pilot, until)
        other = app.jobs.start(Job("looking"), lambda job: job.cancel.wait(20), lambda _: None, app.tell_error)
        await pilot.press("J")
        await until(pilot, on(app, JobsScreen))
        await until(pilot, lambda: "2 running" in screen_text(app)[0])
        await pilot.press("j", "x")
        await answer(app, pilot, until)
        await until(pilot, on(app, ReaderScreen))
        await pilot.press("escape")
        assert not other.ended
        await until(pilot, lambda: "1 running" in screen_text(app)[0])
        await pilot.press("G")
        jobs = app.screen
        assert isinstance(jobs, JobsScreen)
        await until(pilot, lambda: jobs.chosen is not None and jobs.chosen.state == "done")
        other.cancel.cancel()


async def test_an_error_that_only_a_bug_can_raise_is_told_once_and_stands_on_the_row(
    make_console: Make, until: Until, site: Any
) -> None:
    known = site.inventory().devices
    site.known = Inventory((*known, entry(40, "cam-0098"), entry(41, "cam-0099")))  # no snapshot of these: KeyError
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "3 FAIL" in screen_text(app)[0])
        await pilot.press("r")
        await until(pilot, lambda: sum("KeyError" in text for _, _, text in app.history) >= 2)
        assert sum("KeyError: 'cam-0099'" in text for _, _, text in app.history) == 1

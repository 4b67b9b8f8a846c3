"""The lists of one device: its log, its acts, its benchmarks; filtered, read in full, copied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fieldops.steps import Bench, Disarm
from fieldops.tui.panels import bench
from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.device import DeviceScreen
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.reader import ReaderScreen
from tests.tui.conftest import NOW, bench_result
from tests.tui.seeing import SIZES, Make, Until, answer, on, screen_text, shown, text_of

pytestmark = pytest.mark.anyio


async def opened(app: Any, pilot: Any, until: Until, *keys: str) -> DeviceScreen:
    """cam-hot; then the keys."""
    await shown(app, pilot, until)
    await pilot.press("j", "enter")
    await until(pilot, on(app, DeviceScreen))
    screen = app.screen
    assert isinstance(screen, DeviceScreen)
    await pilot.press(*keys)
    return screen


@pytest.mark.parametrize("size", SIZES)
async def test_the_log_is_newest_first_narrowed_by_words_and_esc_shows_all_again(
    make_console: Make, until: Until, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        screen = await opened(app, pilot, until, "4")
        await until(pilot, lambda: "3 of 3 shown" in text_of(app))
        text = text_of(app)
        assert text.index("12:00:03") < text.index("12:00:02") < text.index("12:00:01")
        await pilot.press("slash", *"warning", "enter")
        await until(pilot, lambda: "1 of 3 shown" in text_of(app))
        assert "12:00:01" not in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: "3 of 3 shown" in text_of(app))
        assert app.screen is screen
        await pilot.press("escape")
        await until(pilot, on(app, FleetScreen))


async def test_the_cursor_stays_on_its_line_while_new_ones_come(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, until, "4")
        await until(pilot, lambda: "3 of 3 shown" in text_of(app))
        await pilot.press("j")
        assert screen.text_to_copy == "12:00:02 WARNING slow clock"
        site.logged = [*site.logged, "12:00:03 ready"]
        await until(pilot, lambda: "4 of 4 shown" in text_of(app))
        assert screen.text_to_copy == "12:00:02 WARNING slow clock"


async def test_a_log_that_cannot_be_read_says_why_and_what_to_do(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        site.stuck.add("cam-hot")
        await pilot.press("j", "enter", "4")
        await until(pilot, lambda: "no connection - check the cable" in text_of(app))


async def test_what_the_device_did_names_who_and_why(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, until, "5")
        await until(pilot, lambda: "the device revert digits 1.0.0 deadline" in text_of(app))
        await pilot.press("enter")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "deadline" in text_of(app))


async def test_a_benchmark_is_measured_after_a_question_and_stands_beside_the_baseline(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, until, "6", "b")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "it loads the device while it answers" in text_of(app))
        await answer(app, pilot, until, samples="700", reason="slow today")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "verdict SLOWER" in text_of(app))
        assert "x3.00" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: "1 of 1 shown" in text_of(app) and "SLOWER" in text_of(app))
    assert site.changes == [("cam-hot", Bench(model="digits", samples=700), "slow today")]


async def test_a_new_baseline_is_saved_on_the_device_and_other_than_a_number_is_refused(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, until, "N")
        await answer(app, pilot, until, samples="many")
        await until(pilot, lambda: any("'many' samples" in text for _, _, text in app.history))
        await pilot.press("N")
        await answer(app, pilot, until, samples="256")
        await until(pilot, lambda: site.changes)
    assert site.changes == [("cam-hot", Bench(model="digits", samples=256, save_baseline=True), "")]


@pytest.mark.parametrize("p50, word", [(0.4, "as the baseline"), (0.2, "faster"), (1.2, "SLOWER")])
def test_a_run_says_in_words_how_it_stands_to_the_baseline(p50: float, word: str) -> None:
    assert bench.cells((NOW, bench_result(p50=p50)))[-1].text == word


def test_without_a_baseline_and_when_throttled_it_says_so() -> None:
    bare = msgspec.structs.replace(bench_result(), baseline=None, throttled=True)
    text = bench.bench_text(bare, 70).plain
    assert "THROTTLED" in text
    assert "none on the device yet" in text


async def test_an_armed_version_is_shown_and_taken_back(make_console: Make, until: Until, site: Any) -> None:
    hot = site.snapshots["cam-hot"]
    slot = msgspec.structs.replace(hot.models.slots[0], candidate="1.1.0", armed_from=NOW + 3600, armed_until=NOW + 7200)
    site.snapshots["cam-hot"] = replace(hot, models=msgspec.structs.replace(hot.models, slots=[slot]))
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, until, "3")
        await until(pilot, lambda: "ARMED the device tries 1.1.0 by itself, from" in text_of(app))
        await pilot.press("D")
        await answer(app, pilot, until, unlock="cam-hot", reason="not tonight")
        await until(pilot, lambda: site.changes)
    assert site.changes == [("cam-hot", Disarm(model="digits"), "not tonight")]


@pytest.mark.parametrize("tab, part", [("1", "THROTTLED"), ("3", "last good"), ("4", "12:00:03 ready")])
async def test_y_takes_along_what_is_looked_at_and_says_where_it_is(
    make_console: Make, until: Until, site: Any, tab: str, part: str
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, until, tab)
        await until(pilot, lambda: part in text_of(app))
        await pilot.press("y")
        await until(pilot, lambda: part in site.copied)
        await until(pilot, lambda: any("/home/me/fieldops/copied.txt" in text for _, _, text in app.history))
        assert app.clipboard == site.copied


async def test_the_audit_log_opened_from_a_device_shows_what_concerns_it(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, until, "a")
        await until(pilot, lambda: "/cam-hot" in screen_text(app)[0])
        rows = [row for row in screen_text(app)[3:] if "queued" in row]
        assert rows
        assert all("cam-hot" in row for row in rows)
        await pilot.press("escape")
        await until(pilot, lambda: "/cam-hot" not in screen_text(app)[0])


async def test_scroll_keys_stand_in_the_help_only_when_there_is_something_to_scroll(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=(120, 60)) as pilot:
        await opened(app, pilot, until, "2", "question_mark")
        await until(pilot, on(app, ReaderScreen))
        assert "Scroll" not in text_of(app)
        await pilot.press("escape")
        await pilot.resize_terminal(80, 16)
        await pilot.press("question_mark")
        await until(pilot, on(app, ReaderScreen))
        await pilot.press("pagedown", "pagedown")
        await until(pilot, lambda: "Scroll down" in text_of(app))

"""The console as a person meets it: keys in, screen text and model out. The laptop is made of values (conftest)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual import events
from textual.screen import Screen
from textual.widgets import Button, Input

from fieldops.errors import DeviceCannot, NeedsPerson, UsageFault
from fieldops.steps import Activate, Commit, Revert, RotateTrust, Stage
from fieldops.tui.commands import COMMANDS, EVERYWHERE
from fieldops.tui.glyphs import ASCII
from fieldops.tui.panels.asking import Answer, Question
from fieldops.tui.panels.help import keys_of
from fieldops.tui.screens.audit import AuditScreen
from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.device import DeviceScreen
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.line import LineScreen
from fieldops.tui.screens.reader import ReaderScreen
from fieldops.tui.screens.sideload import SideloadScreen
from tests.tui.seeing import SIZES, Make, Until, confirm, name_of, on, say, screen_text, shown, to_plan

pytestmark = pytest.mark.anyio


# --- every screen at both sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_the_fleet_shows_counts_in_row_1_worst_first_and_at_most_eight_keys(
    make_console: Make, until: Until, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, until)
        await until(pilot, lambda: "outbox 37" in screen_text(app)[0])
        rows = screen_text(app)
        for part in ("fieldops", "Fleet", "24", "1 FAIL", "3 WARN", "1 OFF", "19 OK", "UTC"):
            assert part in rows[0]
        assert rows[2].split()[:2] == ["▶", "FAIL"]
        assert "Enter open" in rows[-1]
        assert "? help" in rows[-1]
        assert ("digits needs a person" in "\n".join(rows)) is (size[0] >= 110)


@pytest.mark.parametrize("size", SIZES)
async def test_a_device_has_resources_drift_and_models_and_says_its_age(
    make_console: Make, until: Until, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "enter")
        await until(pilot, on(app, DeviceScreen))
        await until(pilot, lambda: "THROTTLED" in "\n".join(screen_text(app)))
        assert "cam-hot · WARN" in screen_text(app)[0]
        assert "seen 3s" in screen_text(app)[0]
        await pilot.press("2")
        await until(pilot, lambda: "HARDWARE" in "\n".join(screen_text(app)))
        assert any("p50 1.12 ms is 2.8 times this device's own baseline" in row for row in screen_text(app))
        await pilot.press("3")
        await until(pilot, lambda: "last good" in "\n".join(screen_text(app)))
        await pilot.press("escape")
        await until(pilot, on(app, FleetScreen))


async def test_esc_at_the_root_and_q_never_quit(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("escape", "q", "escape")
        assert app.is_running
        assert isinstance(app.screen, FleetScreen)


async def test_a_small_window_says_the_size_it_needs(make_console: Make) -> None:
    app = make_console()
    async with app.run_test(size=(50, 12)) as pilot:
        await pilot.pause()
        assert "60x16" in " ".join(screen_text(app))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "60x16" not in " ".join(screen_text(app))


async def test_the_cursor_stays_on_its_device_through_resize_and_refresh(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        fleet = await shown(app, pilot, until)
        await pilot.press("j", "j", "j")
        assert name_of(app, fleet.selected) == "press-07"
        await pilot.resize_terminal(120, 40)
        await pilot.resize_terminal(80, 24)
        site.snapshots["cam-0001"] = replace(site.snapshots["cam-0001"], state="FAIL", reasons=("digits needs a person",))
        await pilot.press("r")
        await until(pilot, lambda: "2 FAIL" in screen_text(app)[0] and "cam-0001" in screen_text(app)[2])
        assert name_of(app, fleet.selected) == "press-07"


async def test_a_device_that_never_answers_blocks_nothing_and_quitting_does_not_wait_for_it(
    make_console: Make, until: Until, site: Any
) -> None:
    site.stuck.add("cam-0007")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        fleet = app.screen
        assert isinstance(fleet, FleetScreen)
        await until(pilot, lambda: "1 unasked" in screen_text(app)[0])
        await pilot.press("j", "enter")
        await until(pilot, on(app, DeviceScreen))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


async def test_ascii_mode_writes_no_byte_above_0x7f(make_console: Make, until: Until) -> None:
    app = make_console(glyphs=ASCII)
    async with app.run_test(size=SIZES[1]) as pilot:
        await shown(app, pilot, until)
        assert all(row.isascii() for row in screen_text(app))
        await pilot.press("enter")
        await until(pilot, on(app, DeviceScreen))
        await until(pilot, lambda: "2.5 GiB of 4.0 GiB" in "\n".join(screen_text(app)))
        assert all(row.isascii() for row in screen_text(app))
        await pilot.press("B")
        await until(pilot, on(app, ConfirmScreen))
        assert all(row.isascii() for row in screen_text(app))


async def test_without_colour_the_words_stay_and_no_colour_is_written(make_console: Make, until: Until) -> None:
    app = make_console(no_color=True)
    async with app.run_test(size=SIZES[1]) as pilot:
        await shown(app, pilot, until)
        colours = {
            colour.name
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None
        }
        assert colours <= {"default"}
        text = "\n".join(screen_text(app))
        assert all(word in text for word in ("FAIL", "WARN", "OFF", "OK", "DATA", "HW"))
        await pilot.press("T")
        await until(pilot, lambda: any("colours are off" in told for _, _, told in app.history))


async def test_markup_in_a_device_text_is_shown_as_it_is(make_console: Make, until: Until, site: Any) -> None:
    site.snapshots["oven-03"] = replace(site.snapshots["oven-03"], reasons=("[bold red]digits[/] \x1b[2J [@click=app.quit]x[/]",))
    app = make_console()
    async with app.run_test(size=SIZES[1]) as pilot:
        await shown(app, pilot, until)
        await until(pilot, lambda: "[bold red]digits[/]" in "\n".join(screen_text(app)))
        assert "\x1b" not in "\n".join(screen_text(app))


# --- filter, command line, palette, help -----------------------------------------------------------------------------------


async def test_letters_typed_in_the_filter_start_nothing_and_esc_clears_it(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        fleet = await shown(app, pilot, until)
        await pilot.press("slash", *"SBC", "q")
        assert app.screen is fleet
        assert len(fleet.shown) == 0
        await pilot.press(*["backspace"] * 4, *"drift:data", "enter")
        await until(pilot, lambda: [name_of(app, key) for key in fleet.shown] == ["press-07"])
        assert "1 of 24 shown" in "\n".join(screen_text(app))
        await pilot.press("slash")
        assert fleet.query_one("#filter", Input).value == "drift:data"
        await pilot.press("escape")
        await until(pilot, lambda: len(fleet.shown) == 24)
        assert app.screen is fleet
    assert site.changes == []


async def test_the_command_line_opens_a_device_by_name(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, "dev gate-11")
        await until(pilot, on(app, DeviceScreen))
        await until(pilot, lambda: "no connection to 10.0.4.23:22" in "\n".join(screen_text(app)))
        assert "gate-11 · OFF" in screen_text(app)[0]
        assert "never seen" in screen_text(app)[0]
        assert "check the cable" in "\n".join(screen_text(app))


async def test_part_of_a_name_opens_the_device_when_it_is_the_only_one(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, "dev cam-000")
        await until(pilot, lambda: any("several devices 'cam-000'" in text for _, _, text in app.history))
        await say(app, pilot, until, "dev press")
        await until(pilot, on(app, DeviceScreen))
        await until(pilot, lambda: "press-07" in screen_text(app)[0])


async def test_rows_can_be_sorted_by_a_named_column_and_turned_round(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        fleet = await shown(app, pilot, until)
        await say(app, pilot, until, "sort cpu")
        await until(pilot, lambda: name_of(app, fleet.shown[0]) == "cam-hot")
        assert "by cpu" in "\n".join(screen_text(app))
        await pilot.press("o")
        await until(
            pilot, lambda: name_of(app, fleet.shown[-1]) == "cam-hot" and "by cpu, reversed" in "\n".join(screen_text(app))
        )
        await say(app, pilot, until, "sort colour")
        await until(pilot, lambda: any("no column 'colour'" in text for _, _, text in app.history))


async def test_letters_typed_before_the_command_line_stands_are_kept(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        for key in (":", *"audit"):  # without waiting for the screen between them
            app.post_message(events.Key({":": "colon"}.get(key, key), key))
        await until(pilot, on(app, LineScreen))
        await until(pilot, lambda: app.screen.query_one("#line", Input).value == "audit")
        await pilot.press("enter")
        await until(pilot, on(app, AuditScreen))


async def test_a_bare_device_is_not_counted_as_ok(make_console: Make, until: Until, site: Any) -> None:
    bare = site.snapshots["cam-0001"]
    site.snapshots["cam-0001"] = replace(bare, link="bare", models=None, drift=())
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await until(pilot, lambda: "1 BARE 18 OK" in screen_text(app)[0])
        await say(app, pilot, until, "dev cam-0001")
        await until(pilot, on(app, DeviceScreen))
        await pilot.press("3")
        await until(pilot, lambda: "a bare device: without an agent it keeps no models" in "\n".join(screen_text(app)))


async def test_an_unknown_word_is_told_and_stays_in_the_messages(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, "reboot")
        await until(pilot, lambda: any("no command 'reboot'" in text for _, _, text in app.history))
        await pilot.press("m")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "no command 'reboot'" in "\n".join(screen_text(app)))


@pytest.mark.parametrize(
    "open_by, kind", [([], FleetScreen), (["enter"], DeviceScreen), (["a"], AuditScreen), (["S"], SideloadScreen)]
)
async def test_help_shows_exactly_the_active_bindings(
    make_console: Make, until: Until, open_by: list[str], kind: type[Screen[Any]]
) -> None:
    app = make_console()
    async with app.run_test(size=(100, 90)) as pilot:
        await shown(app, pilot, until)
        await pilot.press(*open_by)
        await until(pilot, on(app, kind))
        await pilot.pause()
        active = app.screen.active_bindings
        rows = keys_of(active.values())
        assert {key for row in rows for key in row.keys} == set(active)
        await pilot.press("question_mark")
        await until(pilot, on(app, ReaderScreen))
        text = "\n".join(screen_text(app))
        assert all(row.title in text for row in rows)


async def test_every_command_can_be_reached_from_some_screen_by_word_or_key() -> None:
    assert all(command.words or command.keys for command in COMMANDS)
    for scope in ("fleet", "device", "audit", "sideload"):
        keys = [key for command in COMMANDS if {scope, EVERYWHERE} & command.where for key in command.keys.split(",") if key]
        assert len(keys) == len(set(keys)), scope


async def test_a_remapped_key_works_and_shows_in_the_key_bar(make_console: Make, until: Until) -> None:
    app = make_console(keys={"go.audit": "f4", "no.such": "x"})
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot, until)
        assert "f4 audit" in screen_text(app)[-1]
        assert any("no command 'no.such'" in text for _, _, text in app.history)
        await pilot.press("f4")
        await until(pilot, on(app, AuditScreen))


async def test_the_demo_command_is_offered_only_in_a_demo(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, "store-up")
        assert site.asked_up == 0
        site.demo = True
        await say(app, pilot, until, "store-up")
        await until(pilot, lambda: site.asked_up == 1)


async def test_the_palette_runs_a_command_of_the_registry(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("ctrl+p")
        await pilot.press(*"audit log")
        await until(pilot, lambda: "Audit log" in "\n".join(screen_text(app)))
        await pilot.app.workers.wait_for_complete()
        await pilot.press("down", "enter")
        await until(pilot, on(app, AuditScreen))


async def test_themes_are_read_when_wanted_and_an_unknown_one_changes_nothing(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, "theme sunlight")
        await until(pilot, lambda: app.theme == "sunlight")
        await say(app, pilot, until, "theme pink")
        await until(pilot, lambda: any("no theme 'pink'" in text for _, _, text in app.history))
        assert app.theme == "sunlight"


# --- rollback --------------------------------------------------------------------------------------------------------------


async def test_a_rollback_is_done_only_with_the_name_typed_and_carries_the_reason(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "B")
        await confirm(app, pilot, until, "cam-hot", "too slow")
        await until(pilot, on(app, ReaderScreen))
        assert site.changes == [("cam-hot", Revert(model="digits", to=None), "too slow")]
        await until(pilot, lambda: "DONE" in "\n".join(screen_text(app)))


async def test_keys_typed_ahead_reach_nothing_while_the_guard_holds(make_console: Make, until: Until) -> None:
    app = make_console()
    answers: list[Answer | None] = []
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        dialog = ConfirmScreen(Question("ROLL BACK x", "Roll back", (), unlock=""), guard_s=3600)
        app.push_screen(dialog, answers.append)
        await until(pilot, on(app, ConfirmScreen))
        await pilot.press("enter", "enter", "escape", "y", "enter")
        assert app.screen is dialog
        assert app.focused is None
        assert dialog.query_one("#go", Button).disabled
    assert answers == []


async def test_a_wrong_name_never_unlocks(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "B")
        await until(pilot, on(app, ConfirmScreen))
        dialog = app.screen
        assert isinstance(dialog, ConfirmScreen)
        await until(pilot, lambda: dialog.armed and dialog.query_one("#cancel").has_focus)
        go = dialog.query_one("#go", Button)
        dialog.query_one("#unlock", Input).focus()
        await pilot.press(*"cam-hat", "enter")
        assert go.disabled
        assert app.screen is dialog
        await pilot.press("escape")
        await until(pilot, on(app, FleetScreen))
    assert site.changes == []


async def test_the_dialog_shows_that_the_policy_forbids_it(make_console: Make, until: Until, site: Any) -> None:
    site.allowed = False
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "B")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "role viewer may not do this" in "\n".join(screen_text(app)))


async def test_a_rollback_that_fails_says_what_to_do_next(make_console: Make, until: Until, site: Any) -> None:
    site.fault = NeedsPerson("last-good failed its golden set", reason="needs_human", next_step="sideload a signed version")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "B")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "NEEDS A PERSON" in "\n".join(screen_text(app)))
        assert "sideload a signed version" in "\n".join(screen_text(app))


# --- sideload ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_sideload_goes_from_stick_to_commit_and_every_step_is_in_the_order_of_the_plan(
    make_console: Make, until: Until, site: Any, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        screen = await to_plan(app, pilot, until)
        assert "stage digits 1.1.0 from stable" in "\n".join(screen_text(app))
        await pilot.press("enter")
        await confirm(app, pilot, until, "cam-hot", "new model")
        await until(pilot, lambda: screen.stage == "trial")
        await until(pilot, lambda: "until the device goes back by itself" in "\n".join(screen_text(app)))
        assert [type(step) for _, step, _ in site.changes] == [RotateTrust, Stage, Activate]
        await pilot.press("C")
        await until(pilot, lambda: "answers and is kept" in "\n".join(screen_text(app)))
    assert [type(step) for _, step, _ in site.changes] == [RotateTrust, Stage, Activate, Commit]
    assert {reason for _, _, reason in site.changes} == {"new model"}


async def test_a_trial_that_the_device_ended_by_itself_can_no_longer_be_committed(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        screen = await to_plan(app, pilot, until)
        await pilot.press("enter")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, lambda: screen.stage == "trial" and "C commit" in screen_text(app)[-1])
        trial = site.snapshots["cam-hot"]
        settled = site.snapshots["cam-0001"].models
        site.snapshots["cam-hot"] = replace(trial, models=settled, seen_at=site.now() + 60)
        await until(pilot, lambda: "TRIAL    over; 1.0.0 answers" in "\n".join(screen_text(app)))
        assert "C commit" not in screen_text(app)[-1]
        await pilot.press("C")
    assert not any(isinstance(step, Commit) for _, step, _ in site.changes)


async def test_each_candidate_has_a_verdict_and_a_refused_one_ends_at_the_refusal(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("S")
        await until(pilot, on(app, SideloadScreen))
        await until(pilot, lambda: "REFUSED" in "\n".join(screen_text(app)))
        await pilot.press("j", "enter")
        await until(pilot, lambda: "REFUSED BY TRUST" in "\n".join(screen_text(app)))
        text = "\n".join(screen_text(app))
        assert "expired 3 days ago" in text
        assert "intact stick" in text
        await pilot.press("enter")
        assert not isinstance(app.screen, ConfirmScreen)
    assert site.changes == []


async def test_leaving_a_running_sideload_stops_nothing_and_s_comes_back_to_it(
    make_console: Make, until: Until, site: Any
) -> None:
    site.stuck.add("Stage")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        screen = await to_plan(app, pilot, until)
        await pilot.press("enter")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, lambda: screen.stage == "apply" and len(site.changes) == 1)
        await pilot.press("escape")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: app.screen.query_one("#cancel").has_focus)
        await pilot.press("tab", "enter")
        await until(pilot, on(app, FleetScreen))
        await until(pilot, lambda: "Stage digits on cam-hot" in "\n".join(screen_text(app)))
        await pilot.press("S")
        await until(pilot, on(app, SideloadScreen))
        site.release.set()
        again = app.screen
        assert isinstance(again, SideloadScreen)
        await until(pilot, lambda: again.stage == "trial")


async def test_esc_while_a_step_runs_offers_to_keep_waiting_or_to_stop_and_says_what_that_means(
    make_console: Make, until: Until, site: Any
) -> None:
    site.stuck.add("Stage")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        screen = await to_plan(app, pilot, until)
        await pilot.press("enter")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, lambda: screen.stage == "apply" and len(site.changes) == 1)
        for answer in (("enter",), ("tab", "tab", "enter")):
            assert "Stage" in " ".join(job.title for job in app.jobs.running)
            await pilot.press("escape")
            await until(pilot, on(app, ConfirmScreen))
            await until(pilot, lambda: app.screen.query_one("#cancel").has_focus)
            assert "the log says `unknown`" in " ".join(" ".join(screen_text(app)).replace("│", " ").split())
            await pilot.press(*answer)
            await until(pilot, on(app, SideloadScreen))
        await until(pilot, lambda: "CANCELLED" in "\n".join(screen_text(app)))
        assert [type(step).__name__ for _, step, _ in site.changes] == ["RotateTrust"]
        await pilot.press("escape")
        await until(pilot, on(app, FleetScreen))


async def test_an_empty_inventory_says_how_to_get_devices_and_where_the_file_is(
    make_console: Make, until: Until, site: Any
) -> None:
    site.snapshots = {}
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await until(pilot, lambda: "NO DEVICES YET" in "\n".join(screen_text(app)))
        text = "\n".join(screen_text(app))
        for words in ("fieldops demo", "fieldops device add NAME --ssh USER@HOST", site.inventory_place):
            assert words in text


async def test_an_inventory_that_cannot_be_read_is_shown_until_it_can_be(make_console: Make, until: Until, site: Any) -> None:
    site.inventory_fault = UsageFault("fleet.toml: 1 fault\n  fleet.toml:3: no name", next_step="mend the lines named above")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await until(pilot, lambda: "CANNOT BE READ" in "\n".join(screen_text(app)))
        assert "fleet.toml:3: no name" in "\n".join(screen_text(app))
        site.inventory_fault = None
        await pilot.press("r")
        await shown(app, pilot, until)


async def test_quitting_while_a_change_runs_asks_first(make_console: Make, until: Until, site: Any) -> None:
    site.stuck.add("Revert")
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "B")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, lambda: "Rolling back digits on cam-hot" in "\n".join(screen_text(app)))
        await pilot.press("ctrl+q")
        await until(pilot, on(app, ConfirmScreen))
        assert app.is_running
        await until(pilot, lambda: app.screen.query_one("#cancel").has_focus)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: not app.is_running)


async def test_a_step_the_device_refuses_ends_the_plan_and_keeps_what_was_done(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await to_plan(app, pilot, until)
        site.fault = DeviceCannot("no room: 12 MiB free", reason="disk_full", next_step="prune a stored version")
        await pilot.press("enter")
        await confirm(app, pilot, until, "cam-hot", "x")
        await until(pilot, lambda: "DEVICE SAYS NO" in "\n".join(screen_text(app)))
        assert "prune a stored version" in "\n".join(screen_text(app))
    assert site.changes == []


async def test_a_model_on_trial_can_be_committed_from_its_device(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[0]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("j", "j", "enter")
        await until(pilot, on(app, DeviceScreen))
        await until(pilot, lambda: "C commit" in screen_text(app)[-1])
        await pilot.press("C")
        await confirm(app, pilot, until, "gate-12", "well")
        await until(pilot, on(app, ReaderScreen))
    assert site.changes == [("gate-12", Commit(model="digits", version="1.1.0"), "well")]


# --- audit ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_the_log_is_listed_newest_first_with_what_the_store_has(
    make_console: Make, until: Until, site: Any, size: tuple[int, int]
) -> None:
    site.acked = 30
    app = make_console()
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, until)
        await pilot.press("a")
        await until(pilot, on(app, AuditScreen))
        await until(pilot, lambda: "7 queued" in screen_text(app)[1])
        rows = screen_text(app)
        assert rows[3].split()[:2] == ["▶", "37"]
        assert "queued" in rows[3]
        assert "sent" in rows[3 + 7]
        assert "not verified in this session" in rows[1]
        await pilot.press("v")
        await until(pilot, lambda: "VERIFIED, 37 entries" in screen_text(app)[1])
        await pilot.press("j", "enter")
        await until(pilot, on(app, ReaderScreen))
        assert "person:SHA256:k1M" in "\n".join(screen_text(app))


async def test_sync_says_that_the_store_is_away_and_later_what_it_took(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=SIZES[1]) as pilot:
        await shown(app, pilot, until)
        await pilot.press("u")
        await until(pilot, lambda: "store offline" in screen_text(app)[0])
        site.offline = False
        await pilot.press("u")
        await until(pilot, lambda: "store online" in screen_text(app)[0] and "outbox 0" in screen_text(app)[0])
        assert any("sent 37 entries" in text for _, _, text in app.history)

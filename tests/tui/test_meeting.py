"""Devices that are not known well yet: host keys compared, added to the list, enrolled, discovered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.device import DeviceScreen
from fieldops.tui.screens.discover import DiscoverScreen
from fieldops.tui.screens.reader import ReaderScreen
from tests.tui.seeing import Make, Until, answer, on, say, shown, text_of

pytestmark = pytest.mark.anyio
FINGERPRINT = "SHA256:" + "abcd" * 10 + "XYZ"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_host_key_is_shown_in_groups_and_trusted_only_by_its_end(
    make_console: Make, until: Until, site: Any, size: tuple[int, int]
) -> None:
    app = make_console()
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, until)
        await pilot.press("K")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "SHA256: abcd abcd abcd" in text_of(app))
        for words in ("TRUST THE HOST KEY of oven-03", " XYZ", "last four characters", "never over this network"):
            assert words in text_of(app), words
        await answer(app, pilot, until, unlock="dXYZ", reason="label")
        await until(pilot, lambda: site.trusted)
    assert site.trusted == [("oven-03", FINGERPRINT, "label")]


async def test_a_changed_host_key_stands_beside_the_known_one_and_is_loud(make_console: Make, until: Until, site: Any) -> None:
    site.offered = replace(site.offered, verdict="changed", known=("SHA256:" + "9876" * 11,))
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("K")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "REPLACE THE HOST KEY" in text_of(app))
        for words in ("known SHA256: 9876 9876", "another machine may answer", "Replace (locked)"):
            assert words in text_of(app), words
        assert app.screen.query_one("#confirm").has_class("loud")
        await answer(app, pilot, until, button="cancel")
        await until(pilot, lambda: any("nothing was changed" in text for _, _, text in app.history))
    assert site.trusted == []


@pytest.mark.parametrize(
    "typed, changes, told",
    [
        (" SHA256:" + "z" * 43, {}, "you expect"),
        (" label", {}, "is no SHA-256 fingerprint"),
        (f" {FINGERPRINT}", {"verdict": "changed", "known": ("SHA256:old",)}, "its host key changed"),
        ("", {"verdict": "revoked"}, "@revoked"),
        ("", {"verdict": "ok"}, "known already"),
    ],
)
async def test_what_must_not_be_accepted_never_comes_to_a_question(
    make_console: Make, until: Until, site: Any, typed: str, changes: dict[str, Any], told: str
) -> None:
    site.offered = replace(site.offered, **changes)
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await say(app, pilot, until, f"trust{typed}")
        await until(pilot, lambda: any(told in text for _, _, text in app.history))
        assert not isinstance(app.screen, ConfirmScreen)
    assert site.trusted == []


async def test_a_stranger_on_the_network_is_added_with_what_is_known_of_it(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("d")
        await until(pilot, on(app, DiscoverScreen))
        await until(pilot, lambda: "dev-new NEW NO 192.0.2.7:7443" in text_of(app))
        await pilot.press("enter")
        await answer(app, pilot, until, name="press-12", ssh="tech@192.0.2.7", site="north")
        await until(pilot, lambda: any("press-12 is in the list" in text for _, _, text in app.history))
        await pilot.press("escape")
        await say(app, pilot, until, "dev press-12")
        await until(pilot, on(app, DeviceScreen))
    made = site.snapshots["press-12"].entry
    assert (str(made.ssh), str(made.lan), made.site) == ("tech@192.0.2.7:22", "192.0.2.7:7443", "north")


async def test_a_known_device_found_on_the_network_is_opened(make_console: Make, until: Until) -> None:
    app = make_console()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("d")
        await until(pilot, on(app, DiscoverScreen))
        await until(pilot, lambda: "cam-0001 yes NO" in text_of(app))
        await pilot.press("j", "enter")
        await until(pilot, on(app, DeviceScreen))


async def test_every_fault_of_a_new_device_is_told_at_once_and_nothing_is_added(
    make_console: Make, until: Until, site: Any
) -> None:
    app = make_console()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("plus")
        await answer(app, pilot, until, name="Not A Name", ssh="a b", lan="nowhere")
        await until(pilot, lambda: any("Not A Name" in text and "'nowhere'" in text for _, _, text in app.history))
        assert any("'a b'" in text for _, _, text in app.history)
    assert len(site.snapshots) == 24


async def test_enrolling_shows_its_steps_and_passes_on_what_was_typed(make_console: Make, until: Until, site: Any) -> None:
    app = make_console()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot, until)
        await pilot.press("E")
        await until(pilot, on(app, ConfirmScreen))
        await until(pilot, lambda: "2. bring signed metadata 7 and the policy" in text_of(app))
        await answer(app, pilot, until, unlock="oven-03", label="van 7", kit="/media/kits/arm64", adopt="y")
        await until(pilot, on(app, ReaderScreen))
        await until(pilot, lambda: "oven-03 is enrolled" in text_of(app) and "answered after a restart" in text_of(app))
    assert site.enrolled == [("oven-03", "van 7", "/media/kits/arm64", True)]

"""How a test of the console looks at the screen, waits for it, and answers its dialogs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from fieldops.tui.app import Console
from fieldops.tui.screens.confirm import ConfirmScreen
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.line import LineScreen
from fieldops.tui.screens.sideload import SideloadScreen

Until = Callable[[Pilot[int], Callable[[], object]], Awaitable[None]]
Make = Callable[..., Console]
SIZES = [(80, 24), (120, 40)]


def text_of(app: Console) -> str:
    """The whole screen as one text, without frames and line breaks."""
    return " ".join(" ".join(screen_text(app)).replace("│", " ").replace("┃", " ").split())


def screen_text(app: Console) -> list[str]:
    """What stands on the terminal, row by row; nothing while a screen is only coming up."""
    width, height = app.size
    rows = app.screen._compositor.render_strips()
    if len(rows) != height:
        return [""] * height
    texts = [strip.text for strip in rows]
    assert all(len(text) <= width for text in texts)
    return texts


def on(app: Console, kind: type[Screen[Any]]) -> Callable[[], bool]:
    return lambda: isinstance(app.screen, kind) and app.screen.is_mounted


async def shown(app: Console, pilot: Pilot[int], until: Until) -> FleetScreen:
    """The fleet screen with all devices asked once."""
    fleet = app.screen
    assert isinstance(fleet, FleetScreen)
    await until(pilot, lambda: len(fleet.shown) == 24 and "unasked" not in screen_text(app)[0])
    await until(pilot, lambda: "oven-03" in screen_text(app)[2])
    return fleet


def name_of(app: Console, key: str | None) -> str:
    return next((sight.entry.name for known, sight in app.store.drain()[0].items() if known == key), "")


async def confirm(app: Console, pilot: Pilot[int], until: Until, name: str, reason: str) -> None:
    await until(pilot, on(app, ConfirmScreen))
    dialog = app.screen
    assert isinstance(dialog, ConfirmScreen)
    await until(pilot, lambda: dialog.armed and dialog.query_one("#cancel").has_focus)
    dialog.query_one("#reason", Input).focus()
    dialog.query_one("#reason", Input).value = reason
    await pilot.press("enter")
    dialog.query_one("#unlock", Input).value = name
    await pilot.press("enter")
    await until(pilot, lambda: dialog.query_one("#go").has_focus)
    await pilot.press("enter")


async def to_plan(app: Console, pilot: Pilot[int], until: Until) -> SideloadScreen:
    await shown(app, pilot, until)
    await pilot.press("j", "S")
    await until(pilot, on(app, SideloadScreen))
    screen = app.screen
    assert isinstance(screen, SideloadScreen)
    await until(pilot, lambda: len(screen.table.keys) == 3)
    await pilot.press("enter")
    await until(pilot, lambda: screen.stage == "plan")
    return screen


async def answer(app: Console, pilot: Pilot[int], until: Until, *, unlock: str = "", button: str = "go", **fields: str) -> None:
    """Fill in the fields of the dialog in front, by name, and press a button of it."""
    await until(pilot, on(app, ConfirmScreen))
    dialog = app.screen
    assert isinstance(dialog, ConfirmScreen)
    await until(pilot, lambda: dialog.armed and dialog.query_one("#cancel").has_focus)
    for name, value in fields.items():
        dialog.query_one("#reason" if name == "reason" else f"#field-{name}", Input).value = value
    if unlock:
        dialog.query_one("#unlock", Input).value = unlock
        await until(pilot, lambda: not dialog.query_one("#go").disabled)
    dialog.query_one(f"#{button}").focus()
    await pilot.press("enter")
    await until(pilot, lambda: app.screen is not dialog)


async def say(app: Console, pilot: Pilot[int], until: Until, text: str) -> None:
    """A command on the `:` line."""
    await pilot.press("colon")
    await until(pilot, on(app, LineScreen))
    line = app.screen
    await until(pilot, lambda: line.query_one("#line").has_focus)
    line.query_one("#line", Input).value = text
    await pilot.press("enter")
    await until(pilot, lambda: app.screen is not line)

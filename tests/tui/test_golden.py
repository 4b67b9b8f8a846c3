"""Three whole screens as text. To accept a wanted change: FIELDOPS_WRITE_GOLDEN=1 pytest tests/tui/test_golden.py, then read the diff."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from fieldops.tui.app import Console

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parent / "golden"


def screen_text(app: Console) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips()) + "\n"


@pytest.mark.parametrize("name, keys", [("fleet", []), ("confirm", ["B"]), ("audit", ["a"])])
async def test_the_screen_at_80x24_is_as_it_was_looked_at(
    make_console: Callable[..., Console],
    until: Callable[[Pilot[int], Callable[[], object]], Awaitable[None]],
    name: str,
    keys: list[str],
) -> None:
    app = make_console()
    file = FOLDER / f"{name}-80x24.txt"
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "oven-03" in screen_text(app).splitlines()[2] and "outbox 37" in screen_text(app))
        await pilot.press(*keys)
        if os.environ.get("FIELDOPS_WRITE_GOLDEN"):
            await pilot.pause(1.5)
            file.write_text(screen_text(app), encoding="utf-8")
        await until(pilot, lambda: screen_text(app) == file.read_text(encoding="utf-8"))

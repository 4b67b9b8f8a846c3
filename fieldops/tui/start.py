"""The console over a laptop's home, on this process's terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fieldops.errors import UsageFault
from fieldops.tui.app import Console
from fieldops.tui.glyphs import glyphs_for


def run(home: Path | None = None, *, ascii_only: bool = False, no_color: bool = False) -> int:
    """Returns the exit code. Raises FieldopsError before the screen is taken over."""
    term = os.environ.get("TERM", "")
    if term == "dumb" or not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageFault(
            "the console needs a terminal that can be drawn on",
            reason="no_terminal",
            next_step="use the verbs instead: `fieldops --help`, or `fieldops demo --tour` for the whole job without a screen",
        )
    from fieldops.tui.laptop_site import LaptopSite
    from fieldops.tui.prompts import Asker
    from fieldops.wiring import Laptop

    with Laptop.open(home) as laptop:
        config = laptop.config
        with laptop.exclusive("console"):
            asker = Asker(laptop.clock.monotonic)
            laptop.ask = asker.ask
            app = Console(
                LaptopSite(laptop, asker),
                glyphs=glyphs_for(sys.stdout.encoding, term, ascii_only=ascii_only or bool(os.environ.get("FIELDOPS_ASCII"))),
                theme=config.theme,
                theme_folders=lambda: [laptop.data_dir("themes"), laptop.home / "themes"],
                keys=config.keys,
                no_color=no_color or bool(os.environ.get("NO_COLOR")),
                asker=asker,
            )
            result = app.run()
            app.stop()
    return app.return_code or result or 0

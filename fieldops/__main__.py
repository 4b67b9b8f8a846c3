"""`fieldops`: without a verb the console, with one the CLI; each is imported only then, and `--version` imports neither."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `fieldops` command."""
    words = sys.argv[1:]
    if words in (["--version"], ["-V"]):
        from fieldops import __version__

        sys.stdout.write(f"fieldops {__version__}\n")
        return
    if words[:1] == ["agent"]:
        from fieldops.agent.__main__ import main as agent

        sys.argv = ["fieldops-agent", *words[1:]]
        agent()
        return
    asked = _console_words(words)
    if asked is not None:
        home, ascii_only, no_color = asked
        sys.exit(_console(home, ascii_only=ascii_only, no_color=no_color))
    import gc

    gc.set_threshold(20_000, 20, 20)  # imports make objects that stay: looking through them every 700 is a tenth of the start
    from fieldops.cli.app import run

    run()


def _console_words(words: list[str]) -> tuple[str | None, bool, bool] | None:
    """(home, --ascii, --no-color); None where there is a verb, or anything else for the command line to judge."""
    home: str | None = None
    flags: set[str] = set()
    rest = iter(words)
    for word in rest:
        if word == "--home":
            home = next(rest, None)
            if home is None:
                return None
        elif word in {"--ascii", "--no-color"}:
            flags.add(word)
        else:
            return None
    return home, "--ascii" in flags, "--no-color" in flags


def _console(home: str | None, *, ascii_only: bool, no_color: bool) -> int:
    """Started without the command line: typer's import takes a good part of the time to the first paint.

    Nothing is collected until the first frame stands (tui.app thaws it): what start-up makes stays for good, and looking
    through it again and again took a tenth of the start.
    """
    import gc

    gc.disable()
    try:
        from pathlib import Path

        from fieldops.tui.start import run as console

        return console(Path(home) if home is not None else None, ascii_only=ascii_only, no_color=no_color)
    except BaseException as error:  # noqa: BLE001 - handed on to the outermost boundary, which is loaded only when needed
        from fieldops.cli.diagnostics import ended

        met = error

        def again() -> None:
            raise met

        return ended(again, as_json=False)


if __name__ == "__main__":
    main()

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
    if not words or (len(words) == 2 and words[0] == "--home"):
        sys.exit(_console(words[1] if words else None))
    from fieldops.cli.app import run

    run()


def _console(home: str | None) -> int:
    """Started without typer, whose import takes a good part of the time to the first paint."""
    from fieldops.cli.diagnostics import ended

    def run() -> int:
        from pathlib import Path

        from fieldops.tui.app import run as console

        return console(Path(home) if home is not None else None)

    return ended(run, as_json=False)


if __name__ == "__main__":
    main()

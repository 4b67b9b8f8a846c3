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
    from fieldops.cli.app import run

    run()


if __name__ == "__main__":
    main()

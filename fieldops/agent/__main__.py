"""`fieldops-agent VERB`, `python -m fieldops.agent VERB`: one verb a process, each importing only what it needs."""

from __future__ import annotations

import importlib
import sys

import msgspec

VERBS = {
    "serve": "the agent itself",
    "status": "what the running agent knows",
    "revert": "go back to last-good, at the device",
    "provision": "flash a first signed model without a laptop",
    "selftest": "can this machine run the agent",
    "stdio": "bridge standard input and output to the agent's socket",
    "announce": "tell the plant network where the agent listens",
    "worker": "run one bundle (started by the agent)",
    "verify": "judge signed metadata (started by the agent)",
}


def main() -> None:
    """Exit status as DESIGN §10; a fault is one ErrorDoc line on stderr."""
    words = sys.argv[1:]
    if words[:1] in (["--version"], ["-V"]):
        from fieldops import __version__

        sys.stdout.write(f"fieldops-agent {__version__}\n")
        return
    if not words or words[0] not in VERBS:
        wanted = words[:1] in ([], ["--help"], ["-h"])
        lines = "\n".join(f"  {verb:<10} {text}" for verb, text in VERBS.items())
        sys.stderr.write(f"usage: fieldops-agent VERB [options]\n\n{lines}\n")
        sys.exit(0 if wanted and words else 2)
    from fieldops.errors import FieldopsError

    try:
        status = importlib.import_module(f"fieldops.agent.{words[0]}").run(words[1:])
    except FieldopsError as error:
        sys.stderr.write(f"fieldops-agent: {error}\nNext: {error.next_step}\n")
        if "--json" in words:
            from fieldops.wire import error_doc

            sys.stdout.write(msgspec.json.encode(error_doc(error)).decode("utf-8") + "\n")
        sys.exit(error.exit_code)
    sys.exit(status)


if __name__ == "__main__":
    main()

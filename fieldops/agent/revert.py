"""`fieldops-agent revert MODEL [--to VERSION]`: back to last-good at the device itself; nobody need be asked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fieldops.agent.asking import ask
from fieldops.agent.local import REVERT_S, LocalRevert
from fieldops.wire import StepRecord, decode, encode, step_error


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fieldops-agent revert")
    parser.add_argument("model")
    parser.add_argument("--to", default=None, help="a version that is on the device; else last-good")
    parser.add_argument("--home", type=Path, default=None, help="the agent's folder")
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    given = parser.parse_args(words)
    body = encode(LocalRevert(model=given.model, to=given.to))
    data = ask(given.home, "POST", "/revert", body, timeout=REVERT_S + 5)
    record = decode(data, StepRecord, sender="the agent")
    error = step_error(record, "")
    if given.json and error is None:
        sys.stdout.write(data.decode("utf-8") + "\n")
    if error is not None:
        raise error
    if not given.json:
        sys.stdout.write(f"{record.message}\n")
    return 0

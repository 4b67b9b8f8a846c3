"""`fieldops-agent status [--json]`: what the running agent knows, at the device itself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fieldops.agent.asking import ask
from fieldops.agent.local import AgentStatus
from fieldops.wire import decode

ANSWER_S = 10.0


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fieldops-agent status")
    parser.add_argument("--home", type=Path, default=None, help="the agent's folder")
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    given = parser.parse_args(words)
    data = ask(given.home, "GET", "/status", None, timeout=ANSWER_S)
    if given.json:
        sys.stdout.write(data.decode("utf-8") + "\n")
        return 0
    status = decode(data, AgentStatus, sender="the agent")
    lines = [
        f"device   {status.hello.device}",
        f"agent    {status.hello.agent}, {'enrolled' if status.hello.enrolled else 'not enrolled'}",
    ]
    lines += [
        f"model    {slot.model} {slot.active or '-'}  {slot.state}  last-good {slot.last_good or '-'}"
        for slot in status.models.slots
    ]
    for serving in status.resources.serving:
        p95 = f"{serving.p95_ms:.1f} ms" if serving.p95_ms is not None else "unknown"
        lines.append(
            f"serving  {serving.model} {serving.version}  {serving.requests} requests, {serving.failed} failed, p95 {p95}"
        )
    if status.telemetry_set_aside:
        lines.append(f"counts   {status.telemetry_set_aside} damaged telemetry files were set aside; what they held is gone")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0

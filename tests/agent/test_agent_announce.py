"""An agent on the plant network tells so, and only there; the telling ends with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldops.agent.announce import is_loopback
from tests.agent.conftest import Agent


def _announcing(agent: Agent) -> list[int]:
    assert agent.process is not None
    pid = agent.process.pid
    below = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [child for child in below if b"announce" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")]


def test_a_lan_listener_is_announced_for_as_long_as_the_agent_lives(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent('[lan]\nlisten = "0.0.0.0:0"\n').start()
    (child,) = _announcing(agent)
    assert agent.stop() == 0
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < until


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.0.0.2:0"])
def test_a_listener_that_only_this_machine_reaches_is_not_announced(make_agent: Callable[..., Agent], listen: str) -> None:
    agent = make_agent(f'[lan]\nlisten = "{listen}"\n').start()
    assert _announcing(agent) == []


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("fe80::1%eth0", False)]
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback

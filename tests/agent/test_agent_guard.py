"""The old agent's software standing guard over a new one: programs stand for the new agent, the guard is the real one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fieldops.agent.home import AgentHome
from fieldops.agent.newcomer import NewAgent, current, keep, on_trial, put_on_trial, why_back

# A program instead of `software/new/bin/python`: answers /v1/hello as told, writes its starts down, ends at EOF.
AGENT = """#!{python}
import json, os, socketserver, sys, threading
from http.server import BaseHTTPRequestHandler
start = os.environ["FIELDOPS_AGENT_ON_TRIAL"]
with open({starts!r}, "a") as file:
    file.write(start)
if {mode!r} == "ends" or ({mode!r} == "ends at second" and start == "2"):
    sys.exit(3)
class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"agent": "1.0.0" if {mode!r} == "another" else "2.0.0"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "here"
    def log_message(self, *_):
        pass
if {mode!r} != "silent":
    if os.path.exists({socket!r}):
        os.unlink({socket!r})
    server = socketserver.UnixStreamServer({socket!r}, Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@dataclass(frozen=True)
class Scene:
    home: AgentHome

    @property
    def socket(self) -> Path:
        return self.home.root / "agent.sock"

    @property
    def starts(self) -> str:
        path = self.home.root / "starts"
        return path.read_text() if path.exists() else ""

    def put(self, mode: str, *, starts: int = 0, trial_s: int = 2, answer_s: int = 60) -> None:
        for name in ("new", "old"):
            (self.home.root / "software" / name / "bin").mkdir(parents=True)
        (self.home.root / "agent").symlink_to("software/old")
        program = self.home.root / "software" / "new" / "bin" / "python"
        text = AGENT.format(python=sys.executable, mode=mode, starts=str(self.home.root / "starts"), socket=str(self.socket))
        program.write_text(text)
        program.chmod(0o755)
        new = NewAgent(
            step_id="s.1.1", version="2.0.0", software="new", former="old", trial_s=trial_s, answer_s=answer_s, starts=starts
        )
        put_on_trial(self.home, new)

    def guard(self) -> subprocess.Popen[bytes]:
        script = (
            "import sys; from pathlib import Path; from fieldops.agent.guard import stand_guard; "
            "from fieldops.agent.home import AgentHome; root = Path(sys.argv[1]); "
            "status = stand_guard(AgentHome(root), root / 'agent.sock'); sys.exit(100 if status is None else status)"
        )
        return subprocess.Popen([sys.executable, "-c", script, self.home.root], stderr=subprocess.DEVNULL)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="fo-") as folder:  # short: it holds a socket
        yield Scene(AgentHome(Path(folder)))


SERVES = 100  # nothing on trial any more: the guard's own process goes on as the old agent


@pytest.mark.parametrize(
    ("mode", "reason", "starts"),
    [
        ("ends", "no_answer", "1"),
        ("ends at second", "no_answer", "12"),
        ("silent", "no_answer", "1"),
        ("another", "no_answer", "1"),
        ("answers", "not_kept", "12"),
    ],
)
def test_the_old_agent_serves_again(scene: Scene, mode: str, reason: str, starts: str) -> None:
    scene.put(mode, answer_s=1 if mode in {"silent", "another"} else 60)
    assert scene.guard().wait(60) == SERVES
    over = why_back(scene.home)
    assert over is not None
    assert (over.reason, over.version, over.step_id) == (reason, "2.0.0", "s.1.1")
    assert (scene.starts, on_trial(scene.home), current(scene.home)) == (starts, None, "old")


def test_an_agent_that_is_kept_goes_on_under_the_guard_and_ends_with_it(scene: Scene) -> None:
    scene.put("answers", trial_s=60)
    guard = scene.guard()
    until = time.monotonic() + 60
    while scene.starts != "12":
        assert time.monotonic() < until
        time.sleep(0.02)
    new = on_trial(scene.home)
    assert new is not None
    assert new.starts == 1
    keep(scene.home, new)
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(30) in {0, -signal.SIGTERM}
    assert current(scene.home) == "new"
    assert why_back(scene.home) is None


def test_the_power_may_go_twice_and_then_the_old_agent_serves(scene: Scene) -> None:
    scene.put("answers", starts=2)
    assert scene.guard().wait(30) == SERVES
    assert scene.starts == ""
    over = why_back(scene.home)
    assert over is not None
    assert over.reason == "not_kept"


def test_power_that_goes_between_the_link_and_the_end_of_the_trial_leaves_the_new_agent(scene: Scene) -> None:
    scene.put("answers")
    (scene.home.root / "agent").unlink()
    (scene.home.root / "agent").symlink_to("software/new")
    assert scene.guard().wait(30) == SERVES  # this start is the new agent's own already
    assert (on_trial(scene.home), why_back(scene.home), scene.starts) == (None, None, "")


def test_a_trial_nobody_can_read_is_none(scene: Scene) -> None:
    scene.put("answers")
    (scene.home.root / "upgrade.json").write_bytes(json.dumps({"step_id": 7}).encode())
    assert scene.guard().wait(30) == SERVES
    assert scene.starts == ""


def test_the_new_agent_ends_when_its_guard_is_killed(scene: Scene) -> None:
    scene.put("answers", trial_s=60)
    guard = scene.guard()
    until = time.monotonic() + 60
    while scene.starts != "12" or not scene.socket.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text().split()
    guard.kill()
    guard.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_second_start_by_hand_leaves_the_trial_alone(scene: Scene) -> None:
    scene.put("answers", trial_s=60)
    first = scene.guard()
    until = time.monotonic() + 60
    while scene.starts != "12":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert scene.guard().wait(30) == 1  # in_use
    assert on_trial(scene.home) is not None
    assert scene.starts == "12"
    first.terminate()
    first.wait(30)

"""The old agent's software, standing guard over the new one: starts it, sees it answer twice, waits until it is kept.

`serve` comes here first whenever an agent is on trial. The new one runs as a child of this process and ends with it. Whatever
goes wrong (it ends, does not answer, nobody keeps it in time, the power goes twice), this very process then serves as the old
agent; nothing and nobody else is needed for that.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from fieldops.agent.home import AgentHome
from fieldops.agent.newcomer import ON_TRIAL, NewAgent, Over, clear, current, give_up, on_trial, put_on_trial
from fieldops.edges.locks import exclusive
from fieldops.errors import StorageFault

STOP_S = 20.0
LOOK_S = 0.2
MOST_STARTS = 2  # a power cut in the middle of a trial gives it one more chance


def stand_guard(home: AgentHome, agent_socket: Path) -> int | None:
    """Exit status when this process is to end; None: nothing is on trial any more, it serves."""
    new = on_trial(home)
    if new is None:
        return None
    if current(home) == new.software:  # it was kept, and the power went before that was written down
        clear(home)
        return None
    guard = _Guard(home, agent_socket, new)
    # Somebody who starts a second agent by hand must not end the trial of the first one's.
    with exclusive(home.root / "guard.lock", "the guard of a new agent", wait_s=3.0), guard.heeding():
        return guard.watch()


class _Guard:
    def __init__(self, home: AgentHome, agent_socket: Path, new: NewAgent) -> None:
        self._home = home
        self._socket = agent_socket
        self._new = new
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False

    @contextlib.contextmanager
    def heeding(self) -> Iterator[None]:
        """Whoever ends the service ends both."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, *_: object) -> None:
        self._asked = True
        if self._child is not None:
            self._child.terminate()

    def watch(self) -> int | None:
        if self._new.starts >= MOST_STARTS:
            self._back("not_kept", f"it was started {self._new.starts} times and nobody kept it")
            return None
        try:
            put_on_trial(self._home, replace(self._new, starts=self._new.starts + 1))
        except StorageFault as error:
            self._back(error.reason, error.message)
            return None
        for number in (1, 2):
            self._start(number)
            why = self._until(self._answers, self._new.answer_s)
            if self._asked:
                return 0
            if why is not None:
                self._back("no_answer", f"{why}{' after a restart' * (number - 1)}")
                return None
            if number == 1:
                self._stop()
        why = self._until(lambda: on_trial(self._home) is None, self._new.trial_s)
        if self._asked:
            return 0
        if why is not None:
            self._back("not_kept", f"{why}; no laptop kept it")
            return None
        assert self._child is not None
        return self._child.wait()  # kept: the next start is the new agent alone

    def _until(self, happened: Callable[[], bool], within_s: float) -> str | None:
        """None: it happened, or somebody asked for the end; else why it will not."""
        assert self._child is not None
        until = time.monotonic() + within_s
        while not self._asked and not happened():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return f"it ended with {self._child.wait(LOOK_S)}"
            if time.monotonic() >= until:
                return f"not within {within_s:g} s"
        return None

    def _start(self, number: int) -> None:
        python = self._home.root / "software" / self._new.software / "bin" / "python"
        self._child = subprocess.Popen(
            [python, "-m", "fieldops.agent", "serve", "--home", self._home.root, "--until-eof"],
            stdin=subprocess.PIPE,
            env={**os.environ, ON_TRIAL: str(number)},
        )
        if self._asked:
            self._child.terminate()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _back(self, reason: str, message: str) -> None:
        self._stop()
        sys.stderr.write(f"fieldops-agent: agent {self._new.version}: {message}; the former one goes on\n")
        over = Over(step_id=self._new.step_id, version=self._new.version, reason=reason, message=message)
        with contextlib.suppress(StorageFault):
            give_up(self._home, over)

    def _answers(self) -> bool:
        """Who answers must be the new agent, over the socket that laptops use."""
        here = _Here(self._socket)
        try:
            here.request("GET", "/v1/hello")
            reply = here.getresponse()
            said = json.loads(reply.read(1 << 20))
            return reply.status == 200 and isinstance(said, dict) and said.get("agent") == self._new.version
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            here.close()


class _Here(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=3.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

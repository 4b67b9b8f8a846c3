"""Commands over one connection, few at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import paramiko
from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.ssh.channels import Connection, hang_up
from fieldops.edges.ssh.commands import Result, Talk
from fieldops.edges.ssh.remote import Sudo, SudoEar, job_line, line_of, sudo_line
from fieldops.edges.ssh.sockets import Heard
from fieldops.errors import HostKeyUnknown

SESSIONS = 4  # commands at once; sshd allows 10 and counts each until our CLOSE came, after the next may have been opened


class Sessions(Connection):
    """unverified: nothing vouches for the host's key. Then no password goes over it, and it is for looking only."""

    def __init__(
        self,
        transport: paramiko.Transport,
        sock: Heard,
        device: str,
        monotonic: Callable[[], float],
        unverified: HostKeyUnknown | None,
    ) -> None:
        self.unverified = unverified
        self._warm = False
        self._sessions = threading.BoundedSemaphore(SESSIONS)
        super().__init__(transport, sock, device, monotonic)

    def run(
        self,
        command: str | Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes | None = None,
        sudo: Sudo | None = None,
        job: bool = False,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run one command: a list of arguments, or a POSIX sh script as text. stdin given: it must read all of it.

        job: for what may take long. It ends on the device with the deadline, with a cancel, and with this laptop, within 2 s;
        it takes no stdin. Without it a command whose deadline passed may go on there. on_output: gets stdout as it comes.
        Raises LinkLost, DeadlinePassed, Cancelled, Unreachable (phase open), NotAuthorised (sudo_refused).
        """
        assert stdin is None or not job, "a job's stdin is its life-line"
        line = job_line(command, deadline.left()) if job else line_of(command)
        if stdin is None and not job:
            line = f"{line} </dev/null"
        ear = self._ear(sudo)
        with self.session(sudo_line(line) if sudo else line, deadline) as channel:
            talk = Talk(
                channel,
                lambda: self.left(deadline, "exec"),
                stdin=stdin or b"",
                eof=stdin is not None,
                ear=ear,
                on_output=on_output,
            )
            result = talk.result()
            self.check_whole(channel)
        if ear is not None:
            ear.check_begun()
        return result

    def _ear(self, sudo: Sudo | None) -> SudoEar | None:
        if sudo is not None and self.unverified is not None:
            raise self.unverified
        return SudoEar(sudo, self.device) if sudo is not None else None

    @contextmanager
    def session(self, line: str, deadline: Deadline, *, window: int | None = None) -> Iterator[Channel]:
        """A channel on which the line runs; few at once. window: bytes that may be under way to us, unread."""
        while not self._sessions.acquire(timeout=min(dial.STEP_S, self.left(deadline, "exec"))):
            pass
        try:
            channel = self.execute(line, deadline, window=window)
            try:
                yield channel
            finally:
                hang_up(channel)
        finally:
            self._sessions.release()
        self._warm = True

    def warm_up(self, deadline: Deadline) -> None:
        """One command before the first forward: sshd sets TCP_NODELAY only then."""
        if not self._warm:
            self.run(["true"], deadline)

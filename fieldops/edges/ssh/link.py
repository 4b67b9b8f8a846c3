"""A link to one device: what the rest of fieldops does over SSH."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import paramiko
from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.pipe import client_over
from fieldops.edges.ssh import copies
from fieldops.edges.ssh.channels import Connection, Refused, hang_up
from fieldops.edges.ssh.commands import Result, Talk
from fieldops.edges.ssh.remote import Sudo, SudoEar, job_line, line_of, sudo_line
from fieldops.edges.ssh.sockets import Heard
from fieldops.edges.ssh.streams import BridgeStream, ChannelStream, SocketBackend
from fieldops.errors import HostKeyUnknown, Unreachable
from fieldops.ports import OnProgress

SESSIONS = 4  # commands at once; sshd allows 10 and counts each until our CLOSE came, after the next may have been opened


class SshLink(Connection):
    """Safe for several threads. host_key: (type, blob) that the host proved to hold.

    unverified: nothing vouches for that key. Then no password goes over it, and it is for looking only. under: the link to
    the jump host below, closed with this one.
    """

    def __init__(
        self,
        transport: paramiko.Transport,
        sock: Heard,
        host_key: tuple[str, bytes],
        device: str,
        monotonic: Callable[[], float],
        *,
        unverified: HostKeyUnknown | None = None,
        first_use: bool = False,
        under: SshLink | None = None,
    ) -> None:
        self.host_key = host_key
        self.unverified = unverified
        self.first_use = first_use
        self._under = under
        self._warm = False
        self._streamlocal = True
        self._sessions = threading.BoundedSemaphore(SESSIONS)
        self._clients: list[httpx.Client] = []
        super().__init__(transport, sock, device, monotonic)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        super().close()
        if self._under is not None:
            self._under.close()

    # --- commands

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
    def session(self, line: str, deadline: Deadline) -> Iterator[Channel]:
        """A channel on which the line runs; few at once."""
        while not self._sessions.acquire(timeout=min(dial.STEP_S, self.left(deadline, "exec"))):
            pass
        try:
            channel = self.execute(line, deadline)
            try:
                yield channel
            finally:
                hang_up(channel)
        finally:
            self._sessions.release()
        self._warm = True

    # --- files

    def upload(
        self,
        local: Path,
        remote: str,
        deadline: Deadline,
        progress: OnProgress | None = None,
        *,
        mode: int = 0o644,
        in_flight: int = copies.IN_FLIGHT,
    ) -> copies.Copied:
        """Put a file there: whole and verified, or not at all. Goes on from where an earlier try was cut off.

        Raises LinkLost (call again over a new link: it goes on), DeviceCannot (disk_full, cannot_write, damaged_copy),
        StorageFault (the local file), DeadlinePassed, Cancelled.
        """
        return copies.Upload(self, local, remote, mode, in_flight).run(deadline, progress or copies.silent)

    def download(self, remote: str, local: Path, deadline: Deadline, progress: OnProgress | None = None) -> copies.Copied:
        """Get a file from there: whole and verified, or not at all. Goes on from where an earlier try was cut off.

        Raises LinkLost, DeviceCannot (cannot_read, damaged_copy), StorageFault, DeadlinePassed, Cancelled.
        """
        return copies.Download(self, remote, local).run(deadline, progress or copies.silent)

    # --- HTTP

    def http(self, socket_path: str, *, program: str = "", deadline: Deadline | None = None) -> httpx.Client:
        """A client of what listens on the device's unix socket; the link closes it.

        program: the agent's command, used as `PROGRAM stdio --socket PATH` where sshd forbids forwarding.
        """
        if not self._warm and deadline is not None:
            self.run(["true"], deadline)
        client = client_over(SocketBackend(self, socket_path, program), "http://agent")
        self._clients.append(client)
        return client

    def open_stream(self, socket_path: str, program: str, seconds: float) -> ChannelStream:
        """To the remote socket: a forwarded channel, else the agent's stdio bridge. Raises LinkFault.

        sshd says "connect failed" as well where it forbids forwarding, so only the bridge's own end tells the two apart.
        """
        deadline = Deadline.after(seconds, self.monotonic)
        if self._streamlocal:
            try:
                return ChannelStream(self.open("direct-streamlocal@openssh.com", (socket_path, "", 0), deadline), self)
            except Refused as refused:
                if not program:
                    raise self.no_agent(socket_path, refused.message) from refused
        channel = self.execute(f"{program} stdio --socket {shlex.quote(socket_path)}", deadline)
        return BridgeStream(channel, self, socket_path)

    def bridged(self) -> None:
        """The bridge works where forwarding was refused: use it from now on without asking again."""
        self._streamlocal = False

    def no_agent(self, socket_path: str, why: str) -> Unreachable:
        # the bridge's own words name the socket and a next step as well
        reason = why.partition(". Next: ")[0].removeprefix(f"{socket_path}: ")
        return Unreachable(
            f"the agent's socket {socket_path} cannot be reached: {reason}",
            phase="open",
            next_step="check that the agent runs (`fieldops-agent status` at the device), that your login may use its socket,"
            " and that sshd allows `AllowStreamLocalForwarding` or the agent's program is in the PATH",
            device=self.device,
        )

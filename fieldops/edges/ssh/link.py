"""A link to one device: what the rest of fieldops does over SSH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import paramiko

from fieldops.deadline import Deadline
from fieldops.edges.pipe import client_over
from fieldops.edges.ssh.copies import Copied, silent
from fieldops.edges.ssh.download import Download
from fieldops.edges.ssh.sessions import Sessions
from fieldops.edges.ssh.sockets import Heard
from fieldops.edges.ssh.streams import SocketBackend
from fieldops.edges.ssh.upload import IN_FLIGHT, Upload
from fieldops.errors import HostKeyUnknown
from fieldops.ports import OnProgress


class SshLink(Sessions):
    """Safe for several threads. host_key: (type, blob) that the host proved to hold.

    first_use: that key is trusted from now on. under: the link to the jump host below, closed with this one.
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
        self.first_use = first_use
        self._under = under
        self._clients: list[httpx.Client] = []
        super().__init__(transport, sock, device, monotonic, unverified)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        super().close()
        if self._under is not None:
            self._under.close()

    def upload(
        self,
        local: Path,
        remote: str,
        deadline: Deadline,
        progress: OnProgress | None = None,
        *,
        mode: int = 0o644,
        in_flight: int = IN_FLIGHT,
    ) -> Copied:
        """Put a file there: whole and verified, or not at all. Goes on from where an earlier try was cut off.

        Raises LinkLost (call again over a new link: it goes on), DeviceCannot (disk_full, cannot_write, damaged_copy),
        StorageFault (the local file), DeadlinePassed, Cancelled.
        """
        return Upload(self, local, remote, mode, in_flight).run(deadline, progress or silent)

    def download(self, remote: str, local: Path, deadline: Deadline, progress: OnProgress | None = None) -> Copied:
        """Get a file from there: whole and verified, or not at all. Goes on from where an earlier try was cut off.

        Raises LinkLost, DeviceCannot (cannot_read, damaged_copy), StorageFault, DeadlinePassed, Cancelled.
        """
        return Download(self, remote, local, self.host_key[1]).run(deadline, progress or silent)

    def http(self, socket_path: str, *, program: str = "", deadline: Deadline | None = None) -> httpx.Client:
        """A client of what listens on the device's unix socket; the link closes it.

        program: the agent's command, used as `PROGRAM stdio --socket PATH` where sshd forbids forwarding.
        """
        if deadline is not None:
            self.warm_up(deadline)
        client = client_over(SocketBackend(self, socket_path, program), "http://agent")
        self._clients.append(client)
        return client

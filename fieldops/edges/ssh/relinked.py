"""A copy over as many links as it takes: each goes on where the one before was cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.edges.ssh.copies import Copied
from fieldops.edges.ssh.link import SshLink
from fieldops.edges.ssh.upload import IN_FLIGHT
from fieldops.errors import DeadlinePassed, FieldopsError, LinkLost, Unreachable
from fieldops.ports import OnProgress

LEAST_IN_FLIGHT = 256 << 10
_RETRY_S = 0.5


def deliver(
    open_link: Callable[[Deadline], SshLink],
    local: Path,
    remote: str,
    deadline: Deadline,
    progress: OnProgress | None = None,
    *,
    mode: int = 0o644,
) -> Copied:
    """Upload. After each cut less is left under way, so that many cuts cost little."""
    in_flight = IN_FLIGHT

    def one(link: SshLink) -> Copied:
        nonlocal in_flight
        try:
            return link.upload(local, remote, deadline, progress, mode=mode, in_flight=in_flight)
        finally:
            in_flight = max(LEAST_IN_FLIGHT, in_flight // 8)

    return _over_links(open_link, one, deadline)


def fetch(
    open_link: Callable[[Deadline], SshLink], remote: str, local: Path, deadline: Deadline, progress: OnProgress | None = None
) -> Copied:
    """Download."""
    return _over_links(open_link, lambda link: link.download(remote, local, deadline, progress), deadline)


def _over_links(open_link: Callable[[Deadline], SshLink], work: Callable[[SshLink], Copied], deadline: Deadline) -> Copied:
    lost: FieldopsError | None = None
    while True:
        try:
            link = open_link(deadline)
            try:
                return work(link)
            finally:
                link.close()
        except (LinkLost, Unreachable) as error:
            lost = error
        except DeadlinePassed as error:
            raise lost or error from error
        deadline.cancel.wait(min(_RETRY_S, deadline.left()))
        if deadline.passed:
            raise lost

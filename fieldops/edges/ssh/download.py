"""A file from a device through its commands: whole and verified, or not at all; going on where an earlier try was cut."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Any, BinaryIO

from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.disk import storage_faults, sync_folder
from fieldops.edges.ssh.channels import received
from fieldops.edges.ssh.commands import Bounded, Talk
from fieldops.edges.ssh.copies import BLOCK, HASH, PIECE, Copied, mark
from fieldops.edges.ssh.sessions import Sessions
from fieldops.errors import DeviceCannot
from fieldops.ports import OnProgress, Progress

_NEAR_S = 0.003
_NEAR_WINDOW = 512 << 10  # so much is under way unread; on a short way it is enough, and it stays in the processor's cache


class Download:
    """device: what tells it from others; what an earlier try left is of that device only."""

    def __init__(self, link: Sessions, remote: str, local: Path, device: bytes) -> None:
        self._link = link
        self._remote = remote
        self._local = local
        self._device = device

    def run(self, deadline: Deadline, progress: OnProgress) -> Copied:
        size, listed = self._look(deadline)
        part = self._local.with_name(f"{self._local.name}.{mark(self._device, self._remote, listed)}.part")
        with storage_faults(part):
            self._local.parent.mkdir(parents=True, exist_ok=True)
            with part.open("r+b" if part.exists() else "w+b") as file:
                offset, digest = _kept(file, size, deadline)
                file.truncate(offset)
                theirs = self._receive(file, offset, size, digest, deadline, progress)
            if theirs != digest.hexdigest():
                part.unlink()
                raise self._damaged()
            part.replace(self._local)
            sync_folder(self._local.parent)
        return Copied(size, digest.hexdigest(), offset, size - offset)

    def _look(self, deadline: Deadline) -> tuple[int, str]:
        """The file's size, and how it is listed: another size or time is another file."""
        name = shlex.quote(self._remote)
        done = self._link.run(f"LC_ALL=C; export LC_ALL; [ -f {name} ] && wc -c <{name} && ls -ln {name}", deadline)
        lines = done.out.decode("utf-8", "replace").splitlines()
        if done.rc != 0 or len(lines) < 2 or not lines[0].strip().isdigit():
            raise self._cannot(done.err)
        return int(lines[0]), lines[1]

    def _receive(self, file: BinaryIO, offset: int, size: int, digest: Any, deadline: Deadline, progress: OnProgress) -> str:
        """The bytes, synced; returns the device's own hash of the whole, which it takes meanwhile and says on stderr."""
        name = shlex.quote(self._remote)
        bytes_of = f"dd if={name} bs=65536 skip={offset // BLOCK} 2>/dev/null" if offset else f"cat {name}"
        script = f"{HASH}{{ hash {name}; echo; }} >&2 & {bytes_of}; wait"
        window = _NEAR_WINDOW if self._link.round_trip_s < _NEAR_S else None
        said = Bounded()
        at = offset
        with self._link.session(f"sh -c {shlex.quote(script)} </dev/null", deadline, window=window) as channel:
            channel.settimeout(dial.STEP_S)
            while at < size:
                self._link.left(deadline, "the download")
                try:
                    data = received(channel.recv, PIECE)
                except TimeoutError:
                    _hear(channel, said)
                    continue
                if not data:
                    break
                file.write(data)
                digest.update(data)
                at += len(data)
                progress(Progress("download", min(at, size), size))
            file.flush()
            os.fsync(file.fileno())
            _hear(channel, said)
            said.add(Talk(channel, lambda: self._link.left(deadline, "the download")).result().err)
            self._link.check_whole(channel)
        lines = said.data().decode("ascii", "replace").splitlines()
        hashes = [line for line in lines if re.fullmatch("[0-9a-f]{64}", line)]
        if at != size or not hashes:
            raise self._damaged()
        return hashes[0]

    def _damaged(self) -> DeviceCannot:
        return DeviceCannot(
            f"{self._remote} changed while it was read",
            reason="damaged_copy",
            next_step="try again when nothing writes to it",
            device=self._link.device,
        )

    def _cannot(self, said: bytes) -> DeviceCannot:
        words = Bounded()
        words.add(said)
        return DeviceCannot(
            f"{self._remote}: {words.last_line() or 'there is no such file'}",
            reason="cannot_read",
            next_step="check the name and who may read it",
            device=self._link.device,
        )


def _kept(file: BinaryIO, size: int, deadline: Deadline) -> tuple[int, Any]:
    """What an earlier try left, in whole blocks, and its hash; the device's hash of the whole is the judge in the end."""
    wanted = min(os.fstat(file.fileno()).st_size, size) // BLOCK * BLOCK
    digest = hashlib.sha256()
    at = 0
    while at < wanted and (data := file.read(min(PIECE, wanted - at))):
        deadline.check("the download")
        digest.update(data)
        at += len(data)
    file.seek(at)
    return at, digest


def _hear(channel: Channel, said: Bounded) -> None:
    """Both outputs share one window: what is not read of one stops the other."""
    while channel.recv_stderr_ready():
        said.add(received(channel.recv_stderr, 1 << 16))

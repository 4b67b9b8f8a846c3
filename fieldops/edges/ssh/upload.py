"""A file to a device through its commands: whole and verified, or not at all; going on where an earlier try was cut.

It is written by `dd` at an offset, never by `>>`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Any, BinaryIO

from fieldops.deadline import Deadline
from fieldops.edges.disk import storage_faults
from fieldops.edges.ssh.commands import Bounded
from fieldops.edges.ssh.copies import BLOCK, HASH, PIECE, Copied, mark
from fieldops.edges.ssh.flow import Flow
from fieldops.edges.ssh.sessions import Sessions
from fieldops.errors import DeviceCannot
from fieldops.ports import OnProgress, Progress

IN_FLIGHT = 2 << 20  # bytes under way that a cut would lose; the window of OpenSSH


class Upload:
    def __init__(self, link: Sessions, local: Path, remote: str, mode: int, in_flight: int) -> None:
        self._link = link
        self._local = local
        self._remote = remote
        self._mode = mode
        self._in_flight = in_flight

    def run(self, deadline: Deadline, progress: OnProgress) -> Copied:
        with storage_faults(self._local), self._local.open("rb") as file:
            size, part = os.fstat(file.fileno()).st_size, part_name(self._remote, self._local)
            offset, digest = self._begin(file, size, part, deadline)
            moved = self._send(file, offset, size, part, digest, deadline, progress)
            whole = digest.hexdigest()
        self._finish(part, whole, deadline)
        progress(Progress("upload", size, size))
        return Copied(size, whole, offset, moved)

    def _begin(self, file: BinaryIO, size: int, part: str, deadline: Deadline) -> tuple[int, Any]:
        """Where to go on, and the hash of what is there already."""
        base = self._remote.rpartition("/")[2]
        script = (
            f"{HASH}p={shlex.quote(part)}; d={shlex.quote(_folder(self._remote))}\n"
            # what was given up long ago takes room
            f'find "$d" -name {shlex.quote(_glob_quoted(base) + ".*.part")} -mmin +1440 -exec rm -f {{}} + 2>/dev/null\n'
            'n=0; [ -f "$p" ] && n=$(wc -c <"$p"); n=$((n + 0)); b=$((n / 65536))\n'
            f'if [ "$n" -gt {size} ]; then rm -f "$p"; b=0; fi\n'
            'printf "%s " "$b"; [ "$b" -gt 0 ] && hash "$p" "$b"; echo; df -Pk "$d" 2>/dev/null | tail -n 1\n'
        )
        done = self._link.run(script, deadline)
        lines = done.out.decode("ascii", "replace").splitlines() or [""]
        match = re.fullmatch(r"(\d+) ?([0-9a-f]{64})?", lines[0].strip())
        if done.rc is None or match is None:
            raise self._cannot(done.err)
        blocks = int(match[1])
        self._check_room(lines[1] if len(lines) > 1 else "", size - blocks * BLOCK)
        digest = hashlib.sha256()
        offset = 0
        while blocks and offset < blocks * BLOCK:
            deadline.check("the upload", self._link.device)
            data = file.read(min(PIECE, blocks * BLOCK - offset))
            digest.update(data)
            offset += len(data)
        if blocks and digest.hexdigest() != match[2]:
            file.seek(0)
            return 0, hashlib.sha256()
        return offset, digest

    def _check_room(self, df: str, wanted: int) -> None:
        words = df.split()
        if len(words) >= 6 and words[3].isdigit() and int(words[3]) * 1024 < wanted:
            raise DeviceCannot(
                f"{self._remote}: {wanted:,} bytes are to come and {int(words[3]) * 1024:,} are free",
                reason="disk_full",
                next_step="make room on the device, then try again",
                device=self._link.device,
            )

    def _send(
        self, file: BinaryIO, offset: int, size: int, part: str, digest: Any, deadline: Deadline, progress: OnProgress
    ) -> int:
        if offset == size and size:
            return 0
        cut = "" if offset else ': >"$1" && '
        # after a failed write the rest is read away, so that our EOF never meets a closed channel
        script = (
            f'LC_ALL=C; export LC_ALL; umask 077; {cut}dd of="$1" bs=65536 seek="$2" conv=notrunc 2>&1 >/dev/null | '
            '{ while read -r l; do case $l in *records*|*copied*|*bytes*) ;; *) echo "$l" >&2;; esac; done; }; cat >/dev/null'
        )
        line = f"sh -c {shlex.quote(script)} put {shlex.quote(part)} {offset // BLOCK}"
        with self._link.session(line, deadline) as channel:
            stream = Flow(self._link, channel, self._in_flight, deadline)
            at, said = offset, b""
            while at < size:
                data = file.read(min(PIECE, size - at))
                if not data:
                    raise DeviceCannot(
                        f"{self._local} became shorter while it was sent",
                        reason="damaged_copy",
                        next_step="try again when nothing writes to it",
                        device=self._link.device,
                    )
                digest.update(data)
                if not stream.send(data):
                    break
                at += len(data)
                progress(Progress("upload", at, size))
            said = stream.end()
        if said or at < size:
            raise self._cannot(said)
        return size - offset

    def _finish(self, part: str, sha256: str, deadline: Deadline) -> None:
        script = (
            f"{HASH}p={shlex.quote(part)}; to={shlex.quote(self._remote)}\n"
            f'{{ [ -e "$p" ] || : >"$p"; }} && chmod {self._mode:o} "$p" || exit 4\n'
            '{ sync "$p" 2>/dev/null || sync; } & s=$!\n'  # the disk works while the processor hashes
            f'[ "$(hash "$p")" = {sha256} ] || {{ rm -f "$p"; exit 3; }}\n'
            'wait $s && mv -f "$p" "$to" || exit 4\n'
            f"sync {shlex.quote(_folder(self._remote))} 2>/dev/null || sync\n"
        )
        done = self._link.run(script, deadline)
        if done.rc == 3:
            raise DeviceCannot(
                f"{self._remote}: what arrived is not what was sent",
                reason="damaged_copy",
                next_step="try again; if it happens again, check the device's storage",
                device=self._link.device,
            )
        if done.rc != 0:
            raise self._cannot(done.err)

    def _cannot(self, said: bytes) -> DeviceCannot:
        words = Bounded()
        words.add(said)
        full = b"No space left" in said or b"quota exceeded" in said.lower()
        return DeviceCannot(
            f"{self._remote}: {words.last_line() or 'cannot be written'}",
            reason="disk_full" if full else "cannot_write",
            next_step="make room on the device, then try again" if full else "check the folder and who may write there",
            device=self._link.device,
        )


def part_name(remote: str, local: Path) -> str:
    """Of an upload in progress. Another size or time of the local file is another file."""
    known = local.stat()
    return f"{remote}.{mark(local.name, known.st_size, known.st_mtime_ns)}.part"


def _folder(remote: str) -> str:
    folder, slash, _ = remote.rpartition("/")
    return folder or ("/" if slash else ".")


def _glob_quoted(name: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", name)

"""Files to and from a device through its commands: whole and verified, or not at all; going on where an earlier try was cut.

A copy in progress is `NAME.<what it is a copy of>.part`: a late writer of an earlier connection either writes the same bytes at
the same places or another file. It is written by `dd` at an offset, never by `>>`. Before going on, what is there is compared
by hash; after the last byte the whole is hashed again, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from paramiko.channel import Channel

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.disk import storage_faults, sync_folder
from fieldops.edges.ssh.channels import BROKEN, received
from fieldops.edges.ssh.commands import SLICE, Bell, Bounded
from fieldops.errors import DeadlinePassed, DeviceCannot, FieldopsError, LinkLost, Unreachable
from fieldops.ports import OnProgress, Progress

if TYPE_CHECKING:
    from fieldops.edges.ssh.link import SshLink

BLOCK = 64 << 10  # copies go on at a multiple of it: every dd can seek in blocks
IN_FLIGHT = 2 << 20  # bytes under way that a cut would lose; the window of OpenSSH
LEAST_IN_FLIGHT = 256 << 10
PIECE = 1 << 20
_PATIENCE = 3  # steps without a word before more is put under way
_RETRY_S = 0.5

# Finds a SHA-256 program, the fast one first. hash FILE BLOCKS: of the first blocks; hash FILE: of all.
_HASH = r"""LC_ALL=C; export LC_ALL
if command -v openssl >/dev/null 2>&1; then h='openssl dgst -sha256 -r'
elif command -v sha256sum >/dev/null 2>&1; then h=sha256sum
elif command -v busybox >/dev/null 2>&1; then h='busybox sha256sum'
else h='shasum -a 256'; fi
hash() { if [ -n "${2:-}" ]; then dd if="$1" bs=65536 count="$2" 2>/dev/null | $h; else $h <"$1"; fi | { read -r x _; printf %s "$x"; }; }
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """resumed_from: bytes that an earlier try had brought. moved: bytes of the file sent or received by this one."""

    size: int
    sha256: str
    resumed_from: int
    moved: int


def silent(_: Progress) -> None:
    return


def deliver(
    open_link: Callable[[Deadline], SshLink],
    local: Path,
    remote: str,
    deadline: Deadline,
    progress: OnProgress | None = None,
    *,
    mode: int = 0o644,
) -> Copied:
    """Upload over as many links as it takes. After each cut less is left under way, so that many cuts cost little."""
    in_flight = IN_FLIGHT
    moved = 0

    def one(link: SshLink) -> Copied:
        nonlocal in_flight
        try:
            return Upload(link, local, remote, mode, in_flight).run(deadline, progress or silent)
        finally:
            in_flight = max(LEAST_IN_FLIGHT, in_flight // 8)

    done = _over_links(open_link, one, deadline)
    return Copied(done.size, done.sha256, done.resumed_from, moved + done.moved)


def fetch(
    open_link: Callable[[Deadline], SshLink], remote: str, local: Path, deadline: Deadline, progress: OnProgress | None = None
) -> Copied:
    """Download over as many links as it takes."""
    return _over_links(open_link, lambda link: Download(link, remote, local).run(deadline, progress or silent), deadline)


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


class Upload:
    def __init__(self, link: SshLink, local: Path, remote: str, mode: int, in_flight: int) -> None:
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
            f"{_HASH}p={shlex.quote(part)}; d={shlex.quote(_folder(self._remote))}\n"
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
            stream = _Stream(self._link, channel, self._in_flight, deadline)
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
            f"{_HASH}p={shlex.quote(part)}; to={shlex.quote(self._remote)}\n"
            f'[ -e "$p" ] || : >"$p" || exit 4\n'
            f'[ "$(hash "$p")" = {sha256} ] || {{ rm -f "$p"; exit 3; }}\n'
            f'chmod {self._mode:o} "$p" && {{ sync "$p" 2>/dev/null || sync; }} && mv -f "$p" "$to" || exit 4\n'
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


class _Stream:
    """Bytes to a command that reads them all, never more under way than a cut may cost."""

    def __init__(self, link: SshLink, channel: Channel, in_flight: int, deadline: Deadline) -> None:
        self._link = link
        self._channel: Any = channel
        self._deadline = deadline
        self._bell = Bell.on(channel)
        self._said = Bounded()
        self._window: int = self._channel.out_window_size
        self._in_flight = in_flight
        self._waits = 0
        self._push: Callable[[memoryview], int] = channel.send  # type: ignore[assignment]  # the stubs know bytes only
        channel.settimeout(dial.STEP_S)

    def send(self, data: bytes) -> bool:
        """False: it spoke or ended before all was sent, so nothing of the rest is wanted."""
        rest = memoryview(data)
        while rest:
            left = self._left()
            if self._interrupted():
                return False
            if not self._room(left):
                continue
            try:
                rest = rest[self._push(rest[:SLICE]) :]
            except TimeoutError:
                continue
            except BROKEN as error:
                self._link.check_whole(self._channel)
                if isinstance(error, OSError):  # only the channel was closed
                    return False
                raise self._link.gone(error) from error
        return True

    def _room(self, left: float) -> bool:
        """Whether more may be under way; else after a moment's wait for the device to take some."""
        window: int = self._channel.out_window_size
        self._window = max(self._window, window)
        if self._window - window < self._in_flight:
            return True
        with self._channel.lock:
            if self._channel.out_window_size == window:
                self._channel.out_buffer_cv.wait(min(dial.STEP_S, left))
            self._waits = self._waits + 1 if self._channel.out_window_size == window else 0
        if self._waits >= _PATIENCE:  # this server says only at half its window what it has read
            self._waits, self._in_flight = 0, 2 * self._in_flight
        return False

    def _interrupted(self) -> bool:
        if self._channel.recv_stderr_ready() or self._channel.recv_ready():
            self._drain()
        return bool(self._said.data()) or self._channel.closed

    def end(self) -> bytes:
        """EOF, and what it said on stderr."""
        if not self._channel.closed:
            with contextlib.suppress(*BROKEN):
                self._channel.shutdown_write()
        while True:
            self._bell.hush()
            closed = self._channel.closed
            self._drain()
            if closed:
                break
            self._bell.wait(min(dial.STEP_S, self._left()))
        self._link.check_whole(self._channel)
        return self._said.data()

    def _drain(self) -> None:
        while self._channel.recv_ready():
            received(self._channel.recv, 1 << 16)
        while self._channel.recv_stderr_ready():
            self._said.add(received(self._channel.recv_stderr, 1 << 16))

    def _left(self) -> float:
        return self._link.left(self._deadline, "the upload")


class Download:
    def __init__(self, link: SshLink, remote: str, local: Path) -> None:
        self._link = link
        self._remote = remote
        self._local = local

    def run(self, deadline: Deadline, progress: OnProgress) -> Copied:
        size, listed = self._look(deadline)
        part = self._local.with_name(f"{self._local.name}.{_mark(self._link.host_key[1], self._remote, listed)}.part")
        with storage_faults(part):
            self._local.parent.mkdir(parents=True, exist_ok=True)
            with part.open("r+b" if part.exists() else "w+b") as file:
                offset, digest = _kept(file, size, deadline)
                file.truncate(offset)
                self._receive(file, offset, size, digest, deadline, progress)
                file.flush()
                with ThreadPoolExecutor(1) as beside:  # the device hashes while our disk syncs
                    theirs = beside.submit(self._theirs, deadline)
                    os.fsync(file.fileno())
            if theirs.result() != digest.hexdigest():
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

    def _receive(self, file: BinaryIO, offset: int, size: int, digest: Any, deadline: Deadline, progress: OnProgress) -> None:
        name = shlex.quote(self._remote)
        script = f"dd if={name} bs=65536 skip={offset // BLOCK} 2>/dev/null" if offset else f"exec cat {name}"
        at = offset
        with self._link.session(f"sh -c {shlex.quote(script)} </dev/null", deadline) as channel:
            channel.settimeout(dial.STEP_S)
            while at < size:
                self._link.left(deadline, "the download")
                try:
                    data = received(channel.recv, 1 << 17)
                except TimeoutError:
                    _pass_over(channel)
                    continue
                if not data:
                    break
                file.write(data)
                digest.update(data)
                at += len(data)
                progress(Progress("download", min(at, size), size))
            _pass_over(channel)
            if at != size:
                self._link.check_whole(channel)
                raise self._damaged()

    def _theirs(self, deadline: Deadline) -> str:
        done = self._link.run(f"{_HASH}hash {shlex.quote(self._remote)}", deadline)
        return done.out.decode("ascii", "replace").strip()

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


def _pass_over(channel: Channel) -> None:
    """Both outputs share one window: unread complaints would stop the other."""
    while channel.recv_stderr_ready():
        received(channel.recv_stderr, 1 << 16)


def part_name(remote: str, local: Path) -> str:
    """Of an upload in progress. Another size or time of the local file is another file."""
    known = local.stat()
    return f"{remote}.{_mark(local.name, known.st_size, known.st_mtime_ns)}.part"


def _mark(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _folder(remote: str) -> str:
    folder, slash, _ = remote.rpartition("/")
    return folder or ("/" if slash else ".")


def _glob_quoted(name: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", name)

"""Verified copies by digest: `sha256/<hex>`, each read from its source once and hashed while it is written.

A copy cut off stays as `<hex>.part` and goes on from there; what it holds is hashed again from this disk, never from the
source. A name without `.part` is therefore always a whole, verified file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from fieldops.bundles.trust import SHA256_HEX, Target, refuse
from fieldops.deadline import Deadline
from fieldops.edges.disk import copy_whole, link, make_folder, rename, storage_faults, sync_folder, unlink
from fieldops.edges.shelves import free_bytes, prune
from fieldops.errors import StorageFault, TrustRefused
from fieldops.ports import Source

_CHUNK_BYTES = 1 << 20
_OVERLAP_BYTES = 4 << 20  # from this size on a second thread hashes while this one reads and writes
_MOST_BEHIND = 8  # pieces that are read and not yet hashed
_SYNC_BYTES = 16 << 20
_RESERVE_BYTES = 16 << 20  # the log and the trust state must go on being written when a copy has filled the disk

OnBytes = Callable[[int], None]  # bytes of this file there so far


class Signed(Protocol):
    """What is known of a file before it is read. path: below the source's root."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class BlobCache:
    """folder holds `sha256/` and `bundles/`. One writer at a time: the caller holds the lock.

    limit: bytes beyond which old bundles are removed before a new one comes; None: nothing is ever removed.
    free: bytes free on the disk of a folder.
    """

    folder: Path
    limit: int | None = None
    free: Callable[[Path], int] = free_bytes

    def path(self, sha256: str) -> Path:
        """Raises KeyError for what is no SHA-256."""
        if not SHA256_HEX.fullmatch(sha256):
            raise KeyError(sha256)
        return self.folder / "sha256" / sha256

    def open(self, sha256: str) -> BinaryIO:
        """Raises KeyError when there is no verified copy."""
        path = self.path(sha256)
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise KeyError(sha256) from None

    def read(self, target: Target) -> bytes:
        """A verified target's bytes, hashed again. Raises TrustRefused (missing, hash_mismatch), StorageFault."""
        path = self.path(target.sha256)
        with storage_faults(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise refuse("missing", f"there is no copy of {target.name} here") from None
        if hashlib.sha256(data).hexdigest() != target.sha256:
            raise refuse("hash_mismatch", f"the copy of {target.name} on this disk is damaged")
        return data

    def holds(self, target: Target) -> bool:
        """A whole copy is there and its bytes are right; a damaged one is removed."""
        return _holds(self.path(target.sha256), target)

    def copy(self, source: Source, target: Target, deadline: Deadline, on_bytes: OnBytes | None = None) -> Path:
        """The verified copy, brought from source unless it is here. Raises TrustRefused, StorageFault, DeadlinePassed, Cancelled."""
        path = self.path(target.sha256)
        bring(path, source, target, deadline, on_bytes)
        return path

    def compare(self, source: Source, target: Target, deadline: Deadline, on_bytes: OnBytes | None = None) -> None:
        """Read a file of the source to its end and keep nothing. Raises TrustRefused as `copy` does."""
        digest = hashlib.sha256()
        have = 0
        for chunk in source.chunks(target.path, 0):
            have = _within(have + len(chunk), source, target, deadline)
            digest.update(chunk)
            if on_bytes:
                on_bytes(have)
        _whole(have, digest.hexdigest(), source, target)

    def make_room(self, files: Iterable[Target], keep: Collection[str], now: float) -> None:
        """Before the first byte is copied. keep: digests that must stay. Raises StorageFault (disk_full)."""
        with storage_faults(self.folder):
            needed = sum(self._lacking(target) for target in {target.sha256: target for target in files}.values())
            if not needed:
                return
            if self.limit is not None:
                prune(self.folder, keep, now=now, most_bytes=max(0, self.limit - needed))
                if self.free(self.folder) < needed + _RESERVE_BYTES:
                    prune(self.folder, keep, now=now, most_bytes=0)
            free = self.free(self.folder)
        if free < needed + _RESERVE_BYTES:
            raise StorageFault(
                f"{self.folder}: {needed} bytes are to be copied, {max(0, free - _RESERVE_BYTES)} are free",
                reason="disk_full",
                next_step=f"free some space on the disk of {self.folder}, then run the same command again: the copy goes on",
            )

    def _lacking(self, target: Target) -> int:
        path = self.path(target.sha256)
        for there in (path, path.with_name(f"{path.name}.part")):
            try:
                return max(0, target.size - there.stat().st_size)
            except FileNotFoundError:
                continue
        return target.size

    def gather(self, name: str, files: Iterable[tuple[str, str]]) -> Path:
        """`bundles/<name>/` with the blobs under their base names. files: (base name, sha256) of copies that are here."""
        folder = self.folder / "bundles" / name
        with storage_faults(folder):
            make_folder(folder)
            for base, sha256 in files:
                _link(self.path(sha256), folder / base, sha256)
            os.utime(folder)  # in use now: what is pruned first is what was gathered longest ago
            sync_folder(folder)
            sync_folder(folder.parent)
        return folder


def bring(path: Path, source: Source, wanted: Signed, deadline: Deadline, on_bytes: OnBytes | None = None) -> None:
    """What is wanted stands at path afterwards, whole and verified; read from source in one go unless it is there already.

    Raises TrustRefused, StorageFault, DeadlinePassed, Cancelled. What came before a fault stays as `<path>.part`.
    """
    if _holds(path, wanted):
        if on_bytes:
            on_bytes(wanted.size)
        return
    part = path.with_name(f"{path.name}.part")
    with storage_faults(part):
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        resumed = part.exists()
        try:
            _bring(part, source, wanted, deadline, on_bytes)
        except TrustRefused as error:
            if not resumed or error.reason != "hash_mismatch":
                raise
            # Nobody can tell whether the older half was bad, from another stick perhaps; this source gets its own chance.
            _bring(part, source, wanted, deadline, on_bytes)
        part.replace(path)
        sync_folder(path.parent)


def _holds(path: Path, wanted: Signed) -> bool:
    with storage_faults(path):
        try:
            if path.stat().st_size == wanted.size and _digest(path) == wanted.sha256:
                return True
            path.unlink()
        except FileNotFoundError:
            return False
    return False


def _bring(part: Path, source: Source, target: Signed, deadline: Deadline, on_bytes: OnBytes | None) -> None:
    """As _fill; what is damaged, or holds nothing, cannot be gone on with and does not stay."""
    try:
        _fill(part, source, target, deadline, on_bytes)
    except TrustRefused as error:
        if error.reason in {"too_long", "hash_mismatch"} or part.stat().st_size == 0:
            part.unlink(missing_ok=True)
        raise


def _fill(part: Path, source: Source, target: Signed, deadline: Deadline, on_bytes: OnBytes | None) -> None:
    """Bring part up to the target's size; fsynced and hashed when this returns."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        digest, have = _resume(file, target.size)
        if have < target.size or target.size == 0:
            aside = target.size - have >= _OVERLAP_BYTES
            with closing(_hashed(source.chunks(target.path, have), digest, file.fileno() if aside else None)) as chunks:
                for chunk in chunks:
                    have = _within(have + len(chunk), source, target, deadline)
                    file.write(chunk)
                    if on_bytes:
                        on_bytes(have)
        file.flush()
        os.fsync(file.fileno())
    _whole(have, digest.hexdigest(), source, target)


def _hashed(chunks: Iterator[bytes], digest: hashlib._Hash, descriptor: int | None) -> Generator[bytes, None, None]:
    """The same chunks; digest has them all when this is exhausted. descriptor: where the caller writes them; None: in one thread.

    While the caller reads and writes, one thread hashes and another makes durable what is written: the fsync at the end has
    little left to do. Neither falls behind by more than a few pieces, so memory stays bounded.
    """
    if descriptor is None:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk
        return
    with ThreadPoolExecutor(1, "hash") as hashing, ThreadPoolExecutor(1, "sync") as syncing:
        hashed: deque[Future[None]] = deque()
        synced: Future[None] | None = None
        written = 0
        for chunk in chunks:
            if len(hashed) >= _MOST_BEHIND:
                hashed.popleft().result()
            hashed.append(hashing.submit(digest.update, chunk))
            yield chunk
            written += len(chunk)
            if written >= _SYNC_BYTES and (synced is None or synced.done()):
                if synced is not None:
                    synced.result()  # the kernel tells a failed write to one sync only
                synced, written = syncing.submit(_sync_data, descriptor), 0
        for last in (*hashed, *([synced] if synced is not None else [])):
            last.result()


_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def _within(have: int, source: Source, target: Signed, deadline: Deadline) -> int:
    """have, while the caller waits and no more came than was signed."""
    deadline.check(f"{target.name} from {source.name}")
    if have > target.size:
        raise refuse("too_long", f"{target.name} on {source.name} is longer than the {target.size} bytes signed")
    return have


def _whole(have: int, sha256: str, source: Source, target: Signed) -> None:
    if have < target.size:
        raise refuse("hash_mismatch", f"{target.name} on {source.name} is cut off: {have} of {target.size} bytes")
    if sha256 != target.sha256:
        raise refuse("hash_mismatch", f"{target.name} on {source.name} is not the file that was signed")


def _resume(file: BinaryIO, size: int) -> tuple[hashlib._Hash, int]:
    """The digest over what a cut-off copy left, and its length; one that is too long starts anew."""
    digest = hashlib.sha256()
    have = 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        have += len(chunk)
    if have > size:
        file.seek(0)
        file.truncate()
        return hashlib.sha256(), 0
    return digest, have


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(blob: Path, place: Path, sha256: str) -> None:
    """A hard link where the file system has them, else a copy; whole under its name at every moment, in both cases."""
    if place.exists() and (place.samefile(blob) or _digest(place) == sha256):
        return
    part = place.with_name(f".{place.name}.part")
    unlink(part)
    try:
        link(blob, part)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        copy_whole(blob, place)  # FAT, or a file system that limits links
        return
    rename(part, place)

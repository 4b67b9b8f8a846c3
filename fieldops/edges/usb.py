"""Where signed repositories come from: a stick or folder, or a site server. Nothing here is trusted, and nothing follows a link.

Every fault of a source becomes one TrustRefused (missing, too_long, not_regular_file, io_error), raised inside the
generator that reads, since that is where the operating system raises it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.bundles.trust import refuse
from fieldops.errors import TrustRefused, UsageFault

if TYPE_CHECKING:
    import httpx

    from fieldops.ports import Source

REPOSITORY_FOLDER = "FIELDOPS"
CHUNK_BYTES = 1 << 20
# A FIFO or a device in place of a file must not hang the open; a link must not lead elsewhere. Windows has neither flag.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_LINK_ERRNOS = {errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A repository in a folder: `metadata/` and `targets/` below root. Implements ports.Source."""

    root: Path

    @property
    def name(self) -> str:
        return str(self.root)

    def read(self, path: str, limit: int) -> bytes:
        return _read(self, path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        try:
            descriptor = self._open(path)
            try:
                os.lseek(descriptor, offset, os.SEEK_SET)
                while chunk := os.read(descriptor, CHUNK_BYTES):
                    yield chunk
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._refusal(path, error) from error

    def _open(self, path: str) -> int:
        full = self.root / path
        # Folders on the way may be links, as long as they stay inside; the file itself must be none at all.
        inside = Path(os.path.realpath(full)).is_relative_to(os.path.realpath(self.root))
        if not inside or ".." in Path(path).parts:
            raise refuse("not_regular_file", f"{path} leads out of {self.root}")
        if full.is_symlink():
            raise refuse("not_regular_file", f"{path} on {self.root} is a link")
        descriptor = os.open(full, _FLAGS)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise refuse("not_regular_file", f"{path} on {self.root} is no regular file")
        return descriptor

    def _refusal(self, path: str, error: OSError) -> TrustRefused:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return refuse("missing", f"{path} is not on {self.root}")
        if error.errno in _LINK_ERRNOS or os.path.isdir(self.root / path):  # noqa: PTH112 - Path.is_dir raises for some names
            return refuse("not_regular_file", f"{path} on {self.root} is no regular file")
        return refuse("io_error", f"{path} on {self.root} cannot be read: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class LooseMetadata:
    """Metadata alone, with its files directly in a folder, as they were uploaded to a device. Implements ports.Source."""

    folder: Path

    @property
    def name(self) -> str:
        return "the uploaded metadata"

    def read(self, path: str, limit: int) -> bytes:
        return _read(self, path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        if not path.startswith("metadata/"):
            raise refuse("missing", f"{path} is no metadata")
        yield from FolderSource(self.folder).chunks(path.removeprefix("metadata/"), offset)


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A repository behind a site server, in the same layout. Implements ports.Source.

    client: its time-outs bound each wait; redirects are not followed.
    """

    address: str
    client: httpx.Client

    @property
    def name(self) -> str:
        return self.address

    def read(self, path: str, limit: int) -> bytes:
        return _read(self, path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        import httpx

        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        url = f"{self.address.rstrip('/')}/{path}"
        try:
            with self.client.stream("GET", url, headers=headers, follow_redirects=False) as response:
                if response.status_code == 416:  # nothing after offset
                    return
                # A server without ranges sends the whole file again; what is known already is dropped.
                skip = self._offset_of(response, path, offset)
                for chunk in response.iter_raw(CHUNK_BYTES):
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    yield chunk[skip:]
                    skip = 0
        except httpx.HTTPError as error:
            raise refuse("io_error", f"{url} cannot be read: {error or type(error).__name__}") from error

    def _offset_of(self, response: httpx.Response, path: str, offset: int) -> int:
        """Bytes to drop from the front of the answer."""
        if response.status_code in {403, 404, 410}:
            raise refuse("missing", f"{path} is not on {self.address}")
        if response.status_code == 200:
            return offset
        if response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
            return 0
        raise refuse("io_error", f"{path} on {self.address}: HTTP {response.status_code}")


def _read(source: Source, path: str, limit: int) -> bytes:
    """At most limit bytes; one more is too_long."""
    parts = bytearray()
    for chunk in source.chunks(path, 0):
        parts += chunk
        if len(parts) > limit:
            raise refuse("too_long", f"{path} on {source.name} is longer than {limit} bytes")
    return bytes(parts)


def repository_in(folder: Path) -> Path | None:
    """The folder that holds `metadata/`: `folder/FIELDOPS` or the folder itself; None when neither does."""
    for root in (folder / REPOSITORY_FOLDER, folder):
        if (root / "metadata").is_dir():
            return root
    return None


class StickMedia:
    """Removable media of this computer. Implements ports.Media.

    also: further folders to look at, such as the sample fleet's stick. mounts None: where this system mounts media.
    """

    def __init__(self, also: Sequence[Path] = (), *, mounts: Sequence[Path] | None = None) -> None:
        self._also = tuple(also)
        self._mounts = tuple(mounts) if mounts is not None else None

    def find(self) -> list[Source]:
        folders = [*self._also, *(self._mounts if self._mounts is not None else _mounted())]
        found: dict[str, Source] = {}
        for folder in folders:
            try:
                root = repository_in(folder)
            except OSError:  # a mount that answers no more is no stick
                continue
            if root is not None:
                found.setdefault(os.path.realpath(root), FolderSource(root))
        return list(found.values())

    def at(self, path: str) -> Source:
        if path.startswith(("http://", "https://")):
            import httpx

            return HttpSource(path, httpx.Client(timeout=15.0))
        try:
            root = repository_in(Path(path).expanduser())
        except OSError as error:
            raise UsageFault(f"{path}: {error.strerror}", reason="no_stick", next_step="check the stick and its path") from error
        if root is None:
            raise UsageFault(
                f"{path} holds no fieldops repository",
                reason="no_stick",
                next_step="give the stick's folder (the one with FIELDOPS in it), or http(s)://...",
            )
        return FolderSource(root)


def _mounted() -> list[Path]:
    if sys.platform == "win32":
        return [Path(f"{letter}:\\") for letter in "DEFGHIJKLMNOPQRSTUVWXYZ"]
    patterns = ("Volumes/*",) if sys.platform == "darwin" else ("run/media/*/*", "media/*/*", "media/*", "mnt/*")
    found: list[Path] = []
    for pattern in patterns:
        try:
            found += sorted(Path("/").glob(pattern))
        except OSError:  # another user's media folder may not be read
            continue
    return found

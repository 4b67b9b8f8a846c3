"""Where signed repositories come from: a stick or folder, or a site server. Nothing here is trusted, and nothing follows a link.

Every fault of a source becomes one TrustRefused (missing, too_long, not_regular_file, io_error), raised inside the
generator that reads, since that is where the operating system raises it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.bundles.trust import refuse
from fieldops.edges.mounts import mounted
from fieldops.errors import TrustRefused, UsageFault

if TYPE_CHECKING:
    import httpx

    from fieldops.deadline import Deadline
    from fieldops.ports import Source

REPOSITORY_FOLDER = "FIELDOPS"
CHUNK_BYTES = 256 << 10  # fits the processor's cache, where it is hashed and written from
_MOST_FOLDERS = 256  # at the top of a medium that are looked into
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
        full = self._find(path)
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

    def _find(self, path: str) -> Path:
        """The file, whatever the case of its name: FAT keeps upper-case short names, and some systems show them so.

        Only where no file has the very name, and one alone matches; signed names are all lower-case.
        """
        place = self.root
        for part in Path(path).parts:
            exact = place / part
            if os.path.lexists(exact) or part == "..":
                place = exact
                continue
            try:
                alike = [name for name in os.listdir(place) if name.lower() == part]  # noqa: PTH208 - no Path object each
            except OSError:
                alike = []
            place = place / alike[0] if len(alike) == 1 else exact
        return place

    def _refusal(self, path: str, error: OSError) -> TrustRefused:
        if not os.path.isdir(self.root):  # noqa: PTH112 - Path.is_dir raises for some names
            return refuse(
                "io_error",
                f"{self.root} is not there any more: was it pulled out?",
                next_step="plug it, or another one with the same bundle, in again and run the same command: the copy goes on",
            )
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
            raise self._away(f"{url} cannot be read: {error or type(error).__name__}") from error

    def _offset_of(self, response: httpx.Response, path: str, offset: int) -> int:
        """Bytes to drop from the front of the answer."""
        if response.status_code in {403, 404, 410}:
            raise refuse("missing", f"{path} is not on {self.address}")
        if response.status_code == 200:
            return offset
        if response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
            return 0
        raise self._away(f"{path} on {self.address}: HTTP {response.status_code}")

    @staticmethod
    def _away(message: str) -> TrustRefused:
        return refuse("io_error", message, next_step="check the address, the cable and the server, then try again")


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
    for root in (folder / REPOSITORY_FOLDER, folder / REPOSITORY_FOLDER.lower(), folder):
        if _is_repository(root):
            return root
    return None


def repositories_in(folder: Path) -> list[Path]:
    """All of a medium: the one at its top, and one in each of its folders. Raises OSError.

    `._FIELDOPS` and the like, which other systems leave behind, are none: they hold no metadata.
    """
    found = [root] if (root := repository_in(folder)) else []
    for name in sorted(os.listdir(folder))[:_MOST_FOLDERS]:  # noqa: PTH208 - a stick may hold very many
        inner = folder / name
        if name.startswith(".") or inner in found or name.upper() == REPOSITORY_FOLDER:
            continue
        try:
            inside = repository_in(inner) if inner.is_dir() and not inner.is_symlink() else None
        except OSError:
            continue
        # `folder/metadata` is a part of the repository in `folder`, and holds none.
        if inside is not None and inside not in found:
            found.append(inside)
    return found


def _is_repository(root: Path) -> bool:
    return (root / "metadata").is_dir() or (root / "METADATA").is_dir()


class StickMedia:
    """Removable media of this computer. Implements ports.Media.

    also: further folders to look at, such as the sample fleet's stick. mounts: gives where media are mounted now.
    site: asks for the site server, see site_server.py.
    """

    def __init__(
        self,
        also: Sequence[Path] = (),
        *,
        mounts: Callable[[], Sequence[Path]] = mounted,
        site: Callable[[Deadline], Source] | None = None,
    ) -> None:
        self._also = tuple(also)
        self._mounts = mounts
        self._site = site

    def find(self) -> list[Source]:
        found: dict[str, Source] = {}
        for folder in [*self._also, *self._mounts()]:
            try:
                roots = repositories_in(folder)
            except OSError:  # a mount that answers no more is no stick
                continue
            for root in roots:
                found.setdefault(os.path.realpath(root), FolderSource(root))
        return list(found.values())

    def site(self, deadline: Deadline) -> Source | None:
        return self._site(deadline) if self._site is not None else None

    def at(self, path: str) -> Source:
        if path.startswith(("http://", "https://")):
            import httpx

            return HttpSource(path, httpx.Client(timeout=15.0))
        try:
            roots = repositories_in(Path(path).expanduser())
        except OSError as error:
            raise UsageFault(f"{path}: {error.strerror}", reason="no_stick", next_step="check the stick and its path") from error
        if not roots:
            raise UsageFault(
                f"{path} holds no fieldops repository",
                reason="no_stick",
                next_step="give the stick's folder (the one with FIELDOPS in it), or http(s)://...",
            )
        top = repository_in(Path(path).expanduser())
        if top is None and len(roots) > 1:
            raise UsageFault(
                f"{path} holds {len(roots)} repositories",
                reason="several_repositories",
                next_step=f"name one: {', '.join(str(root) for root in roots[:8])}",
            )
        return FolderSource(top or roots[0])

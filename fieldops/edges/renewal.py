"""A renewal: newer metadata in one small file, and how it gets onto a stick. Nothing in it is trusted before it is verified.

The file is a zip of `metadata/...` and `targets/policy/...` as on a stick. It is read whole, within limits, and its members
are looked up by exact name; nothing is ever unpacked to a path that it names.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldops.bundles.trust import refuse
from fieldops.edges.disk import storage_faults, sync_folder, write_whole
from fieldops.edges.usb import repository_in
from fieldops.errors import StorageFault, TrustRefused, UsageFault

FILE_LIMIT_BYTES = 4 << 20  # of the file, and of all that is in it
_MEMBERS = 512
_METADATA = re.compile(r"metadata/(?:[1-9][0-9]{0,11}\.)?[a-z0-9][a-z0-9_-]{0,31}\.json")
_OLD = re.compile(r"[1-9][0-9]{0,11}\.(?!root\.)[a-z0-9][a-z0-9_-]{0,31}\.json")


@dataclass(frozen=True, slots=True)
class RenewalFile:
    """Implements ports.Source. files: by path on a stick."""

    name: str
    files: Mapping[str, bytes]

    @classmethod
    def read_from(cls, path: Path) -> RenewalFile:
        """Raises UsageFault when the file cannot be read, TrustRefused (oversized, malformed, missing) for what is none."""
        try:
            if path.stat().st_size > FILE_LIMIT_BYTES:
                raise refuse("oversized", f"{path} is larger than a renewal may be ({FILE_LIMIT_BYTES} bytes)")
            data = path.read_bytes()
        except OSError as error:
            raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name the renewal file") from error
        files = dict(_members(path, data))
        if "metadata/timestamp.json" not in files:
            raise refuse("missing", f"{path} carries no timestamp.json", next_step=_ASK)
        return cls(str(path), files)

    def read(self, path: str, limit: int) -> bytes:
        data = b"".join(self.chunks(path, 0))
        if len(data) > limit:
            raise refuse("too_long", f"{path} in {self.name} is longer than {limit} bytes")
        return data

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        if path not in self.files:
            raise refuse("missing", f"{path} is not in {self.name}")
        yield self.files[path][offset:]


_ASK = "ask the release team to send the renewal again (`fieldops release publish --renewal FILE`)"


def _members(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # zipfile never yields more than a member's stated size
            if len(members) > _MEMBERS or sum(member.file_size for member in members) > FILE_LIMIT_BYTES:
                raise refuse("oversized", f"{path} unpacks to more than a renewal may hold")
            for member in members:
                if _METADATA.fullmatch(member.filename) or member.filename.startswith("targets/policy/"):
                    yield member.filename, archive.read(member)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise refuse("malformed", f"{path} is no renewal: {error}", next_step=_ASK) from error


@dataclass(frozen=True, slots=True)
class StickFolder:
    """A stick that may be written to. Implements operations.renew.Renewable."""

    root: Path

    @classmethod
    def at(cls, path: str) -> StickFolder:
        root = repository_in(Path(path).expanduser())
        if root is None:
            raise UsageFault(f"{path} holds no fieldops repository", reason="no_stick", next_step="give the stick's folder")
        return cls(root)

    @property
    def name(self) -> str:
        return str(self.root)

    def renew(self, metadata: Mapping[str, bytes], policy: Mapping[str, bytes]) -> None:
        """Raises TrustRefused (io_error) when the stick cannot be written. The timestamp last: a stick pulled out before is as it was."""
        try:
            for path, data in policy.items():
                _put(self.root / path, data)
            for name, data in metadata.items():
                if name != "timestamp.json":
                    _put(self.root / "metadata" / name, data)
            write_whole(self.root / "metadata" / "timestamp.json", metadata["timestamp.json"], 0o644)
            self._drop_older(metadata)
        except StorageFault as error:  # the stick's fault, not this laptop's
            raise self._unwritable(error.message) from error
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error

    def _drop_older(self, metadata: Mapping[str, bytes]) -> None:
        folder = self.root / "metadata"
        for path in folder.iterdir():
            if _OLD.fullmatch(path.name) and path.name not in metadata:
                path.unlink()
        sync_folder(folder)

    def _unwritable(self, why: str) -> TrustRefused:
        return refuse(
            "io_error",
            f"{self.name} cannot be written: {why}",
            next_step="check its write protection; this laptop itself is renewed, and takes the stick's payloads as they are",
        )


def _put(path: Path, data: bytes) -> None:
    with storage_faults(path):
        if path.is_file() and path.read_bytes() == data:
            return
    write_whole(path, data, 0o644)

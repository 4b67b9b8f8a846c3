"""A release repository on disk: what is published, what is pending, and how a publication is made whole.

    repo/metadata/   published, as on a stick     repo/targets/    payloads under `<sha256>.<file>`
    repo/pending/<role>.json                      a role being changed and signed; it may be carried to its signers and back
    repo/committed/                               a publication that is decided; only there between two renames
    repo/.lock                                    one writer at a time, across processes

A publication is written aside, decided by one rename, and then brought into place; after a power cut the next call of a
release verb finishes what was decided. In metadata/ itself new names come first and the timestamp, which names them, last.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tuf.api.exceptions import RepositoryError, StorageError
from tuf.api.metadata import Metadata, Root, Signed, Targets

from fieldops.decoding import decoder
from fieldops.edges.disk import storage_faults, sync_folder, write_whole
from fieldops.edges.locks import exclusive
from fieldops.edges.tuf_roles import OFFLINE, PLAN, Tally, check_role, delegator_of, tally
from fieldops.errors import StorageFault, UsageFault
from fieldops.ports import Clock

S = TypeVar("S", bound=Signed)

WAIT_S = 10.0  # for another release verb on the same repository
_ORDER = "order.json"


@dataclass(frozen=True, slots=True)
class RepositoryFolder:
    """Reading needs nothing; every writing call needs `held`."""

    repo: Path
    clock: Clock

    @property
    def metadata(self) -> Path:
        return self.repo / "metadata"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One writer; what a cut left of a decided publication is finished first."""
        with exclusive(self.repo / ".lock", "the release repository", wait_s=WAIT_S), storage_faults(self.repo):
            self._finish()
            yield

    # --- published ------------------------------------------------------------------------------------------------

    def newest(self, role: str) -> int:
        """0: nothing is published."""
        pattern = re.compile(rf"([1-9][0-9]*)\.{check_role(role)}\.json")
        with storage_faults(self.metadata):
            found = [pattern.fullmatch(path.name) for path in self.metadata.iterdir()]
        return max((int(match[1]) for match in found if match), default=0)

    def published(self, role: str) -> Metadata[Any]:
        return load(self.metadata / self._file(role))

    def published_bytes(self, role: str) -> bytes:
        path = self.metadata / self._file(role)
        with storage_faults(path):
            return path.read_bytes()

    def published_signed(self, role: str, kind: type[S]) -> S:
        return _as(self.published(role), kind)

    def _file(self, role: str) -> str:
        number = self.newest(role)
        if role == "timestamp" and (self.metadata / "timestamp.json").exists():
            return "timestamp.json"
        if not number:
            raise UsageFault(
                f"no {role} is published yet",
                reason="not_published",
                next_step="let its signers sign what is pending, then `fieldops release publish`",
            )
        return f"{number}.{role}.json"

    # --- pending --------------------------------------------------------------------------------------------------

    def pending_path(self, role: str) -> Path:
        return self.repo / "pending" / f"{check_role(role)}.json"

    def pending(self, role: str) -> Metadata[Any] | None:
        path = self.pending_path(role)
        return load(path) if path.exists() else None

    def pending_roles(self) -> list[str]:
        return [role for role in OFFLINE if self.pending_path(role).exists()]

    def put_pending(self, role: str, metadata: Metadata[Any]) -> None:
        write_whole(self.pending_path(role), metadata.to_bytes(), 0o644)

    def current(self, role: str) -> Metadata[Any]:
        """Pending, else published."""
        return self.pending(role) or self.published(role)

    def delegator(self, role: str) -> Root | Targets:
        """Pending or else published: the one that will count signatures at the next publication."""
        found = self.current(delegator_of(role)).signed
        assert isinstance(found, Root | Targets)
        return found

    @contextmanager
    def edit(self, role: str) -> Iterator[Any]:
        """The role's signed part, one version above what is published; signatures of before are dropped."""
        metadata = self.pending(role)
        if metadata is None:
            metadata = self.published(role)
            metadata.signed.version += 1
        metadata.signed.expires = self.until(role)
        metadata.signatures.clear()
        yield metadata.signed
        self.put_pending(role, metadata)

    def tallies(self, role: str, metadata: Metadata[Any]) -> list[Tally]:
        """A new root is counted twice: by itself, and by the root before it."""
        if role == "root":
            own = _as(metadata, Root)
            found = [tally(own, role, metadata)]
            if own.version > 1:
                found.append(tally(self.published_signed(role, Root), role, metadata, by=" (keys of the root before)"))
            return found
        return [tally(self.delegator(role), role, metadata)]

    # --- time -----------------------------------------------------------------------------------------------------

    def at(self, now: float | None = None) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.clock.now() if now is None else now, tz=dt.UTC).replace(microsecond=0)

    def until(self, role: str) -> dt.datetime:
        path = self.repo / "validity.json"
        with storage_faults(path):
            days = decoder(dict[str, int]).decode(path.read_bytes()) if path.exists() else {}
        return self.at() + dt.timedelta(days=days.get(role, PLAN[role].days))

    def last_timestamp(self) -> int:
        """The highest ever signed, on sticks too."""
        path = self.repo / "timestamp.last"
        with storage_faults(path):
            return int(path.read_text("ascii")) if path.exists() else 0

    def next_timestamp(self, at: dt.datetime, *, anew: bool = False) -> int:
        """At least the UTC seconds, and higher than any before (FORMATS §6) unless a new key begins anew."""
        version = int(at.timestamp()) if anew else max(self.last_timestamp() + 1, int(at.timestamp()))
        write_whole(self.repo / "timestamp.last", str(version).encode("ascii"), 0o644)
        return version

    # --- a publication --------------------------------------------------------------------------------------------

    def commit(self, files: Mapping[str, bytes], order: Sequence[str]) -> None:
        """Bring files into metadata/ in that order. Decided by one rename: a cut before it changes nothing."""
        aside, decided = self.repo / ".publishing", self.repo / "committed"
        if aside.exists():
            shutil.rmtree(aside)
        for name, data in files.items():
            write_whole(aside / name, data, 0o644)
        write_whole(aside / _ORDER, msgspec.json.encode(list(order)), 0o644)
        aside.replace(decided)
        sync_folder(self.repo)
        self._finish()

    def _finish(self) -> None:
        decided = self.repo / "committed"
        if not decided.exists():
            return
        for name in decoder(list[str]).decode((decided / _ORDER).read_bytes()):
            write_whole(self.metadata / name, (decided / name).read_bytes(), 0o644)
        for role in OFFLINE:
            pending = self.pending(role)
            if pending is not None and pending.signed.version <= self.newest(role):
                self.pending_path(role).unlink()
        # Out of the way by one rename: half a folder must never look like a decision.
        aside = self.repo / ".publishing"
        if aside.exists():
            shutil.rmtree(aside)
        decided.replace(aside)
        sync_folder(self.repo)
        shutil.rmtree(aside)


def load(path: Path) -> Metadata[Any]:
    try:
        return Metadata[Any].from_file(str(path))
    except (RepositoryError, StorageError) as error:
        raise StorageFault(f"{path}: {error}", reason="corrupt", next_step="restore it from the repository's backup") from error


def _as(metadata: Metadata[Any], kind: type[S]) -> S:
    signed = metadata.signed
    if not isinstance(signed, kind):
        raise StorageFault(
            f"{kind.type} metadata was expected, and this is {signed.type}",
            reason="corrupt",
            next_step="restore it from the repository's backup",
        )
    return signed

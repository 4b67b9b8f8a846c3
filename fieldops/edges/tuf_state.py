"""The files in which a computer keeps what it trusts, and the order in which they change.

    metadata/<n>.root.json ... timestamp.json    as on a stick; timestamp.json is replaced last, so the set is whole
    state.json                                   what of it is needed without loading tuf; written after the set

Power may go at any line: what is found then is the old set or the new one, and a summary that is behind is made again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from fieldops.bundles.trust import Target, policy_targets_in, refuse
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.edges.blobs import BlobCache
from fieldops.edges.disk import storage_faults, sync_folder, unlink, write_whole
from fieldops.edges.locks import exclusive
from fieldops.errors import StorageFault, TrustRefused

if TYPE_CHECKING:
    from fieldops.edges.tuf_refresh import Verified

_METADATA_FILE = re.compile(r"(?:[1-9][0-9]{0,11}\.)?[a-z0-9][a-z0-9_-]{0,31}\.json")
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,11})\.root\.json")
_FIRST_PLAUSIBLE_TIME = 1_500_000_000  # a timestamp version below is a counter, no time


class State(Struct, frozen=True, kw_only=True):
    v: int = 1
    root_version: int
    root_sha256: str
    timestamp_version: int = 0
    expires: float | None = None
    clock_floor: float = 0.0
    targets: list[Target] = []
    lapsed: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class CachedPayload:
    """Verified metadata and blobs of this computer. Implements ports.Payload."""

    metadata_folder: Path
    blobs: BlobCache

    def metadata(self) -> dict[str, bytes]:
        return _metadata_files(self.metadata_folder)

    def open(self, sha256: str) -> BinaryIO:
        return self.blobs.open(sha256)


@dataclass(frozen=True, slots=True)
class TrustFolder:
    """Creates nothing until something is kept. Whoever writes holds `held`."""

    folder: Path

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @contextmanager
    def held(self, deadline: Deadline | None) -> Iterator[None]:
        """One writer of this state at a time, across processes; a second one waits as long as its caller does."""
        with exclusive(self.folder / ".lock", "the trust state", wait_s=deadline.left() if deadline else 2.0):
            if deadline:
                deadline.check("the trust state")
            yield

    # --- reading ----------------------------------------------------------------------------------------------------

    def roots(self) -> dict[int, bytes]:
        files = _metadata_files(self.metadata)
        return {int(match[1]): data for name, data in files.items() if (match := _ROOT_FILE.fullmatch(name))}

    def own(self) -> dict[str, bytes]:
        """All but the roots."""
        return {name: data for name, data in _metadata_files(self.metadata).items() if not _ROOT_FILE.fullmatch(name)}

    def state(self) -> State | None:
        """None before the first root. Raises StorageFault."""
        path = self.folder / "state.json"
        with storage_faults(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = b""
        if data:
            return _decode_state(data, path)
        roots = self.roots()
        if not roots:
            return None
        newest = max(roots)
        sha256 = hashlib.sha256(roots[newest]).hexdigest()
        return State(root_version=newest, root_sha256=sha256, expires=_expires(roots[newest]))

    def policy_target(self, name: str) -> Target | None:
        state = self.state()
        if state is None:
            return None
        return next((target for target in policy_targets_in(state.targets) if target.name == name), None)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def keep(self, verified: Verified, state: State | None) -> None:
        """New versioned files first, then the timestamp that names them, then the summary."""
        for name, data in verified.files.items():
            path = self.metadata / name
            if name != "timestamp.json" and not (path.exists() and path.read_bytes() == data):
                write_whole(path, data)
        write_whole(self.metadata / "timestamp.json", verified.files["timestamp.json"])
        roots = self.roots()
        newest = max(roots)
        self.write(
            State(
                root_version=newest,
                root_sha256=hashlib.sha256(roots[newest]).hexdigest(),
                timestamp_version=verified.timestamp_version,
                expires=verified.expires,
                clock_floor=max(state.clock_floor if state else 0.0, _signed_time(verified)),
                targets=list(verified.targets),
                lapsed=verified.lapsed,
            )
        )
        for path in self.metadata.iterdir():
            if _METADATA_FILE.fullmatch(path.name) and not _ROOT_FILE.fullmatch(path.name) and path.name not in verified.files:
                unlink(path)
        sync_folder(self.metadata)

    def keep_roots(self, roots: dict[int, bytes], state: State | None) -> None:
        for version, data in sorted(roots.items()):
            self.keep_older_root(version, data)
        newest = max(roots)
        sha256 = hashlib.sha256(roots[newest]).hexdigest()
        if state is None:
            self.write(State(root_version=newest, root_sha256=sha256, expires=_expires(roots[newest])))
        else:
            self.write(msgspec.structs.replace(state, root_version=newest, root_sha256=sha256))

    def keep_older_root(self, version: int, data: bytes) -> None:
        write_whole(self.metadata / f"{version}.root.json", data)

    def write(self, state: State) -> None:
        write_whole(self.folder / "state.json", msgspec.json.encode(state))

    def sweep(self) -> None:
        """What a run that was cut off left: scratch folders, and files that never got their names."""
        with storage_faults(self.folder):
            for path in self.folder.glob(".verify-*"):
                shutil.rmtree(path, ignore_errors=True)
            for pattern in (".*.part", "metadata/.*.part"):
                for path in self.folder.glob(pattern):
                    unlink(path)


def _signed_time(verified: Verified) -> float:
    """Every signing makes the timestamp's version at least the UTC seconds of that moment (FORMATS §6).

    Never past what is trusted now: a release clock that was wrong once must not lock everybody out for ever.
    """
    version = float(verified.timestamp_version)
    return min(version, verified.expires - 1) if version >= _FIRST_PLAUSIBLE_TIME else 0.0


def _expires(root: bytes) -> float | None:
    import datetime as dt

    try:
        return dt.datetime.fromisoformat(json.loads(root)["signed"]["expires"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


def _metadata_files(folder: Path) -> dict[str, bytes]:
    with storage_faults(folder):
        if not folder.is_dir():
            return {}
        found: dict[str, bytes] = {}
        for path in sorted(folder.iterdir()):
            if not _METADATA_FILE.fullmatch(path.name):
                continue
            try:
                found[path.name] = path.read_bytes()
            except FileNotFoundError:  # another process moved on between the two reads
                continue
        return found


def _decode_state(data: bytes, path: Path) -> State:
    try:
        state = decoder(State).decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StorageFault(
            f"{path} is damaged: {error}", reason="corrupt", next_step=f"move {path} away; the next stick rebuilds it"
        ) from error
    if state.v > 1:
        raise StorageFault(f"{path} is of a newer fieldops", reason="newer_schema", next_step="update fieldops on this computer")
    return state


def no_root() -> TrustRefused:
    return refuse(
        "missing",
        "no root of trust is pinned here",
        next_step="pin the release team's root: `fieldops policy pin ROOT.json --expect-fingerprint HEX`",
    )

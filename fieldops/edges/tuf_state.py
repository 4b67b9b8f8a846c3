"""The files in which a computer keeps what it trusts, and the order in which they change.

    metadata/<n>.root.json ... timestamp.json    as on a stick; timestamp.json is replaced last, so the set is whole
    state.json                                   what of it is needed without loading tuf; written after the set
    ../keys/trust-root.json                      the newest root ever seen here, beside the keys: it outlives the trust folder

Power may go at any line: what is found then is the old set or the new one, and a summary that is behind is made again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
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
    """clock_floor: raised by store receipts. signed_floor: by timestamps, and only as good as the keys that signed them."""

    v: int = 1
    root_version: int
    root_sha256: str
    timestamp_version: int = 0
    expires: float | None = None
    clock_floor: float = 0.0
    signed_floor: float = 0.0
    targets: list[Target] = []
    lapsed: dict[str, str] = {}


class SeenRoot(Struct, frozen=True, kw_only=True):
    """The newest root that this computer ever believed."""

    version: int
    sha256: str


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

    @property
    def _seen(self) -> Path:
        return self.folder.parent / "keys" / f"{self.folder.name}-root.json"

    def seen(self) -> SeenRoot | None:
        """Raises StorageFault."""
        with storage_faults(self._seen):
            try:
                return decoder(SeenRoot).decode(self._seen.read_bytes())
            except FileNotFoundError:
                return None
            except (msgspec.DecodeError, RecursionError) as error:
                raise StorageFault(
                    f"{self._seen} is damaged: {error}",
                    reason="corrupt",
                    next_step="bring it back from a backup, or set this computer up anew in a new home",
                ) from error

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
                clock_floor=state.clock_floor if state else 0.0,
                signed_floor=max(state.signed_floor if state else 0.0, _signed_time(verified)),
                targets=list(verified.targets),
                lapsed=verified.lapsed,
            )
        )
        for path in self.metadata.iterdir():
            if _METADATA_FILE.fullmatch(path.name) and not _ROOT_FILE.fullmatch(path.name) and path.name not in verified.files:
                unlink(path)
        sync_folder(self.metadata)

    def keep_roots(self, roots: Mapping[int, bytes], state: State | None) -> None:
        for version, data in sorted(roots.items()):
            self.keep_older_root(version, data)
        self.settle(state)

    def settle(self, state: State | None) -> None:
        """Summary and memory follow the roots that lie here; also what a cut between the files left behind.

        What timestamps said of the time and of their own order goes with the keys that said it: a wrong clock at the office,
        or a stolen key, must not bind anybody beyond its rotation. Only root keys can bring that about.
        """
        roots = self.roots()
        newest = max(roots)
        sha256 = hashlib.sha256(roots[newest]).hexdigest()
        if state is None:
            self.write(State(root_version=newest, root_sha256=sha256, expires=_expires(roots[newest])))
        elif state.root_version < newest:
            if timestamp_keys_went(roots, state.root_version):
                state = msgspec.structs.replace(state, timestamp_version=0, signed_floor=0.0)
            self.write(msgspec.structs.replace(state, root_version=newest, root_sha256=sha256))
        seen = self.seen()
        if seen is None or seen.version < newest:
            write_whole(self._seen, msgspec.json.encode(SeenRoot(version=newest, sha256=sha256)))

    def check_seen(self, version: int, data: bytes) -> None:
        """Raises TrustRefused (rollback) for a root from before the newest one ever seen here, or another one of its version."""
        seen = self.seen()
        if seen is None or seen.version < version:
            return
        if seen.version == version and seen.sha256 == hashlib.sha256(data).hexdigest():
            return
        raise refuse(
            "rollback",
            f"root {version} is not enough: this computer has seen root {seen.version} ({seen.sha256[:16]})",
            next_step=f"ask the release team for root {seen.version} or a newer one; no reset goes back behind it",
        )

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


def timestamp_keys_went(roots: Mapping[int, bytes], since: int) -> bool:
    """Whether a root after `since` took the timestamp from a key that had it. roots: each signed by the one before.

    False when `since` itself is not among them: nothing can be told then.
    """
    chain = [_timestamp_keys(data) for version, data in sorted(roots.items()) if version >= since]
    return since in roots and any(not before <= after for before, after in pairwise(chain))


def _timestamp_keys(root: bytes) -> set[str]:
    return set(json.loads(root)["signed"]["roles"]["timestamp"]["keyids"])


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

"""One verification of a TUF repository by python-tuf, in a scratch folder; every exception of tuf ends here.

Own state and a source go in; what is trusted now comes out, as bytes and values. Nothing of the caller's is changed, so a
refusal leaves nothing half trusted. Only roots come out of a refused verification: each was signed by the one before,
and TUF wants them kept at once (a withheld later file must not undo a revocation).
"""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import DelegatedRole, Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from fieldops.bundles.trust import POLICY_CHANNEL, Target, refuse, signed_target
from fieldops.deadline import Deadline
from fieldops.edges.tuf_reasons import expired, refusal
from fieldops.errors import StorageFault, TrustRefused
from fieldops.ports import Source

ROOT_LIMIT_BYTES = 512_000
MOST_METADATA_BYTES = 2 << 20  # of any one file
_MOST_CHANNELS = 64
LIMITS = UpdaterConfig(
    root_max_length=ROOT_LIMIT_BYTES,
    timestamp_max_length=16 << 10,
    snapshot_max_length=1 << 20,
    targets_max_length=MOST_METADATA_BYTES,
    max_delegations=_MOST_CHANNELS,
)
_ROOT_FILE = re.compile(r"([1-9][0-9]*)\.root\.json")
_TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class Verified:
    """All metadata that is trusted now. files: names as on a stick -> bytes, without the roots.

    lapsed: channel role -> why its targets may not be used; the metadata itself is authentic.
    """

    files: dict[str, bytes]
    timestamp_version: int
    expires: float  # Unix seconds of the earliest, over the four top roles, the policy and the channels in use
    targets: tuple[Target, ...]
    lapsed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """roots: version -> bytes, from the one given on. Exactly one of verified and refusal is there.

    outdated: the source's timestamp is authentic but older than ours, so the source may still carry payloads.
    stale_at: the last instant at which all of it was valid, when that is over; None: it is valid now.
    """

    roots: dict[int, bytes]
    verified: Verified | None = None
    refusal: TrustRefused | None = None
    outdated: bool = False
    stale_at: float | None = None


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Metadata already at hand, as a source. Implements ports.Source."""

    name: str
    files: Mapping[str, bytes]  # by path: `metadata/timestamp.json`

    def read(self, path: str, limit: int) -> bytes:
        data = b"".join(self.chunks(path, 0))
        if len(data) > limit:
            raise refuse("too_long", f"{path} of {self.name} is longer than {limit} bytes")
        return data

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        if path not in self.files:
            raise refuse("missing", f"{path} is not in {self.name}")
        yield self.files[path][offset:]


@dataclass(slots=True)
class SourceFetcher(FetcherInterface):
    """Hands a source's metadata to tuf and remembers the last file, which is the one an exception is about."""

    source: Source
    deadline: Deadline
    last: str = ""
    data: bytearray = field(default_factory=bytearray)

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last, self.data = url, bytearray()
        try:
            for chunk in self.source.chunks(url.removeprefix("/"), 0):  # tuf puts a slash even behind an empty base
                self.deadline.check(f"metadata of {self.source.name}")
                self.data += chunk
                yield chunk
                # tuf believes a signed length, however large; a stolen snapshot key must not fill the memory.
                if len(self.data) > MOST_METADATA_BYTES:
                    name = url.rpartition("/")[2]
                    raise refuse("oversized", f"{name} of {self.source.name} has more than {MOST_METADATA_BYTES} bytes")
        except TrustRefused as error:
            if error.reason == "missing":  # for a root: there is none newer
                raise DownloadHTTPError(error.message, 404) from error
            raise

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The library's own goes through a file in the temporary folder, which may be full, tiny or gone."""
        data = bytearray()
        for chunk in self.fetch(url):
            data += chunk
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
        return bytes(data)


@dataclass(frozen=True, slots=True)
class _Round:
    """One Updater over one source."""

    updater: Updater
    fetcher: SourceFetcher
    work: Path

    def load(self) -> Verified:
        """Everything there is. Raises what tuf raises, and TrustRefused."""
        self.updater.refresh()
        files = {"timestamp.json": self._bytes("timestamp")}
        timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"]).signed
        snapshot = Metadata[Snapshot].from_bytes(self._keep(files, "snapshot", timestamp.snapshot_meta.version)).signed
        top = Metadata[Targets].from_bytes(self._keep(files, "targets", snapshot.meta["targets.json"].version)).signed
        root = Metadata[Root].from_bytes(self._bytes("root")).signed
        expiries = [root.expires, timestamp.expires, snapshot.expires, top.expires]
        found: list[Target] = []
        lapsed: dict[str, str] = {}
        for delegated in _delegated(top):
            role = delegated.name
            loaded = self._role(role, list(delegated.paths or []), lapsed)
            if loaded is None:
                continue
            data, signed = loaded
            files[f"{snapshot.meta[f'{role}.json'].version}.{role}.json"] = data
            if role in lapsed:
                found += _named(role, signed)
                continue
            expiries.append(signed.expires)
            found += self._usable(delegated, signed)
        return Verified(
            files=files,
            timestamp_version=timestamp.version,
            expires=min(expiries).timestamp(),
            targets=tuple(sorted(found, key=lambda target: target.name)),
            lapsed=lapsed,
        )

    def _role(self, role: str, paths: list[str], lapsed: dict[str, str]) -> tuple[bytes, Targets] | None:
        # A look-up below a role's pattern makes tuf load and verify that role; there is no other public way.
        probe = (paths[0] if paths else "").replace("*", "0")
        local = self.work / f"{role}.json"
        try:
            self.updater.get_targetinfo(probe)
            data = local.read_bytes()
        except ExpiredMetadataError as error:
            # Expiry is the last thing tuf checks, so these bytes are authentic; one stale channel must not block the rest.
            if role == POLICY_CHANNEL or not self.fetcher.data or self.fetcher.last != self._role_url(role):
                raise
            data = bytes(self.fetcher.data)
            lapsed[role] = expired(error, self.fetcher.last, data)
        except FileNotFoundError:  # shadowed by an earlier delegation: nothing of it can be reached
            return None
        return data, Metadata[Targets].from_bytes(data).signed

    def _role_url(self, role: str) -> str:
        snapshot = Metadata[Snapshot].from_bytes(self._bytes("snapshot")).signed
        return f"metadata/{snapshot.meta[f'{role}.json'].version}.{role}.json"

    def _usable(self, delegated: DelegatedRole, signed: Targets) -> Iterator[Target]:
        """Only what a look-up from the top finds in this very role, and only below the paths that the top gave to it.

        So a role speaks neither for another's paths nor for those that a channel handed on: channels do not delegate.
        """
        for target in _named(delegated.name, signed):
            if not delegated.is_delegated_path(target.name):
                continue
            info = self.updater.get_targetinfo(target.name)
            if info is not None and info == signed.targets[target.name]:
                yield target

    def _keep(self, files: dict[str, bytes], role: str, version: int) -> bytes:
        data = files[f"{version}.{role}.json"] = self._bytes(role)
        return data

    def _bytes(self, role: str) -> bytes:
        return (self.work / f"{role}.json").read_bytes()


def _delegated(top: Targets) -> list[DelegatedRole]:
    """Every delegation of the top; role names follow the same rule as parts of a target's name."""
    if top.delegations is None or not top.delegations.roles:
        return []
    found = list(top.delegations.roles.values())
    for role in found:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", role.name) or role.name in _TOP:
            raise refuse("bad_name", f"a delegated role has the name {ascii(role.name)[:80]}, which is not allowed")
    if len(found) > _MOST_CHANNELS:
        raise refuse("oversized", f"{len(found)} delegated roles; the limit is {_MOST_CHANNELS}")
    return found


def _named(role: str, signed: Targets) -> Iterator[Target]:
    """The role's targets after the name rule; one bad name refuses the role, since honest tools never sign one."""
    for name, info in signed.targets.items():
        yield signed_target(
            name, sha256=info.hashes.get("sha256"), size=info.length, role=role, custom=info.unrecognized_fields.get("custom")
        )


# --- entry points ------------------------------------------------------------------------------------------------------


def verify(
    own: Mapping[str, bytes], root: bytes, source: Source | None, *, now: float, deadline: Deadline, scratch: Path
) -> Outcome:
    """The newest of own state and source, wholly verified.

    own: trusted metadata files by name. root: our newest trusted root. source None: own state alone. now: Unix seconds,
    already raised to the clock floor. scratch: an existing folder of ours for temporary files.
    Raises StorageFault when this computer's disk fails, DeadlinePassed, Cancelled.
    """
    ours = MemorySource("the state kept here", {f"metadata/{name}": data for name, data in own.items()})
    first = _attempt(own, root, source or ours, now=now, deadline=deadline, scratch=scratch)
    if not first.outdated:
        return first
    newest = first.roots[max(first.roots)]
    again = _attempt(own, newest, ours, now=now, deadline=deadline, scratch=scratch)
    return Outcome(roots=first.roots | again.roots, verified=again.verified, refusal=again.refusal, outdated=True)


def verify_stale(
    own: Mapping[str, bytes], root: bytes, source: Source | None, *, channel: str, now: float, deadline: Deadline, scratch: Path
) -> Outcome:
    """As verify; what is refused for its age alone is verified wholly at the last instant at which it was valid.

    channel: the one that is wanted; the age of others does not matter. Whether so old metadata may be used is for the caller.
    """
    found = verify(own, root, source, now=now, deadline=deadline, scratch=scratch)
    too_old = found.refusal is not None and found.refusal.reason == "expired"
    if not too_old and not (found.verified and channel in found.verified.lapsed):
        return found
    ours = MemorySource("the state kept here", {f"metadata/{name}": data for name, data in own.items()})
    roots = {0: root} | found.roots
    newest = roots[max(roots)]
    at = _last_instant(ours if found.outdated or source is None else source, newest, channel)
    if at is None or at >= now:
        return found
    again = verify(own, newest, source, now=at, deadline=deadline, scratch=scratch)
    return replace(again, roots=found.roots | again.roots, stale_at=at)


def _last_instant(source: Source, root: bytes, channel: str) -> float | None:
    """By what the files say, before any signature is checked: whoever lies here fails the verification at that instant."""
    try:
        timestamp = Metadata[Timestamp].from_bytes(source.read("metadata/timestamp.json", LIMITS.timestamp_max_length)).signed
        version = int(timestamp.snapshot_meta.version)
        snapshot = (
            Metadata[Snapshot].from_bytes(source.read(f"metadata/{version}.snapshot.json", LIMITS.snapshot_max_length)).signed
        )
        expiries = [timestamp.expires, snapshot.expires, Metadata[Root].from_bytes(root).signed.expires]
        for role in ("targets", POLICY_CHANNEL, channel):
            info = snapshot.meta.get(f"{role}.json")
            if info is not None:
                data = source.read(f"metadata/{int(info.version)}.{role}.json", LIMITS.targets_max_length)
                expiries.append(Metadata[Targets].from_bytes(data).signed.expires)
    except (RepositoryError, TrustRefused, AttributeError):  # AttributeError: signed metadata of another type
        return None
    return min(expiries).timestamp() - 1


def _attempt(own: Mapping[str, bytes], root: bytes, source: Source, *, now: float, deadline: Deadline, scratch: Path) -> Outcome:
    try:
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".verify-") as folder:
            work = Path(folder)
            _seed(work, own)
            fetcher = SourceFetcher(source, deadline)
            try:
                updater = Updater(str(work), "metadata", fetcher=fetcher, config=LIMITS, bootstrap=root)
                _judge_at(updater, now)
                verified = _Round(updater, fetcher, work).load()
                return Outcome(roots=_roots(work), verified=verified)
            except TrustRefused as error:
                return Outcome(roots=_roots(work), refusal=error)
            except (RepositoryError, DownloadError) as error:
                roots = _roots(work)
                outdated = _is_outdated(error, fetcher, own)
                found = refusal(error, fetcher.last, bytes(fetcher.data), source.name)
                found.__cause__ = error
                return Outcome(roots=roots, refusal=found, outdated=outdated)
    except OSError as error:
        raise StorageFault(
            f"cannot write below {scratch}: {error.strerror or error}",
            reason="unwritable",
            next_step="free disk space or check permissions, then try again",
        ) from error


def _judge_at(updater: Updater, now: float) -> None:
    """Expiry is judged at the caller's `now`. tuf has no public way; a test guards this one private name."""
    updater._trusted_set.reference_time = dt.datetime.fromtimestamp(now, tz=dt.UTC)  # noqa: SLF001


def _seed(work: Path, own: Mapping[str, bytes]) -> None:
    """Our state under the names tuf caches by; it verifies all of it again.

    Only what our timestamp names: a file that a cut-off run left beside it would look like a newer version of ours.
    """
    if "timestamp.json" not in own:
        return
    (work / "timestamp.json").write_bytes(own["timestamp.json"])
    try:
        version = Metadata[Timestamp].from_bytes(own["timestamp.json"]).signed.snapshot_meta.version
        snapshot = own[f"{version}.snapshot.json"]
        (work / "snapshot.json").write_bytes(snapshot)
        for file, info in Metadata[Snapshot].from_bytes(snapshot).signed.meta.items():
            if f"{info.version}.{file}" in own:
                (work / file).write_bytes(own[f"{info.version}.{file}"])
    except (RepositoryError, KeyError):  # damaged on this disk: a source replaces it, or tuf refuses
        return


def _roots(work: Path) -> dict[int, bytes]:
    history = work / "root_history"
    if not history.is_dir():
        return {}
    found = ((_ROOT_FILE.fullmatch(path.name), path) for path in history.iterdir())
    return {int(match[1]): path.read_bytes() for match, path in found if match}


def _is_outdated(error: Exception, fetcher: SourceFetcher, own: Mapping[str, bytes]) -> bool:
    """Signatures are checked first, so a version fault of a lower timestamp is an authentic older release."""
    if not isinstance(error, BadVersionNumberError) or fetcher.last != "metadata/timestamp.json":
        return False
    offered = Metadata[Timestamp].from_bytes(bytes(fetcher.data)).signed.version
    return offered < Metadata[Timestamp].from_bytes(own["timestamp.json"]).signed.version


def check_first_root(root: bytes) -> int:
    """Its version, when it is intact and signed by its own threshold. Raises TrustRefused."""
    if len(root) > ROOT_LIMIT_BYTES:
        raise refuse("oversized", f"a root of {len(root)} bytes; the limit is {ROOT_LIMIT_BYTES}")
    try:
        metadata = Metadata[Root].from_bytes(root)
        if not isinstance(metadata.signed, Root):
            raise refuse("malformed", f"this is signed {metadata.signed.type} metadata, no root")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise refusal(error, "root.json", root, "the root given") from error
    return metadata.signed.version


def describe_unverified(source: Source) -> list[Target]:
    """What a refused source claims to hold, for a person to read. Nothing of it may be used."""
    found: list[Target] = []
    try:
        timestamp = Metadata[Timestamp].from_bytes(source.read("metadata/timestamp.json", 16 << 10)).signed
        snapshot = (
            Metadata[Snapshot]
            .from_bytes(source.read(f"metadata/{int(timestamp.snapshot_meta.version)}.snapshot.json", 1 << 20))
            .signed
        )
        for file, info in sorted(snapshot.meta.items())[:32]:
            role = file.removesuffix(".json")
            if role != "targets" and re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", role):
                signed = Metadata[Targets].from_bytes(source.read(f"metadata/{info.version}.{file}", 2 << 20)).signed
                found += _named(role, signed)
    except (RepositoryError, TrustRefused, AttributeError):  # AttributeError: signed metadata of another type
        return found
    return found

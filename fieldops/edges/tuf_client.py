"""What this computer trusts: its own root, its own newest metadata, the policy. The same code on laptop and device.

    trust/metadata/<n>.root.json ... timestamp.json    as on a stick; timestamp.json is replaced last, so the set is whole
    trust/state.json                                   what of it is needed without loading tuf; written after the set
    cache/sha256/<hex>  cache/bundles/<manifest>/      verified copies (edges/blobs.py)

tuf is loaded only by the calls that verify. Metadata of own state and source: the newest wins, wholly verified, or nothing
changes. Expiry is judged by the clock, but never below the floor, which only signed metadata and store receipts raise.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from fieldops.bundles.trust import (
    POLICY_DOCUMENT,
    BundleRef,
    SignedBundle,
    Target,
    bundle_ref,
    bundles_in,
    check_manifest,
    check_sizes,
    check_usable,
    find_bundle,
    policy_targets_in,
    refuse,
)
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.edges.blobs import BlobCache
from fieldops.edges.disk import storage_faults, sync_folder, write_whole
from fieldops.edges.locks import exclusive
from fieldops.errors import StorageFault, TrustRefused, UsageFault
from fieldops.policy import NO_POLICY, PolicyDocument, decode_policy
from fieldops.ports import Candidate, Clock, OnProgress, Payload, Progress, Source, TrustedBundle, TrustFacts

if TYPE_CHECKING:
    from fieldops.edges.tuf_refresh import Outcome, Verified

# No honest clock is before this; raised when a release is made. 2026-01-01T00:00:00Z.
BUILT = 1_767_225_600.0
_METADATA_FILE = re.compile(r"(?:[1-9][0-9]{0,11}\.)?[a-z0-9][a-z0-9_-]{0,31}\.json")
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,11})\.root\.json")
# Several signings in one second run ahead of the clock by one second each; nobody's clock is to blame for that.
_CLOCK_SLACK_S = 120.0
_FIRST_PLAUSIBLE_TIME = 1_500_000_000  # a timestamp version below is a counter, no time


class _State(Struct, frozen=True, kw_only=True):
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


class TrustStore:
    """Implements ports.Trust. Creates nothing until something is pinned or refreshed.

    built: the least time this build believes in; a device hands its own clock floor here.
    """

    def __init__(self, folder: Path, cache: Path, clock: Clock, *, built: float = BUILT) -> None:
        self.folder = folder
        self.blobs = BlobCache(cache)
        self._clock = clock
        self._built = built

    # --- reading, without tuf ---------------------------------------------------------------------------------------

    def facts(self) -> TrustFacts:
        state = self._state()
        floor = self._floor(state)
        return TrustFacts(
            root_version=state.root_version if state else 0,
            root_sha256=state.root_sha256 if state else "",
            timestamp_version=state.timestamp_version if state else 0,
            expires=state.expires if state else None,
            clock_floor=floor,
            clock_behind=self._clock.now() < floor - _CLOCK_SLACK_S,
        )

    def root_text(self) -> str:
        roots = self._roots()
        if not roots:
            raise _no_root()
        return roots[max(roots)].decode("utf-8")

    def policy(self) -> PolicyDocument:
        target = self._known(POLICY_DOCUMENT)
        if target is None:
            return NO_POLICY
        return self._decoded(target)

    def policy_payload(self) -> tuple[int, str, Payload]:
        state = self._state()
        if state is None:
            raise _no_root()
        target = self._known(POLICY_DOCUMENT)
        return state.timestamp_version, target.sha256 if target else "", self._payload()

    def policy_target(self, name: str) -> bytes:
        target = self._known(name)
        if target is None:
            raise refuse("unknown_target", f"{name} is not among the signed targets of the policy")
        return self.blobs.read(target)

    def policy_targets(self) -> Sequence[str]:
        state = self._state()
        return [target.name for target in policy_targets_in(state.targets)] if state else []

    # --- moving forward ---------------------------------------------------------------------------------------------

    def pin(self, root: bytes, expect_fingerprint: str | None) -> str:
        """The same root again is no fault: a provisioning run may be repeated."""
        from fieldops.edges.tuf_refresh import check_first_root

        fingerprint = hashlib.sha256(root).hexdigest()
        if expect_fingerprint is not None and expect_fingerprint.lower() != fingerprint:
            raise refuse(
                "hash_mismatch",
                f"this root's fingerprint is {fingerprint}, not the {expect_fingerprint} you expect",
                next_step="ask the release team for root.json and its fingerprint by two different ways",
            )
        version = check_first_root(root)
        with self._held(None):
            pinned = self._roots()
            if pinned and root not in pinned.values():
                raise UsageFault(
                    f"root {max(pinned)} is pinned already",
                    reason="already_pinned",
                    next_step="newer roots come with a stick; to start anew, move the trust folder away",
                )
            if not pinned:
                self._keep_roots({version: root}, None)
        return fingerprint

    def refresh(self, source: Source, deadline: Deadline) -> TrustFacts:
        with self._held(deadline):
            self._advance(source, deadline, bring_policy=True)
        return self.facts()

    def advance(self, source: Source | None, deadline: Deadline) -> tuple[Verified, bool]:
        """Metadata only, of own state or of the newer of it and source; True: the source is the older one.

        For a device, which gets the policy's files afterwards.
        """
        with self._held(deadline):
            return self._advance(source, deadline, bring_policy=False)

    def signed_bundle(
        self, verified: Verified, ref: BundleRef, channel: str | None, source: Source | None, *, outdated: bool = False
    ) -> SignedBundle:
        """The wanted version, by metadata alone. Raises TrustRefused: unknown_target, expired, rollback."""
        bundle = find_bundle([target for target in verified.targets if target.role not in verified.lapsed], ref, channel)
        if bundle is not None:
            return bundle
        lapsed = find_bundle(verified.targets, ref, channel)
        if lapsed is not None:
            raise refuse("expired", f"channel {lapsed.channel}: {verified.lapsed[lapsed.files[0].role]}")
        name = f"{ref.model}@{ref.version}"
        if source is not None and outdated and find_bundle(_claimed_targets(source), ref, channel) is not None:
            raise refuse("rollback", f"{name} is no longer in the newest signed metadata; {source.name} is older")
        raise refuse("unknown_target", f"no signed {name}{f' in channel {channel}' if channel else ''}")

    def raise_floor(self, to: float) -> None:
        """A store's receipt proves that it is at least this late."""
        with self._held(None):
            state = self._state()
            if state is not None and to > state.clock_floor:
                self._write(msgspec.structs.replace(state, clock_floor=to))

    def candidates(self, source: Source, deadline: Deadline) -> list[Candidate]:
        """A refused source still lists what it claims, each with the refusal's reason, for the person who holds it."""
        try:
            with self._held(deadline):
                verified, outdated = self._advance(source, deadline, bring_policy=True)
        except TrustRefused as error:
            claimed = _claimed(source)
            if not claimed:
                raise
            return [_candidate(bundle, source, error) for bundle in claimed]
        found = [
            _candidate(bundle, source, self._obstacle(bundle, verified, source))
            for bundle in bundles_in(verified.targets)
            if self._is_offered(bundle, source)
        ]
        if outdated:
            listed = {(bundle.channel, bundle.model, bundle.version) for bundle in bundles_in(verified.targets)}
            late = refuse("rollback", "newer signed metadata than this stick's no longer lists this version")
            found += [
                _candidate(bundle, source, late)
                for bundle in _claimed(source)
                if (bundle.channel, bundle.model, bundle.version) not in listed
            ]
        return found

    def fetch(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
    ) -> TrustedBundle:
        wanted = bundle_ref(ref)
        with self._held(deadline):
            verified, outdated = self._advance(source, deadline, bring_policy=True)
            bundle = self.signed_bundle(verified, wanted, channel, source, outdated=outdated)
            check_usable(bundle)
            if reread:
                self._reread_policy(verified, source, deadline)
            return self._bring(bundle, source, deadline, progress, reread=reread)

    # --- one bundle -------------------------------------------------------------------------------------------------

    def _bring(
        self, bundle: SignedBundle, source: Source, deadline: Deadline, progress: OnProgress | None, *, reread: bool
    ) -> TrustedBundle:
        check_sizes(bundle.files)
        total = bundle.size_bytes
        # The manifest first: what disagrees with it is refused before gigabytes are copied.
        order = sorted(bundle.files, key=lambda target: target != bundle.manifest)
        done = 0
        manifest = None
        for target in order:
            base = done

            def tell(have: int, base: int = base) -> None:
                if progress:
                    progress(Progress("copy", base + have, total))

            if reread and self.blobs.holds(target):
                self.blobs.compare(source, target, deadline, tell)
            else:
                self.blobs.copy(source, target, deadline, tell)
            done += target.size
            if manifest is None:
                manifest = check_manifest(self.blobs.read(target), bundle)
        if manifest is None:
            raise refuse("missing", f"{bundle.model}@{bundle.version} has no signed manifest")
        folder = self.blobs.gather(bundle.manifest.sha256, [(target.parts.file, target.sha256) for target in bundle.files])
        return TrustedBundle(
            channel=bundle.channel,
            manifest=manifest,
            manifest_sha256=bundle.manifest.sha256,
            payload=self._payload(),
            folder=folder,
        )

    def _is_offered(self, bundle: SignedBundle, source: Source) -> bool:
        """False when the source carries none of its files: a stick need not hold everything that is signed."""
        return any(_presence(source, target) != "missing" for target in bundle.files)

    def _obstacle(self, bundle: SignedBundle, verified: Verified, source: Source) -> TrustRefused | None:
        role = bundle.files[0].role
        if role in verified.lapsed:
            return refuse("expired", verified.lapsed[role])
        try:
            check_usable(bundle)
            check_sizes(bundle.files)
            for target in bundle.files:
                reason = _presence(source, target)
                if reason:
                    return refuse(reason, f"{target.name} on {source.name}: {_PRESENCE[reason]}")
            data = source.read(bundle.manifest.path, bundle.manifest.size)
            check_manifest(data, bundle)
        except TrustRefused as error:
            return error
        return None

    # --- the state --------------------------------------------------------------------------------------------------

    def _advance(self, source: Source | None, deadline: Deadline, *, bring_policy: bool) -> tuple[Verified, bool]:
        """Verify, then keep. Nothing but newer roots is kept of what was refused. The lock is held."""
        from fieldops.edges.tuf_refresh import verify

        roots = self._roots()
        if not roots:
            raise _no_root()
        state = self._state()
        self._sweep()
        now = max(self._clock.now(), self._floor(state))
        own = {name: data for name, data in _metadata_files(self._metadata).items() if not _ROOT_FILE.fullmatch(name)}
        if source is None and "timestamp.json" not in own:
            raise refuse("missing", "no signed metadata was brought here yet", next_step="bring a stick of the release team")
        outcome = verify(own, roots[max(roots)], source, now=now, deadline=deadline, scratch=self.folder)
        verified = self._judged(outcome, state)
        if source is not None and bring_policy:
            self._bring_policy(verified, source, deadline, outdated=outcome.outdated)
        known = state.timestamp_version if state else 0
        if verified.files != {name: own.get(name) for name in verified.files} or known != verified.timestamp_version:
            self._keep(verified, state)
        if source is not None:
            self._carry_older_roots(source)
        return verified, outcome.outdated

    def _judged(self, outcome: Outcome, state: _State | None) -> Verified:
        known = self._roots()
        newer = {version: data for version, data in outcome.roots.items() if version not in known}
        if newer:
            self._keep_roots(newer, state)
        if outcome.verified is None:
            raise outcome.refusal or refuse("malformed", "the metadata could not be judged")
        # tuf's own rollback check needs our former timestamp intact; this one does not. A new root may reset versions.
        if state is not None and not newer and outcome.verified.timestamp_version < state.timestamp_version:
            raise refuse("rollback", f"timestamp {outcome.verified.timestamp_version} after {state.timestamp_version}")
        return outcome.verified

    def _bring_policy(self, verified: Verified, source: Source, deadline: Deadline, *, outdated: bool) -> None:
        targets = policy_targets_in(verified.targets)
        check_sizes(targets)
        for target in targets:
            try:
                self.blobs.copy(source, target, deadline)
            except TrustRefused as error:
                if outdated and error.reason == "missing":  # an older stick need not carry today's policy
                    continue
                raise
            if target.name == POLICY_DOCUMENT:  # rules nobody can read must not replace those that are read now
                self._decoded(target)

    def _decoded(self, target: Target) -> PolicyDocument:
        try:
            return decode_policy(self.blobs.read(target))
        except UsageFault as error:
            raise refuse("malformed", f"the signed policy: {error.message}") from error

    def _reread_policy(self, verified: Verified, source: Source, deadline: Deadline) -> None:
        for target in policy_targets_in(verified.targets):
            self.blobs.compare(source, target, deadline)

    def _keep(self, verified: Verified, state: _State | None) -> None:
        """Power may go at any line: new versioned files first, then the timestamp that names them, then the summary."""
        for name, data in verified.files.items():
            path = self._metadata / name
            if name != "timestamp.json" and not (path.exists() and path.read_bytes() == data):
                write_whole(path, data)
        write_whole(self._metadata / "timestamp.json", verified.files["timestamp.json"])
        roots = self._roots()
        newest = max(roots)
        self._write(
            _State(
                root_version=newest,
                root_sha256=hashlib.sha256(roots[newest]).hexdigest(),
                timestamp_version=verified.timestamp_version,
                expires=verified.expires,
                clock_floor=max(state.clock_floor if state else 0.0, _signed_time(verified)),
                targets=list(verified.targets),
                lapsed=verified.lapsed,
            )
        )
        for path in self._metadata.iterdir():
            if _METADATA_FILE.fullmatch(path.name) and not _ROOT_FILE.fullmatch(path.name) and path.name not in verified.files:
                path.unlink()
        sync_folder(self._metadata)

    def _keep_roots(self, roots: dict[int, bytes], state: _State | None) -> None:
        for version, data in sorted(roots.items()):
            write_whole(self._metadata / f"{version}.root.json", data)
        newest = max(roots)
        fields = {"root_version": newest, "root_sha256": hashlib.sha256(roots[newest]).hexdigest()}
        if state is None:
            self._write(_State(**fields, expires=_expires(roots[newest])))  # type: ignore[arg-type]
        else:
            self._write(msgspec.structs.replace(state, **fields))

    def _carry_older_roots(self, source: Source) -> None:
        """Roots from before ours, for devices that were enrolled then. Nothing here is decided by them: the newest is."""
        from fieldops.edges.tuf_refresh import ROOT_LIMIT_BYTES, check_first_root

        for version in range(min(self._roots()) - 1, 0, -1):
            try:
                data = source.read(f"metadata/{version}.root.json", ROOT_LIMIT_BYTES)
                if check_first_root(data) != version:
                    return
            except TrustRefused:
                return
            write_whole(self._metadata / f"{version}.root.json", data)

    def _roots(self) -> dict[int, bytes]:
        files = _metadata_files(self._metadata)
        return {int(match[1]): data for name, data in files.items() if (match := _ROOT_FILE.fullmatch(name))}

    def _state(self) -> _State | None:
        path = self.folder / "state.json"
        with storage_faults(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = b""
        if data:
            return _decode_state(data, path)
        roots = self._roots()
        if not roots:
            return None
        newest = max(roots)
        sha256 = hashlib.sha256(roots[newest]).hexdigest()
        return _State(root_version=newest, root_sha256=sha256, expires=_expires(roots[newest]))

    def _write(self, state: _State) -> None:
        write_whole(self.folder / "state.json", msgspec.json.encode(state))

    def _known(self, name: str) -> Target | None:
        state = self._state()
        if state is None:
            return None
        return next((target for target in policy_targets_in(state.targets) if target.name == name), None)

    def _floor(self, state: _State | None) -> float:
        return max(self._built, state.clock_floor if state else 0.0)

    def _payload(self) -> Payload:
        return CachedPayload(self._metadata, self.blobs)

    @property
    def _metadata(self) -> Path:
        return self.folder / "metadata"

    @contextmanager
    def _held(self, deadline: Deadline | None) -> Iterator[None]:
        """One writer of this state at a time, across processes; a second one waits as long as its caller does."""
        with exclusive(self.folder / ".lock", "the trust state", wait_s=deadline.left() if deadline else 2.0):
            if deadline:
                deadline.check("the trust state")
            yield

    def _sweep(self) -> None:
        """What a run that was cut off left: scratch folders, and files that never got their names."""
        with storage_faults(self.folder):
            for path in self.folder.glob(".verify-*"):
                shutil.rmtree(path, ignore_errors=True)
            for pattern in (".*.part", "metadata/.*.part"):
                for path in self.folder.glob(pattern):
                    path.unlink()


# --- small facts -------------------------------------------------------------------------------------------------------

_PRESENCE = {"missing": "it is not there", "hash_mismatch": "it is cut off", "too_long": "it is longer than what was signed"}


def _presence(source: Source, target: Target) -> str:
    """The reason a file cannot be what was signed, by its length alone; "" when it may be. Reads at most one piece."""
    at = max(target.size - 1, 0)
    try:
        pieces = source.chunks(target.path, at)
        rest = len(next(pieces, b""))
    except TrustRefused as error:
        return error.reason
    expected = target.size - at
    if rest == expected:
        return ""
    return "too_long" if rest > expected else "hash_mismatch"


def _claimed_targets(source: Source) -> list[Target]:
    from fieldops.edges.tuf_refresh import describe_unverified

    return describe_unverified(source)


def _claimed(source: Source) -> list[SignedBundle]:
    return bundles_in(_claimed_targets(source))


def _candidate(bundle: SignedBundle, source: Source, error: TrustRefused | None) -> Candidate:
    return Candidate(
        channel=bundle.channel,
        model=bundle.model,
        version=bundle.version,
        counter=bundle.counter,
        size_bytes=bundle.size_bytes,
        source=source.name,
        reason=error.reason if error else "",
        message=error.message if error else "",
    )


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


def _decode_state(data: bytes, path: Path) -> _State:
    try:
        state = decoder(_State).decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StorageFault(
            f"{path} is damaged: {error}", reason="corrupt", next_step=f"move {path} away; the next stick rebuilds it"
        ) from error
    if state.v > 1:
        raise StorageFault(f"{path} is of a newer fieldops", reason="newer_schema", next_step="update fieldops on this computer")
    return state


def _no_root() -> TrustRefused:
    return refuse(
        "missing",
        "no root of trust is pinned here",
        next_step="pin the release team's root: `fieldops policy pin ROOT.json --expect-fingerprint HEX`",
    )

"""What this computer trusts: its own root, its own newest metadata, the policy. The same code on laptop and device.

    trust/   tuf_state.py: metadata and its summary
    cache/   blobs.py: verified copies

tuf is loaded only by the calls that verify. Metadata of own state and source: the newest wins, wholly verified, or nothing
changes. Expiry is judged by the clock, but never below the floor, which only signed metadata and store receipts raise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fieldops.bundles.approvals import Matter, check_age, judge
from fieldops.bundles.kit import is_agent
from fieldops.bundles.trust import (
    POLICY_DOCUMENT,
    BundleRef,
    SignedBundle,
    bundle_ref,
    check_manifest,
    check_sizes,
    check_usable,
    find_bundle,
    policy_targets_in,
    refuse,
)
from fieldops.deadline import Deadline
from fieldops.edges.blobs import BlobCache
from fieldops.edges.tuf_advance import Advance, Judged
from fieldops.edges.tuf_offers import claimed, offers, refused_offers
from fieldops.edges.tuf_state import CachedPayload, TrustFolder, no_root
from fieldops.errors import TrustRefused, UsageFault
from fieldops.policy import NO_POLICY, PolicyDocument
from fieldops.ports import (
    BreakGlass,
    Broken,
    Candidate,
    Clock,
    OnProgress,
    Payload,
    Progress,
    Source,
    TrustedAgent,
    TrustedBundle,
    TrustFacts,
)

if TYPE_CHECKING:
    from fieldops.edges.tuf_refresh import Verified

# No honest clock is before this; raised when a release is made. 2026-01-01T00:00:00Z.
BUILT = 1_767_225_600.0
# Several signings in one second run ahead of the clock by one second each; nobody's clock is to blame for that.
_CLOCK_SLACK_S = 120.0
_MOST_AHEAD_S = 400 * 86_400.0


class TrustStore:
    """Implements ports.Trust. Creates nothing until something is pinned or refreshed.

    built: the least time this build believes in.
    floor: what a device's registry remembers of signed time, and the version of its newest root when it did.
    cache_limit: bytes of copies beyond which old bundles give way; None: none ever does, as on a device.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        clock: Clock,
        *,
        built: float = BUILT,
        floor: tuple[float, int] = (0.0, 0),
        cache_limit: int | None = None,
    ) -> None:
        self.folder = folder
        self.blobs = BlobCache(cache, cache_limit)
        self._files = TrustFolder(folder)
        self._clock = clock
        self._newest = Advance(self._files, self.blobs, clock, built=built, remembered=floor)

    # --- reading, without tuf ---------------------------------------------------------------------------------------

    def facts(self) -> TrustFacts:
        state = self._files.state()
        floor = self._newest.floor(state)
        return TrustFacts(
            root_version=state.root_version if state else 0,
            root_sha256=state.root_sha256 if state else "",
            timestamp_version=state.timestamp_version if state else 0,
            expires=state.expires if state else None,
            clock_floor=floor,
            clock_behind=self._clock.now() < floor - _CLOCK_SLACK_S,
        )

    def root_text(self) -> str:
        roots = self._files.roots()
        if not roots:
            raise no_root()
        return roots[max(roots)].decode("utf-8")

    def policy(self) -> PolicyDocument:
        target = self._files.policy_target(POLICY_DOCUMENT)
        if target is None:
            return NO_POLICY
        return self._newest.policy_of(target)

    def policy_payload(self) -> tuple[int, str, Payload]:
        state = self._files.state()
        if state is None:
            raise no_root()
        target = self._files.policy_target(POLICY_DOCUMENT)
        return state.timestamp_version, target.sha256 if target else "", self._payload()

    def policy_target(self, name: str) -> bytes:
        target = self._files.policy_target(name)
        if target is None:
            raise refuse("unknown_target", f"{name} is not among the signed targets of the policy")
        return self.blobs.read(target)

    def policy_targets(self) -> Sequence[str]:
        state = self._files.state()
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
            pinned = self._files.roots()
            if pinned and root not in pinned.values():
                raise UsageFault(
                    f"root {max(pinned)} is pinned already",
                    reason="already_pinned",
                    next_step="newer roots come with a stick; to trust another release team, set up another home",
                )
            if not pinned:
                self._files.check_seen(version, root)
                self._files.keep_roots({version: root}, None)
        return fingerprint

    def refresh(self, source: Source, deadline: Deadline) -> TrustFacts:
        with self._held(deadline):
            self._newest.advance(source, deadline, bring_policy=True)
        return self.facts()

    def advance(self, source: Source | None, deadline: Deadline) -> tuple[Verified, bool]:
        """Metadata only, of own state or of the newer of it and source; True: the source is the older one.

        For a device, which gets the policy's files afterwards.
        """
        with self._held(deadline):
            judged = self._newest.advance(source, deadline, bring_policy=False)
        return judged.verified, judged.outdated

    def advance_stale(
        self, source: Source | None, wanted: BundleRef, channel: str, glass: BreakGlass, deadline: Deadline
    ) -> tuple[Verified, bool, Broken | None]:
        """As advance; metadata that is only too old is taken when approvals and the given policy allow it for this bundle."""
        with self._held(deadline):
            judged = self._newest.verify(source, deadline, stale=channel)
            bundle = self.signed_bundle(judged.verified, wanted, channel, source, outdated=judged.outdated)
            broken = self._break(judged, bundle, glass)
            self._newest.keep(judged, source, deadline, bring_policy=False)
        return judged.verified, judged.outdated, broken

    def standing(self, wanted: BundleRef, channel: str, deadline: Deadline, *, whatever_age: bool) -> SignedBundle:
        """What the newest metadata kept here says of a version today. whatever_age: judged while all of it was still valid.

        Raises TrustRefused: unknown_target, expired, and what own metadata that was damaged raises.
        """
        with self._held(deadline):
            verified = self._newest.verify(None, deadline, stale=channel if whatever_age else None).verified
        return self.signed_bundle(verified, wanted, channel, None)

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
        if source is not None and outdated and find_bundle(claimed(source), ref, channel) is not None:
            raise refuse("rollback", f"{name} is no longer in the newest signed metadata; {source.name} is older")
        raise refuse("unknown_target", f"no signed {name}{f' in channel {channel}' if channel else ''}")

    def raise_floor(self, to: float) -> None:
        """A store's receipt proves that it is at least this late. One that is years ahead of all else is not believed:

        a store whose clock is wrong must not end the trust in everything for ever.
        """
        with self._held(None):
            state = self._files.state()
            if state is not None and state.clock_floor < to <= self._newest.now(state) + _MOST_AHEAD_S:
                self._files.write(msgspec.structs.replace(state, clock_floor=to))

    def candidates(self, source: Source, deadline: Deadline) -> list[Candidate]:
        """A refused source still lists what it claims, each with the refusal's reason, for the person who holds it."""
        try:
            with self._held(deadline):
                judged = self._newest.advance(source, deadline, bring_policy=True)
        except TrustRefused as error:
            found = refused_offers(source, error)
            if not found:
                raise
            return found
        return offers(judged.verified.targets, judged.verified.lapsed, source, outdated=judged.outdated)

    def fetch(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
        glass: BreakGlass | None = None,
    ) -> TrustedBundle:
        wanted = bundle_ref(ref)
        if is_agent(wanted.model):
            raise UsageFault(
                f"{ref} is an agent, no model", reason="bad_reference", next_step="use `fieldops device enrol --upgrade`"
            )
        with self._held(deadline):
            broken = None
            if glass is None:
                judged = self._newest.advance(source, deadline, bring_policy=True)
                bundle = self.signed_bundle(judged.verified, wanted, channel, source, outdated=judged.outdated)
            else:
                judged = self._newest.verify(source, deadline, stale=channel or _claimed_channel(source, wanted))
                bundle = self.signed_bundle(judged.verified, wanted, channel, source, outdated=judged.outdated)
                broken = self._break(judged, bundle, glass)
                self._newest.keep(judged, source, deadline, bring_policy=True)
            check_usable(bundle)
            if reread:
                self._newest.reread(judged, source, deadline)
            return self._bring(bundle, source, deadline, progress, reread=reread, broken=broken)

    def expired_matter(self, source: Source, ref: str, deadline: Deadline, *, channel: str | None = None) -> Matter:
        """What people would have to sign to use it although it expired; keeps nothing. devices: none yet.

        Raises TrustRefused for everything but its age, UsageFault when nothing has expired.
        """
        wanted = bundle_ref(ref)
        with self._held(deadline):
            judged = self._newest.verify(source, deadline, stale=channel or _claimed_channel(source, wanted))
            bundle = self.signed_bundle(judged.verified, wanted, channel, source, outdated=judged.outdated)
        if judged.stale_at is None:
            raise UsageFault(
                f"{ref} on {source.name} has not expired", reason="not_expired", next_step="leave --accept-expired out"
            )
        matter = Matter("accept_expired", bundle.model, bundle.version, bundle.manifest.sha256, ())
        check_age(matter, judged.stale_at, self._newest.now(self._files.state()), self.policy())
        return matter

    def fetch_agent(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
    ) -> TrustedAgent:
        wanted = bundle_ref(ref)
        with self._held(deadline):
            judged = self._newest.advance(source, deadline, bring_policy=True)
            bundle = self.signed_bundle(judged.verified, wanted, channel, source, outdated=judged.outdated)
            check_usable(bundle)
            check_sizes(bundle.files)
            kit = bundle.head

            def tell(have: int) -> None:
                if progress:
                    progress(Progress("copy", have, kit.size))

            self._make_room(bundle)
            bring = self.blobs.compare if reread and self.blobs.holds(kit) else self.blobs.copy
            bring(source, kit, deadline, tell)
            self.blobs.gather(kit.sha256, [(kit.parts.file, kit.sha256)])  # so that it ages as bundles do
        return TrustedAgent(bundle.channel, bundle.model, bundle.version, kit.sha256, self._payload())

    # --- one bundle -------------------------------------------------------------------------------------------------

    def _bring(
        self,
        bundle: SignedBundle,
        source: Source,
        deadline: Deadline,
        progress: OnProgress | None,
        *,
        reread: bool,
        broken: Broken | None,
    ) -> TrustedBundle:
        check_sizes(bundle.files)
        self._make_room(bundle)
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
            broken=broken,
        )

    def _make_room(self, bundle: SignedBundle) -> None:
        """Old copies give way, but never what the policy or this bundle needs. Raises StorageFault (disk_full)."""
        state = self._files.state()
        kept = {target.sha256 for target in [*bundle.files, *policy_targets_in(state.targets if state else [])]}
        self.blobs.make_room(bundle.files, kept, self._clock.now())

    # --- too old, and used all the same -------------------------------------------------------------------------------

    def _break(self, judged: Judged, bundle: SignedBundle, glass: BreakGlass) -> Broken | None:
        """None: nothing has expired. Raises TrustRefused (expired)."""
        from fieldops.edges.keys import sshsig_verify

        if judged.stale_at is None:
            return None
        policy = glass.policy or self.policy()
        now = self._newest.now(self._files.state())
        matter = Matter("accept_expired", bundle.model, bundle.version, bundle.manifest.sha256, glass.devices, glass.asker)
        check_age(matter, judged.stale_at, now, policy)
        people = judge(glass.approvals, matter, policy, now, sshsig_verify)
        return Broken(since=judged.stale_at, age_s=now - judged.stale_at, people=people)

    def _payload(self) -> Payload:
        return CachedPayload(self._files.metadata, self.blobs)

    def _held(self, deadline: Deadline | None) -> AbstractContextManager[None]:
        return self._files.held(deadline)


def _claimed_channel(source: Source, wanted: BundleRef) -> str:
    """Where the source says that it has the version; its word only chooses which channel's age is looked at."""
    bundle = find_bundle(claimed(source), wanted, None)
    return bundle.channel if bundle else ""

"""Moving forward: own state and a source, judged together, and the newer of both kept whole or nothing.

The caller holds the folder's lock. Expiry is judged by the clock, but never below the floor, which only signed metadata and
store receipts raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldops.bundles.trust import POLICY_DOCUMENT, Target, check_sizes, policy_targets_in, refuse
from fieldops.deadline import Deadline
from fieldops.edges.blobs import BlobCache
from fieldops.edges.tuf_state import State, TrustFolder, no_root, timestamp_keys_went
from fieldops.errors import TrustRefused, UsageFault
from fieldops.policy import PolicyDocument, decode_policy
from fieldops.ports import Clock, Source

if TYPE_CHECKING:
    from fieldops.edges.tuf_refresh import Outcome, Verified


@dataclass(frozen=True, slots=True)
class Judged:
    """Verified metadata that is not kept yet."""

    verified: Verified
    outdated: bool
    stale_at: float | None


class Advance:
    """built: the least time this build believes in. remembered: see TrustStore's floor."""

    def __init__(
        self, files: TrustFolder, blobs: BlobCache, clock: Clock, *, built: float, remembered: tuple[float, int]
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._clock = clock
        self._built = built
        self._remembered = remembered

    def advance(self, source: Source | None, deadline: Deadline, *, bring_policy: bool) -> Judged:
        """Verify, then keep. The lock is held."""
        judged = self.verify(source, deadline)
        self.keep(judged, source, deadline, bring_policy=bring_policy)
        return judged

    def verify(self, source: Source | None, deadline: Deadline, *, stale: str | None = None) -> Judged:
        """Nothing but newer roots is kept. stale: a channel that may have expired, and all that it rests on."""
        from fieldops.edges import tuf_refresh

        roots = self._files.roots()
        if not roots:
            raise no_root()
        self._files.sweep()
        self._files.settle(self._files.state())
        own, now = self._files.own(), self.now(self._files.state())
        if source is None and "timestamp.json" not in own:
            raise refuse("missing", "no signed metadata was brought here yet", next_step="bring a stick of the release team")

        def attempt(root: bytes, now: float) -> Outcome:
            if stale is None:
                return tuf_refresh.verify(own, root, source, now=now, deadline=deadline, scratch=self._files.folder)
            return tuf_refresh.verify_stale(
                own, root, source, channel=stale, now=now, deadline=deadline, scratch=self._files.folder
            )

        outcome = attempt(roots[max(roots)], now)
        self._keep_newer(outcome)
        roots, lowered = self._files.roots(), self.now(self._files.state())
        if lowered < now:  # a new root took back what the timestamps of the old key had said of the time
            outcome = attempt(roots[max(roots)], lowered)
            self._keep_newer(outcome)
            roots = self._files.roots()
        self._files.check_seen(max(roots), roots[max(roots)])
        return Judged(self._judged(outcome), outcome.outdated, outcome.stale_at)

    def _keep_newer(self, outcome: Outcome) -> None:
        known = self._files.roots()
        newer = {version: data for version, data in outcome.roots.items() if version not in known}
        if newer:
            self._files.keep_roots(newer, self._files.state())

    def _judged(self, outcome: Outcome) -> Verified:
        if outcome.verified is None:
            raise outcome.refusal or refuse("malformed", "the metadata could not be judged")
        # tuf's own rollback check needs our former timestamp intact; this one does not. New timestamp keys begin anew.
        state = self._files.state()
        if state is not None and outcome.verified.timestamp_version < state.timestamp_version:
            raise refuse("rollback", f"timestamp {outcome.verified.timestamp_version} after {state.timestamp_version}")
        return outcome.verified

    def keep(self, judged: Judged, source: Source | None, deadline: Deadline, *, bring_policy: bool) -> None:
        verified, state, own = judged.verified, self._files.state(), self._files.own()
        if source is not None and bring_policy:
            self._bring_policy(verified, source, deadline, outdated=judged.outdated)
        known = state.timestamp_version if state else 0
        if verified.files != {name: own.get(name) for name in verified.files} or known != verified.timestamp_version:
            self._files.keep(verified, state)
        if source is not None:
            self._carry_older_roots(source)

    def _bring_policy(self, verified: Verified, source: Source, deadline: Deadline, *, outdated: bool) -> None:
        targets = policy_targets_in(verified.targets)
        check_sizes(targets)
        for target in targets:
            try:
                self._blobs.copy(source, target, deadline)
            except TrustRefused as error:
                if outdated and error.reason == "missing":  # an older stick need not carry today's policy
                    continue
                raise
            if target.name == POLICY_DOCUMENT:  # rules nobody can read must not replace those that are read now
                self.policy_of(target)

    def policy_of(self, target: Target) -> PolicyDocument:
        try:
            return decode_policy(self._blobs.read(target))
        except UsageFault as error:
            raise refuse("malformed", f"the signed policy: {error.message}") from error

    def reread(self, judged: Judged, source: Source, deadline: Deadline) -> None:
        """What a computer would make of the source that knows nothing but the root: ours must not fill in what it lacks.

        Metadata of an older source does not count, so nobody asks whether it is whole.
        """
        from fieldops.edges import tuf_refresh

        if not judged.outdated:
            roots, now = self._files.roots(), self.now(self._files.state())
            alone = tuf_refresh.verify({}, roots[max(roots)], source, now=now, deadline=deadline, scratch=self._files.folder)
            if alone.refusal is not None:
                raise alone.refusal
        for target in policy_targets_in(judged.verified.targets):
            self._blobs.compare(source, target, deadline)

    def _carry_older_roots(self, source: Source) -> None:
        """Roots from before ours, for devices that were enrolled then. Nothing here is decided by them: the newest is."""
        from fieldops.edges.tuf_refresh import ROOT_LIMIT_BYTES, check_first_root

        for version in range(min(self._files.roots()) - 1, 0, -1):
            try:
                data = source.read(f"metadata/{version}.root.json", ROOT_LIMIT_BYTES)
                if check_first_root(data) != version:
                    return
            except TrustRefused:
                return
            self._files.keep_older_root(version, data)

    def now(self, state: State | None) -> float:
        return max(self._clock.now(), self.floor(state))

    def floor(self, state: State | None) -> float:
        return max(self._built, self._remembered_floor(), *((state.clock_floor, state.signed_floor) if state else ()))

    def _remembered_floor(self) -> float:
        floor, since = self._remembered
        return 0.0 if floor and timestamp_keys_went(self._files.roots(), since) else floor

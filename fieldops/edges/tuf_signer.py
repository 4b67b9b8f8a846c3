"""The release team's repository: one door to its keys, roles, pending changes, publications and sticks.

A role is edited as pending metadata, signed by its signers (together, or one after the other on their own machines), and
published when every threshold is met; snapshot and timestamp follow. The parts: tuf_keys (keys), tuf_roles (who signs
what), tuf_folder (the disk), tuf_bundles (what is listed), tuf_signing, tuf_publish, tuf_export, tuf_doctor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from fieldops.bundles.kit import Kit
from fieldops.bundles.manifest import Manifest
from fieldops.edges import tuf_bundles, tuf_ceremony, tuf_export, tuf_publish, tuf_signing
from fieldops.edges.disk import storage_faults
from fieldops.edges.tuf_bundles import payload_names
from fieldops.edges.tuf_doctor import examine
from fieldops.edges.tuf_export import LONGEST_STICK_DAYS, Choice, Exported, Validity
from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_keys import KeyFolder, name_of, public_key
from fieldops.edges.tuf_roles import (
    CHANNELS,
    ONLINE,
    PLAN,
    Rotation,
    Tally,
    check_distinct,
    check_role,
    delegator_of,
    keys_of,
)
from fieldops.errors import UsageFault
from fieldops.ports import Clock

__all__ = ["CHANNELS", "LONGEST_STICK_DAYS", "PLAN", "ReleaseRepo", "payload_names"]


class ReleaseRepo:
    """A repository that exists; `init` makes one. Writers in other processes are waited for, then refused (in_use)."""

    def __init__(self, repo: Path, keys: Path | KeyFolder, clock: Clock) -> None:
        self.repo = repo
        self.keys = keys if isinstance(keys, KeyFolder) else KeyFolder(keys)
        self._folder = RepositoryFolder(repo, clock)
        if not (repo / "metadata").is_dir():
            raise UsageFault(
                f"{repo} is no release repository",
                reason="no_repository",
                next_step="make one with `fieldops release init --repo DIR --keys DIR`",
            )

    @classmethod
    def init(
        cls,
        repo: Path,
        keys: Path | KeyFolder,
        clock: Clock,
        *,
        days: Mapping[str, int] | None = None,
        thresholds: Mapping[str, int] | None = None,
    ) -> ReleaseRepo:
        """A new repository with an empty release. days, thresholds: by role, where others than PLAN's are wanted.

        An empty key folder gets all keys, and the release is published at once. Keys and public keys that lie there are
        used as they are: what their private halves at hand cannot sign stays pending.
        """
        holder = keys if isinstance(keys, KeyFolder) else KeyFolder(keys)
        for inside in (repo / "metadata", repo / "pending"):
            if inside.is_dir() and any(inside.iterdir()):
                raise UsageFault(f"{repo} is a repository already", reason="exists", next_step="use it, or name an empty folder")
        found = tuf_ceremony.first_keys(holder)
        check_distinct(found)
        needed = {role: (thresholds or {}).get(role, plan.threshold) for role, plan in PLAN.items()}
        with storage_faults(repo):
            for folder in (repo / "metadata", repo / "targets", repo / "pending"):
                folder.mkdir(parents=True, exist_ok=True)
        release = cls(repo, holder, clock)
        with release._folder.held():
            validity = {role: (days or {}).get(role, plan.days) for role, plan in PLAN.items()}
            tuf_ceremony.draft_first(release._folder, holder, found, needed, validity)
        return release

    # --- changing -------------------------------------------------------------------------------------------------

    def add_bundle(self, channel: str, folder: Path, manifest: Manifest, made: Mapping[str, bytes] | None = None) -> Manifest:
        """List the files a manifest names in the channel's pending metadata. Returns the manifest as it will be signed.

        The manifest's `files` are filled when empty, else they must agree. made: files that were made for this release.
        """
        with self._folder.held():
            return tuf_bundles.add_bundle(self._folder, channel, folder, manifest, made or {})

    def add_agent(self, channel: str, source: Path, kit: Kit) -> str:
        """List an agent's software (a kit that was read), as one archive, in the channel's pending metadata. Returns its target name."""
        with self._folder.held():
            return tuf_bundles.add_agent(self._folder, channel, source, kit)

    def promote(self, ref: str, channel: str) -> str:
        """List a version in a channel exactly as another one has it; returns that other one."""
        with self._folder.held():
            return tuf_bundles.promote(self._folder, ref, channel)

    def add_policy_target(self, name: str, data: bytes) -> None:
        """name: `policy/rules/current/policy.json` and the like. An older file of that name is replaced."""
        with self._folder.held():
            tuf_bundles.add_policy_target(self._folder, name, data)

    def policy_target(self, name: str) -> bytes:
        """A target of the policy, as pending or else as published. Raises UsageFault when there is none."""
        return tuf_bundles.policy_target(self._folder, name)

    def withdraw(self, ref: str, channel: str) -> None:
        with self._folder.held():
            tuf_bundles.withdraw(self._folder, ref, channel)

    def rotate(self, role: str, *, out: str | None = None, into: str | None = None, threshold: int | None = None) -> list[str]:
        """Change a role's keys or threshold; the roles that must be signed now.

        out: name of a key, or the start of its id. into: name of a key in the folder, or a `.pub` file. Without one, a key is
        made in the key folder, in place of the one that goes (or of the only one there is).
        """
        check_role(role)
        by = delegator_of(role)
        rotation = Rotation(out, self._public(into) if into is not None else None, threshold)
        with self._folder.held():
            rotation = self._completed(role, rotation)
            with self._folder.edit(by) as signed:
                rotation.apply(signed, role)
                self._check_distinct(by, signed)
            if role not in ONLINE and role != by:
                metadata = self._folder.current(role)
                if not all(each.complete for each in self._folder.tallies(role, metadata)):
                    with self._folder.edit(role):
                        pass  # what the former keys signed would count for nothing
            return [each for each in (by, role) if self._folder.pending_path(each).exists()] if by != role else [by]

    def _completed(self, role: str, rotation: Rotation) -> Rotation:
        if rotation.into is not None or (rotation.out is None and rotation.threshold is not None):
            return rotation
        if rotation.out is not None and rotation.threshold is not None:
            return rotation  # one fewer on purpose
        listed = keys_of(self._folder.delegator(role), role)
        if rotation.out is None and len(listed) > 1:
            raise UsageFault(
                f"{role} has {len(listed)} keys",
                reason="ambiguous",
                next_step=f"say which one goes: --out with one of {', '.join(sorted(name_of(key) for key in listed))}",
            )
        number = max([int(name.rpartition("-")[2]) for name in self.keys.names(role, private=False)], default=len(listed)) + 1
        return Rotation(rotation.out or listed[0].keyid, self.keys.make(f"{role}-{number}"))

    def _public(self, into: str) -> Key:
        path = Path(into)
        return public_key(path) if path.suffix == ".pub" else self.keys.public(into)

    def _check_distinct(self, by: str, signed: Root | Targets) -> None:
        other = self._folder.delegator("stable" if by == "root" else "root")
        both = (signed, other)
        check_distinct({role: keys_of(each, role) for role in PLAN for each in both if _delegates(each, role)})

    # --- signing --------------------------------------------------------------------------------------------------

    def sign(self, role: str, signers: Sequence[str] | None = None) -> int:
        """Add signatures to what is pending; without any, a new version of what is published. Returns the signatures there.

        signers: key names such as `stable-2`, or paths; None: every key of the role that is at hand.
        """
        check_role(role)
        with self._folder.held():
            return len(tuf_signing.sign(self._folder, self.keys, role, signers).signatures)

    def join(self, role: str, file: Path) -> int:
        """Take over the signatures of a pending role that was carried to a signer and back. Returns the signatures there."""
        check_role(role)
        with self._folder.held():
            return len(tuf_signing.join(self._folder, role, file).signatures)

    def standing(self, role: str) -> list[Tally]:
        """How the role's signatures stand for the next publication."""
        return tuf_publish.standing(self._folder)[role]

    def changes(self, role: str) -> list[str]:
        """What the pending role would change, a line each; empty when nothing is pending."""
        pending = self._folder.pending(role)
        former = self._folder.published(role) if self._folder.newest(role) else None
        return tuf_signing.changes(pending, former) if pending is not None else []

    def pending_file(self, role: str) -> Path:
        return self._folder.pending_path(role)

    def pending_roles(self) -> list[str]:
        return self._folder.pending_roles()

    @property
    def published(self) -> bool:
        return bool(self._folder.newest("root"))

    def publish(self) -> int:
        """Everything signed since the last time becomes the release; returns the timestamp's version.

        Raises UsageFault (reason threshold) when signatures are missing; nothing is published then.
        """
        with self._folder.held():
            return tuf_publish.publish(self._folder, self.keys)

    def resign_expired(self, now: float | None = None) -> list[str]:
        """Sign again what has expired, with every key at hand, and publish. Returns the roles; empty: nothing to do."""
        at = self._folder.at(now)
        with self._folder.held():
            lapsed = [role for role in PLAN if self._folder.published(role).signed.is_expired(at)]
            for role in lapsed:
                if role not in ONLINE:
                    tuf_signing.sign(self._folder, self.keys, role, None)
            if lapsed:
                tuf_publish.publish(self._folder, self.keys)
        return lapsed

    def doctor(self) -> list[str]:
        return examine(self._folder, self.keys)

    # --- handing out ----------------------------------------------------------------------------------------------

    def root(self, version: int | None = None) -> bytes:
        """The exact bytes of a published root; None: the newest."""
        if version is None:
            return self._folder.published_bytes("root")
        with storage_faults(self.repo):
            return (self.repo / "metadata" / f"{version}.root.json").read_bytes()

    def export_stick(
        self, dest: Path, expires_in_days: float = 30, *, refs: Sequence[str] | None = None, now: float | None = None
    ) -> Path:
        """`dest/FIELDOPS` with the bundles in refs (None: all). Returns that folder. now: the moment to sign at, if not this."""
        return self.export(dest, expires_in_days, bundles=refs, now=now).place

    def export(
        self,
        dest: Path,
        expires_in_days: float,
        *,
        channels: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        bundles: Sequence[str] | None = None,
        until: float | None = None,
        now: float | None = None,
    ) -> Exported:
        """A stick with what is chosen (None: all). until: Unix seconds that its validity must cover, else UsageFault (too_short)."""
        choice, validity = Choice(channels, models, bundles), Validity(expires_in_days, until)
        with self._folder.held():
            return tuf_export.export_stick(self._folder, self.keys, dest, choice, validity, now)

    def renewal(self, file: Path, expires_in_days: float, *, until: float | None = None, now: float | None = None) -> Exported:
        """Metadata and small policy files in one file, for sticks that were written before."""
        validity = Validity(expires_in_days, until)
        with self._folder.held():
            return tuf_export.write_renewal(self._folder, self.keys, file, validity, now)

    # --- on a signer's own machine --------------------------------------------------------------------------------

    @staticmethod
    def sign_carried(keys: Path | KeyFolder, role: str, names: Sequence[str], file: Path) -> list[str]:
        """Sign a pending role that was carried here; no repository is needed. What it says, a line each."""
        holder = keys if isinstance(keys, KeyFolder) else KeyFolder(keys)
        metadata = tuf_signing.sign_file(holder, check_role(role), names, file)
        return tuf_signing.changes(metadata, None)


def _delegates(delegator: Root | Targets, role: str) -> bool:
    return delegator_of(role) == ("root" if isinstance(delegator, Root) else "targets")

"""From what is pending to what is published: every signature counted, snapshot and timestamp made, then one decision.

The order in which files come into place keeps a reader of metadata/ on the old or the new release, whatever the moment:
a new root comes last when the new release also holds under the root before it (old and new online keys both sign), else
right before the timestamp.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Timestamp

from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_keys import KeyFolder
from fieldops.edges.tuf_roles import DELEGATED, OFFLINE, Tally, delegator_of, keys_of, tally
from fieldops.errors import UsageFault

_FUTURE_S = 86_400


def standing(folder: RepositoryFolder) -> dict[str, list[Tally]]:
    """For each role signed by people: how it stands for the next publication. Roles that were never drafted are left out."""
    found: dict[str, list[Tally]] = {}
    for role in OFFLINE:
        metadata = folder.pending(role)
        if metadata is None and not folder.newest(role):
            continue
        metadata = metadata or folder.published(role)
        if role == "root" and not folder.pending_path(role).exists():
            found[role] = [tally(metadata.signed, role, metadata)]
        else:
            found[role] = folder.tallies(role, metadata)
    return found


def check_complete(folder: RepositoryFolder) -> None:
    """Raises UsageFault (threshold) naming every role that lacks signatures, pending or orphaned by a rotation."""
    lacking = [str(each) for tallies in standing(folder).values() for each in tallies if not each.complete]
    if lacking:
        raise UsageFault(
            f"not ready: {'; '.join(lacking)}",
            reason="threshold",
            next_step="let the signers named run `fieldops release sign ROLE`",
        )


def publish(folder: RepositoryFolder, keys: KeyFolder) -> int:
    """All that is pending becomes the release; returns the timestamp's version. The folder is held."""
    check_complete(folder)
    return _Publication(folder, keys).commit()


@dataclass(slots=True)
class _Publication:
    folder: RepositoryFolder
    keys: KeyFolder
    files: dict[str, bytes] = field(default_factory=dict)

    def commit(self) -> int:
        new, former = self.folder.current("root").signed, None
        pending = {role: found for role in self.folder.pending_roles() if (found := self.folder.pending(role)) is not None}
        if "root" in pending and new.version > 1:
            former = self.folder.published_signed("root", Root)
        for role, metadata in pending.items():
            self.files[f"{metadata.signed.version}.{role}.json"] = metadata.to_bytes()
        meta = {f"{role}.json": self._meta(role, pending) for role in ("targets", *DELEGATED)}
        number = self.folder.newest("snapshot") + 1
        snapshot = Snapshot(version=number, expires=self.folder.until("snapshot"), meta=meta)
        signed_snapshot = sign_online(self.keys, "snapshot", snapshot, new, former)
        data = self.files[f"{number}.snapshot.json"] = signed_snapshot.to_bytes()
        timestamp = Timestamp(
            version=self._version(new, former),
            expires=self.folder.until("timestamp"),
            snapshot_meta=MetaFile.from_data(number, data, ["sha256"]),
        )
        signed_timestamp = sign_online(self.keys, "timestamp", timestamp, new, former)
        self.files["timestamp.json"] = signed_timestamp.to_bytes()
        top = pending.get("targets") or self.folder.published("targets")
        root_last = former is not None and _holds(former, targets=top, snapshot=signed_snapshot, timestamp=signed_timestamp)
        self.folder.commit(self.files, self._order(root_last=root_last))
        return timestamp.version

    def _meta(self, role: str, pending: Mapping[str, Metadata[Any]]) -> MetaFile:
        if role in pending:
            version = pending[role].signed.version
            return MetaFile.from_data(version, self.files[f"{version}.{role}.json"], ["sha256"])
        return MetaFile.from_data(self.folder.newest(role), self.folder.published_bytes(role), ["sha256"])

    def _version(self, new: Root, former: Root | None) -> int:
        """A new timestamp key cures a timestamp from the future: clients drop what the old key signed."""
        at = self.folder.at()
        changed = former is not None and set(former.roles["timestamp"].keyids) != set(new.roles["timestamp"].keyids)
        return self.folder.next_timestamp(at, anew=changed and self.folder.last_timestamp() > at.timestamp() + _FUTURE_S)

    def _order(self, *, root_last: bool) -> list[str]:
        roots = [name for name in self.files if name.endswith(".root.json")]
        others = sorted(name for name in self.files if name not in roots and name != "timestamp.json")
        return [*others, "timestamp.json", *roots] if root_last else [*others, *roots, "timestamp.json"]


def _holds(root: Root, **roles: Metadata[Any]) -> bool:
    try:
        for role, metadata in roles.items():
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError:
        return False
    return True


def sign_online(keys: KeyFolder, role: str, signed: Signed, root: Root, former: Root | None = None) -> Metadata[Any]:
    """Snapshot or timestamp, signed by every key at hand that the root, or the one before it, lists. Raises UsageFault."""
    metadata = Metadata[Any](signed)
    listed = {key.keyid for each in (root, former) if each is not None for key in keys_of(each, role)}
    for signer in signers_at_hand(keys, role, listed):
        metadata.sign(signer, append=True)
    found = tally(root, role, metadata)
    if not found.complete:
        raise UsageFault(
            f"{found} (keys in {keys.folder})", reason="no_key", next_step=f"run this where the key of {role} is (--keys DIR)"
        )
    return metadata


def signers_at_hand(keys: KeyFolder, role: str, listed: set[str]) -> list[Signer]:
    """Keys in the folder that the role has; those that were rotated out stay silent."""
    return [signer for name in keys.names(role) if (signer := keys.signer(name)).public_key.keyid in listed]


def allowed(folder: RepositoryFolder, role: str) -> dict[str, Key]:
    """Keys whose signature on the role counts for something: at the next publication, or for readers of the root before it."""
    found = {key.keyid: key for key in keys_of(folder.delegator(role), role)}
    if delegator_of(role) == "root" and folder.newest("root"):
        found |= {key.keyid: key for key in keys_of(folder.published_signed("root", Root), role)}
    return found


def expires_first(folder: RepositoryFolder, roles: tuple[str, ...]) -> tuple[dt.datetime, str]:
    """The earliest end of validity among published roles, and whose it is."""
    return min((folder.published(role).signed.expires, role) for role in roles)

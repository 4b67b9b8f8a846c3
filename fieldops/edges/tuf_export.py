"""What leaves the office: a stick with payloads, and a renewal (metadata and small policy files, one file of a few KB).

Both carry a timestamp of their own, signed again to last as long as asked, but never longer than the roles it rests on.
On the stick it is written last: a copy cut short leaves the former stick valid, or is completed by the same command.
"""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from fieldops.bundles.trust import POLICY_CHANNEL, BundleRef, Target, TargetName, bundle_ref, signed_target
from fieldops.edges.disk import storage_faults, write_whole
from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_keys import KeyFolder
from fieldops.edges.tuf_payloads import copy_exactly
from fieldops.edges.tuf_publish import expires_first, sign_online
from fieldops.edges.tuf_roles import CHANNELS, DELEGATED
from fieldops.edges.usb import REPOSITORY_FOLDER
from fieldops.errors import UsageFault

LONGEST_STICK_DAYS = 90
SMALL_POLICY_FILE = 16 << 10  # a renewal brings changed rules, people and runbooks
GOLDEN_SETS = "policy/golden/"  # these are on the sticks


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the release goes along. None: all. bundles: MODEL@VERSION."""

    channels: Sequence[str] | None = None
    models: Sequence[str] | None = None
    bundles: Sequence[str] | None = None

    def wants(self, name: TargetName) -> bool:
        if name.channel == POLICY_CHANNEL:
            return True
        refs = {bundle_ref(ref) for ref in self.bundles} if self.bundles is not None else None
        return (
            (self.channels is None or name.channel in self.channels)
            and (self.models is None or name.model in self.models)
            and (refs is None or BundleRef(name.model, name.version) in refs)
        )

    def check(self, found: set[TargetName]) -> None:
        """What was asked for by name must be there. Raises UsageFault."""
        bundles = {f"{name.model}@{name.version}" for name in found}
        wanted = (
            ("channel", self.channels, set(CHANNELS)),
            ("model", self.models, {name.model for name in found}),
            ("bundle", self.bundles, bundles),
        )
        for what, asked, known in wanted:
            if lost := sorted(set(asked or ()) - known):
                raise UsageFault(
                    f"the release has no {what} {', '.join(lost)}",
                    reason="unknown_target",
                    next_step=f"it has: {', '.join(sorted(known)) or 'none yet'}",
                )


@dataclass(frozen=True, slots=True)
class Validity:
    """days: from the signing on. until: Unix seconds that must be covered; None: no such demand."""

    days: float
    until: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.days <= LONGEST_STICK_DAYS:
            raise UsageFault(f"{self.days} days; a stick lasts at most {LONGEST_STICK_DAYS}", next_step="choose fewer days")

    def end(self, folder: RepositoryFolder, roles: tuple[str, ...], at: dt.datetime) -> dt.datetime:
        """Raises UsageFault (too_short, expired)."""
        limit, role = expires_first(folder, roles)
        if limit <= at:
            raise UsageFault(
                f"{role} expired {limit:%Y-%m-%d}",
                reason="expired",
                next_step=f"`fieldops release sign {role}`, then `fieldops release publish`"
                if role not in ("snapshot", "timestamp")
                else "`fieldops release publish` signs it again",
            )
        end = min(at + dt.timedelta(days=self.days), limit).replace(microsecond=0)
        if self.until is not None and end.timestamp() < self.until:
            why = f"{role} ends then" if end == limit.replace(microsecond=0) else f"--expires-in-days is {self.days:g}"
            raise UsageFault(
                f"valid until {end:%Y-%m-%d %H:%M} UTC only, since {why}",
                reason="too_short",
                next_step="sign the role again and publish, ask for more days, or for an earlier date",
            )
        return end


@dataclass(frozen=True, slots=True)
class Exported:
    """place: folder or file written. expires: Unix seconds."""

    place: Path
    expires: float
    bundles: tuple[str, ...]
    size_bytes: int


def export_stick(
    folder: RepositoryFolder, keys: KeyFolder, dest: Path, choice: Choice, validity: Validity, now: float | None
) -> Exported:
    """`dest/FIELDOPS` with all metadata, the policy's files and the chosen bundles. The folder is held."""
    stick = dest / REPOSITORY_FOLDER
    at = folder.at(now)
    listed = _listed(folder)
    choice.check({target.parts for target in listed if target.parts.channel != POLICY_CHANNEL})
    chosen = [target for target in listed if choice.wants(target.parts)]
    timestamp = _timestamp(folder, keys, choice, validity, at)
    for target in chosen:
        copy_exactly(
            folder.repo / target.path,
            stick / target.path,
            target.sha256,
            next_step="restore it from the repository's backup",
        )
    current = metadata_files(folder)
    for name, data in current.items():
        write_whole(stick / "metadata" / name, data, 0o644)
    write_whole(stick / "metadata" / "timestamp.json", timestamp.to_bytes(), 0o644)
    with storage_faults(stick):
        for path in (stick / "metadata").iterdir():
            if path.is_file() and path.name not in current and path.name != "timestamp.json":
                path.unlink()
    bundles = {f"{each.parts.model}@{each.parts.version}" for each in chosen if each.parts.channel != POLICY_CHANNEL}
    return Exported(stick, timestamp.signed.expires.timestamp(), tuple(sorted(bundles)), sum(target.size for target in chosen))


def write_renewal(folder: RepositoryFolder, keys: KeyFolder, file: Path, validity: Validity, now: float | None) -> Exported:
    """One zip of metadata and small policy files, so that sticks written before are valid again. The folder is held."""
    timestamp = _timestamp(folder, keys, Choice(), validity, folder.at(now))
    members = {f"metadata/{name}": data for name, data in metadata_files(folder).items()}
    members["metadata/timestamp.json"] = timestamp.to_bytes()
    with storage_faults(folder.repo):
        for target in _listed(folder):
            small = target.size <= SMALL_POLICY_FILE and not target.name.startswith(GOLDEN_SETS)
            if target.parts.channel == POLICY_CHANNEL and small:
                members[target.path] = (folder.repo / target.path).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    write_whole(file, buffer.getvalue(), 0o644)
    return Exported(file, timestamp.signed.expires.timestamp(), (), len(buffer.getvalue()))


def _timestamp(
    folder: RepositoryFolder, keys: KeyFolder, choice: Choice, validity: Validity, at: dt.datetime
) -> Metadata[Timestamp]:
    channels = tuple(channel for channel in CHANNELS if choice.channels is None or channel in choice.channels)
    roles = ("root", "targets", "snapshot", POLICY_CHANNEL, *channels)
    signed = folder.published_signed("timestamp", Timestamp)
    signed.expires = validity.end(folder, roles, at)
    signed.version = folder.next_timestamp(at)
    return sign_online(keys, "timestamp", signed, folder.published_signed("root", Root))


def _listed(folder: RepositoryFolder) -> list[Target]:
    """Every published target."""
    found: list[Target] = []
    for role in DELEGATED:
        for name, info in folder.published_signed(role, Targets).targets.items():
            custom = info.unrecognized_fields.get("custom")
            found.append(signed_target(name, sha256=info.hashes.get("sha256"), size=info.length, role=role, custom=custom))
    return found


def metadata_files(folder: RepositoryFolder) -> dict[str, bytes]:
    """Every root, and the newest of the others, by their names on a stick; without the timestamp."""
    numbers: dict[str, Any] = {role: [folder.newest(role)] for role in ("snapshot", "targets", *DELEGATED)}
    numbers["root"] = range(1, folder.newest("root") + 1)
    names = [f"{number}.{role}.json" for role, found in numbers.items() for number in found]
    with storage_faults(folder.metadata):
        return {name: (folder.metadata / name).read_bytes() for name in names if (folder.metadata / name).exists()}

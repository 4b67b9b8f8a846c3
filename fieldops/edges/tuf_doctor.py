"""What will hurt a release later, found early: expiries, clocks, thresholds, signatures, keys and payloads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Targets, Timestamp

from fieldops.bundles.manifest import MANIFEST_FILE
from fieldops.bundles.trust import POLICY_CHANNEL, POLICY_DOCUMENT, target_name
from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_keys import KeyFolder, name_of
from fieldops.edges.tuf_publish import standing
from fieldops.edges.tuf_roles import CHANNELS, DELEGATED, PLAN, TOP, delegator_of, keys_of
from fieldops.errors import StorageFault, UsageFault

WARN_DAYS = 90
WARN_TIMESTAMP_DAYS = 2  # every publication and every stick signs it again
FUTURE_S = 86_400


def examine(folder: RepositoryFolder, keys: KeyFolder) -> list[str]:
    """A line for a person for each finding, gravest kinds first; empty: nothing to do."""
    found: list[str] = []
    try:
        found += _signatures(folder)
        if not folder.newest("root"):
            return [*found, "nothing is published yet: sign what is pending, then `fieldops release publish`"]
        found += _thresholds(folder)
        found += _expiries(folder)
        found += _future(folder)
        found += _payloads(folder)
        found += _policy(folder)
    except (StorageFault, UsageFault) as error:
        found.append(f"damaged: {error.message}; {error.next_step}")
    return [*found, *_keys(keys)]


def _signatures(folder: RepositoryFolder) -> Iterator[str]:
    for role, tallies in standing(folder).items():
        pending = folder.pending_path(role).exists()
        for each in tallies:
            if not each.complete:
                yield f"{'pending' if pending else 'published'} {each}"
        if pending and all(each.complete for each in tallies):
            yield f"pending {role}: signed, not published; `fieldops release publish`"


def _thresholds(folder: RepositoryFolder) -> Iterator[str]:
    seen: dict[str, str] = {}
    for role in PLAN:
        delegator = folder.published(delegator_of(role)).signed
        assert isinstance(delegator, Root | Targets)
        threshold, listed = delegator.get_delegated_role(role).threshold, keys_of(delegator, role)
        if len({key.keyid for key in listed}) < threshold:
            yield f"{role}: {threshold} signatures needed, {len(listed)} keys there; `fieldops release rotate {role}`"
        for key in listed:
            if seen.setdefault(key.keyid, role) != role:
                yield f"{role}: its key {name_of(key)} also serves {seen[key.keyid]}; rotate one of them"


def _expiries(folder: RepositoryFolder) -> Iterator[str]:
    now = folder.at()
    for role in PLAN:
        expires = folder.published(role).signed.expires
        days = (expires - now).total_seconds() / 86_400
        if days > (WARN_TIMESTAMP_DAYS if role == "timestamp" else WARN_DAYS):
            continue
        how = "`fieldops release publish` signs it again" if role in TOP[2:] else f"`fieldops release sign {role}`, then publish"
        said = f"expired {expires:%Y-%m-%d}" if days <= 0 else f"expires {expires:%Y-%m-%d}, in {int(days)} days"
        yield f"{role}: {said}; {how}"


def _future(folder: RepositoryFolder) -> Iterator[str]:
    version = max(folder.published_signed("timestamp", Timestamp).version, folder.last_timestamp())
    if version > folder.clock.now() + FUTURE_S:
        yield (
            f"timestamp: version {version} is {(version - folder.clock.now()) / 86_400:.0f} days in the future: a clock was wrong "
            "here; set it, then `fieldops release rotate timestamp`, so that devices begin anew"
        )


def _payloads(folder: RepositoryFolder) -> Iterator[str]:
    for role in DELEGATED:
        for name, info in folder.current(role).signed.targets.items():
            path = folder.repo / target_name(name).stored_as(info.hashes["sha256"])
            wrong = _wrong(path, info.length, info.hashes["sha256"])
            if wrong:
                yield f"{name}: {wrong}; restore {path.name} from the backup"


def _wrong(path: Path, size: int, sha256: str) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size or hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return "its payload is damaged"
    except OSError as error:
        return f"its payload cannot be read ({error.strerror})"
    return ""


def _policy(folder: RepositoryFolder) -> Iterator[str]:
    listed: dict[str, Any] = folder.current(POLICY_CHANNEL).signed.targets
    if POLICY_DOCUMENT not in listed:
        yield "policy: there are no rules, so nobody may change anything; `fieldops release policy add-person`"
    tasks = {target_name(name).version for name in listed if name.startswith("policy/golden/")}
    bundles = [
        f"{parts.model}@{parts.version}"
        for channel in CHANNELS
        for name in folder.current(channel).signed.targets
        if (parts := target_name(name)).file == MANIFEST_FILE
    ]
    if bundles and not tasks:
        yield f"policy: no golden set, so no device accepts {', '.join(sorted(set(bundles)))}"


def _keys(keys: KeyFolder) -> Iterator[str]:
    for role in PLAN:
        for name in keys.names(role):
            for kind in (".pem", ".signer"):
                path = keys.folder / f"{name}{kind}"
                if os.name != "nt" and path.exists() and path.stat().st_mode & 0o077:
                    yield f"key {name}: {path} can be read by others; chmod 600, and rotate it if anybody did"
            path = keys.folder / f"{name}.pem"
            if path.exists() and b"BEGIN PRIVATE KEY" in path.read_bytes():
                yield f"key {name}: {path} has no passphrase"

"""The first release: keys made here or handed in, every role drafted, and published when the keys at hand suffice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from fieldops.edges.disk import write_whole
from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_keys import KeyFolder
from fieldops.edges.tuf_publish import publish, standing
from fieldops.edges.tuf_roles import DELEGATED, OFFLINE, ONLINE, PLAN, first_root, first_targets
from fieldops.edges.tuf_signing import sign
from fieldops.errors import UsageFault


def first_keys(keys: KeyFolder) -> dict[str, list[Key]]:
    """Those that lie in the folder; in an empty one, all keys are made. Raises UsageFault (not_enough_keys)."""
    names = {role: keys.names(role, private=False) for role in PLAN}
    if not any(names.values()):
        return {role: [keys.make(f"{role}-{number + 1}") for number in range(plan.keys)] for role, plan in PLAN.items()}
    if lacking := [role for role in PLAN if not names[role]]:
        raise UsageFault(
            f"{keys.folder} holds no key of {', '.join(lacking)}",
            reason="not_enough_keys",
            next_step="bring the holders' .pub files there, or name an empty folder to have all keys made",
        )
    return {role: [keys.public(name) for name in names[role]] for role in PLAN}


def draft_first(
    folder: RepositoryFolder,
    keys: KeyFolder,
    listed: Mapping[str, Sequence[Key]],
    thresholds: Mapping[str, int],
    days: Mapping[str, int],
) -> None:
    """The folder is held. listed, thresholds, days: by role."""
    write_whole(folder.repo / "validity.json", msgspec.json.encode(days), 0o644)
    root = first_root(listed, thresholds, Root(version=1, consistent_snapshot=True, expires=folder.until("root")))
    top = first_targets(listed, thresholds, Targets(version=1, expires=folder.until("targets")))
    folder.put_pending("root", Metadata(root))
    folder.put_pending("targets", Metadata(top))
    for role in DELEGATED:
        folder.put_pending(role, Metadata(Targets(version=1, expires=folder.until(role))))
    for role in OFFLINE:
        if keys.names(role):
            sign(folder, keys, role, None)
    complete = all(each.complete for tallies in standing(folder).values() for each in tallies)
    if complete and all(keys.names(role) for role in ONLINE):
        publish(folder, keys)

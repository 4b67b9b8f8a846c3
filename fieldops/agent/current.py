"""`current/<model>`: a link to the folder of the version that was committed, for runtimes that are not ours.

Derived from the registry, which alone decides: written after its commit, replaced whole, put right at the start and whenever
it is behind. A version on trial is not shown here, since nobody would know how a foreign runtime fares with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from fieldops.agent.home import AgentHome
from fieldops.edges.disk import point, sync_folder, unlink
from fieldops.edges.registry import Registry
from fieldops.slots import Slot


def show(home: AgentHome, registry: Registry, slots: Iterable[Slot]) -> bool:
    """False: the disk did not take all of it; what stands there then is an older link, whose version is kept as last-good."""
    shown = True
    for slot in slots:
        place, wanted = home.current / slot.model, _target(home, registry, slot)
        try:
            if wanted is not None:
                point(place, wanted)
            elif os.path.lexists(place):
                unlink(place)
                sync_folder(place.parent)
        except OSError:
            shown = False
    return shown


def _target(home: AgentHome, registry: Registry, slot: Slot) -> str | None:
    """None: nothing was committed, it is not among our folders, or its files are damaged: better none than those."""
    installed = registry.version(slot.model, slot.active) if slot.active and slot.state != "needs_human" else None
    if installed is None or not (home.bundles / installed.manifest_sha256).is_dir():
        return None
    return f"../{home.bundles.relative_to(home.root)}/{installed.manifest_sha256}"

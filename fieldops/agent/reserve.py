"""Space kept for one purpose: that the agent can start when its disk is full.

SQLite must make a file beside the registry before it can read it, so a start on a disk without a single free block would end
before any model answers. The reserve is given up then, and taken again when there is space.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import Final

from fieldops.agent.home import AgentHome
from fieldops.edges.disk import unlink, write_whole
from fieldops.edges.registry import Registry
from fieldops.errors import StorageFault

RESERVE_BYTES: Final = 512 << 10  # the files beside registry and telemetry, and a few commits
_PLENTY = 4


def open_registry(home: AgentHome) -> Registry:
    """Raises StorageFault: newer_schema, corrupt, or what stays wrong without the reserve."""
    try:
        return Registry.open(home.registry)
    except StorageFault:
        if not home.reserve.exists():
            raise
        unlink(home.reserve)
        return Registry.open(home.registry)


def keep_reserve(home: AgentHome) -> None:
    """Not compressible, or it would keep nothing. Where there is little space now, another time."""
    if not home.reserve.exists() and shutil.disk_usage(home.root).free > _PLENTY * RESERVE_BYTES:
        with suppress(StorageFault):
            write_whole(home.reserve, os.urandom(RESERVE_BYTES))

"""The laptop side: the only place where an edge meets a port, and where the clock is read.

    laptop -> enrolment -> links -> desk -> folders

Every edge is imported when it is first asked for, so that a light verb pays for nothing else. Opening a laptop creates
nothing on disk; what writes (keys, log, cache) creates its own folder when it first writes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fieldops.wiring.folders import data_dir, home_folder, read_config
from fieldops.wiring.laptop import Laptop

if TYPE_CHECKING:  # for the front ends, which know no edge
    from fieldops.wiring.enrolment import Installed as Installed
    from fieldops.wiring.office import Release as Release
    from fieldops.wiring.office import ReleaseKeys as ReleaseKeys

__all__ = ["Laptop", "data_dir", "home_folder", "main_of_store", "read_config"]


def main_of_store(arguments: list[str]) -> int:
    """`fieldops central serve ...` is the store's own program; it shares this process but nothing of the laptop."""
    from fieldops.central.__main__ import main

    sys.argv = ["fieldops central", *arguments]
    return main()

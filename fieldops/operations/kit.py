"""The installation kit: made at the office while online, used where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fieldops.bundles.kit import Kit, check_target
from fieldops.deadline import Deadline
from fieldops.ports import OnProgress


class MadeKit(Protocol):
    """A kit on disk whose every byte was compared."""

    @property
    def folder(self) -> Path: ...

    @property
    def kit(self) -> Kit: ...


class Maker(Protocol):
    """Gathers by the lock file. Raises DeviceCannot (no_wheel), LinkFault (no_index), StorageFault."""

    def __call__(self, platform: str, python: str, dest: Path, deadline: Deadline, progress: OnProgress) -> MadeKit: ...


def build(maker: Maker, platform: str, python: str, dest: Path, deadline: Deadline, progress: OnProgress) -> MadeKit:
    """Refused here, at the office, when the device could not install it."""
    check_target(platform, python)
    return maker(platform, python, dest, deadline, progress)

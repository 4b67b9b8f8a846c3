"""`fieldops device enrol --upgrade`: a newer agent from a release. Shown, asked and told as a sideload is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fieldops.cli.asked import Asked
from fieldops.cli.changes import Records, carry_out
from fieldops.cli.diagnostics import progress_of
from fieldops.operations import upgrade as operation

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.plans import ChangePlan
    from fieldops.ports import Device


def upgrade(asked: Asked, entries: Sequence[DeviceEntry], paths: Sequence[str], seconds: float) -> int:
    """paths: sticks, folders or addresses; none: removable media. seconds: for each device."""
    call, laptop, words = asked.call, asked.call.laptop, asked.words
    sources = [laptop.media.at(path) for path in paths] or laptop.media.find()

    def plan(device: Device, _: Deadline) -> ChangePlan:
        deadline, progress = call.deadline(seconds), progress_of(device.entry.name)
        return operation.plan(laptop.gate(), laptop.trust, device, sources, deadline, words=words, progress=progress)

    def run(device: Device, planned: ChangePlan, _: Deadline) -> Records:
        deadline, progress = call.deadline(seconds), progress_of(device.entry.name)
        return operation.run(laptop.gate(), laptop.links.anew, device.entry, planned, deadline, words=words, progress=progress)

    return carry_out(asked, entries, plan, run=run)

"""Inputs that devices kept: pulled to the laptop, labelled there, fed back as the labels of a Recalibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import DeviceEntry
from fieldops.ports import Device
from fieldops.wire import Sample, SamplePage


@runtime_checkable
class KeepsSamples(Protocol):
    """A device with an agent."""

    def samples(self, model: str, after: int, deadline: Deadline) -> SamplePage: ...


class Samples(Protocol):
    """The laptop's folder of them. device: its id."""

    def samples(self, device: str, model: str) -> list[Sample]: ...

    def add(self, device: str, model: str, new: list[Sample]) -> None: ...

    def labels(self, device: str, model: str) -> dict[int, int]: ...

    def put_labels(self, device: str, model: str, labels: dict[int, int]) -> Path: ...

    def read_csv(self, path: Path) -> dict[int, int]: ...


def pull(device: Device, folder: Samples, model: str, deadline: Deadline) -> tuple[int, int]:
    """(new samples that are here now, how many the device could not open). What was pulled before is not asked for again."""
    if not isinstance(device, KeepsSamples):
        raise DeviceCannot("there is no agent on it", reason="no_agent", next_step="enrol it: `fieldops device enrol`")
    about = _id(device.entry)
    after = max((sample.id for sample in folder.samples(about, model)), default=0)
    pulled = unreadable = 0
    while True:
        page = device.samples(model, after, deadline)
        unreadable += page.unreadable
        if page.samples:
            folder.add(about, model, page.samples)
            pulled += len(page.samples)
        if page.newest <= after:
            return pulled, unreadable
        after = page.newest


def unlabelled(folder: Samples, entry: DeviceEntry, model: str) -> list[Sample]:
    known = folder.labels(_id(entry), model)
    return [sample for sample in folder.samples(_id(entry), model) if sample.id not in known]


def label(folder: Samples, entry: DeviceEntry, model: str, new: dict[int, int]) -> tuple[int, Path]:
    """(labels there are now, their file). A later label takes the place of an earlier one. Raises UsageFault (unknown_sample)."""
    about = _id(entry)
    strange = sorted(new.keys() - {sample.id for sample in folder.samples(about, model)})
    if strange:
        raise UsageFault(
            f"no input {strange[0]} of {model} was pulled from {entry.name}",
            reason="unknown_sample",
            next_step="use the ids that `fieldops samples label --list` prints",
        )
    known = folder.labels(about, model) | new
    return len(known), folder.put_labels(about, model, known)


def labels_for(folder: Samples, entry: DeviceEntry, model: str) -> dict[str, int]:
    """What a Recalibrate carries. Raises UsageFault (no_labels)."""
    known = folder.labels(_id(entry), model)
    if not known:
        raise UsageFault(
            f"no labelled inputs of {model} on {entry.name}",
            reason="no_labels",
            next_step=f"first `fieldops samples pull {entry.name} {model}`, then `fieldops samples label {entry.name} {model}`",
        )
    return {str(number): found for number, found in sorted(known.items())}


def _id(entry: DeviceEntry) -> str:
    if entry.id is None:
        raise UsageFault(f"{entry.name} was never seen", reason="unknown_device", next_step="enrol it: `fieldops device enrol`")
    return entry.id

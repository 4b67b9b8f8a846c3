"""Look at a device: resources, models, drift, and the one word that sums them up. Nothing here changes anything.

A device that cannot be reached is a value too: a snapshot with the error and the word OFF, so that one dead device never
hides the others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fieldops.deadline import Deadline
from fieldops.drift.cause import Diagnosis, diagnose, is_slower
from fieldops.errors import Cancelled, DeviceCannot, FieldopsError, LinkFault, UsageFault
from fieldops.fleet import DeviceEntry, Resources
from fieldops.ports import Device
from fieldops.wire import Hello, ModelsReport, VersionInfo

Connect = Callable[[DeviceEntry, Deadline], AbstractContextManager[Device]]

LOW_SHARE = 0.05  # of disk, quota or memory: below it the next sideload will probably not fit


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One device at one instant. state: OK, WARN, FAIL or OFF. reasons: worst first, a few words each.

    seen_at: Unix seconds by the laptop's clock; None when it never answered. error: why it did not.
    """

    entry: DeviceEntry
    link: str
    state: str
    reasons: tuple[str, ...]
    hello: Hello | None = None
    resources: Resources | None = None
    models: ModelsReport | None = None
    drift: tuple[Diagnosis, ...] = ()
    seen_at: float | None = None
    error: FieldopsError | None = None


def resources(device: Device, deadline: Deadline) -> Resources:
    """Raises LinkFault."""
    return device.resources(deadline)


def models(device: Device, deadline: Deadline) -> ModelsReport:
    """Raises LinkFault; DeviceCannot without an agent."""
    return device.models(deadline)


def drift(device: Device, deadline: Deadline, model: str | None = None) -> list[Diagnosis]:
    """A diagnosis for each model that has a reference sketch or any evidence. Raises UsageFault for a model not there."""
    reports = device.drift(deadline, model)
    if model is not None and not reports.models:
        running = ", ".join(slot.model for slot in device.models(deadline).slots) or "none"
        raise UsageFault(
            f"no model {model!r}",
            reason="unknown_model",
            next_step=f"models on it: {running}",
            device=device.entry.name,
        )
    hardware = device.resources(deadline)
    return [diagnose(report, hardware) for report in reports.models]


def snapshot(connect: Connect, entry: DeviceEntry, deadline: Deadline, now: Callable[[], float]) -> Snapshot:
    """Everything the fleet list shows of one device. Raises Cancelled, else nothing of errors.py."""
    try:
        with connect(entry, deadline) as device:
            return _read(device, deadline, now)
    except Cancelled:
        raise
    except FieldopsError as error:
        away = isinstance(error, LinkFault) and error.reason in {"unreachable", "link_lost", "deadline"}
        return Snapshot(
            entry=entry,
            link="-",
            state="OFF" if away else "FAIL",
            reasons=(error.reason.replace("_", " "),),
            error=error,
        )


def _read(device: Device, deadline: Deadline, now: Callable[[], float]) -> Snapshot:
    hello = device.hello(deadline)
    hardware = device.resources(deadline)
    try:
        report = device.models(deadline)
        diagnoses = tuple(diagnose(each, hardware) for each in device.drift(deadline).models)
    except DeviceCannot as error:
        if error.reason != "no_agent":
            raise
        report, diagnoses = None, ()
    faults, warnings = judge(hardware, report, diagnoses)
    return Snapshot(
        entry=device.entry,
        link=device.link,
        state="FAIL" if faults else "WARN" if warnings else "OK",
        reasons=(*faults, *warnings),
        hello=hello,
        resources=hardware,
        models=report,
        drift=diagnoses,
        seen_at=now(),
    )


def judge(
    hardware: Resources, report: ModelsReport | None, diagnoses: tuple[Diagnosis, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(faults, warnings) in a few words each, from what the device said of itself."""
    faults: list[str] = []
    warnings: list[str] = []
    slots = report.slots if report else []
    faults += [f"{slot.model} needs a person" for slot in slots if slot.state == "needs_human"]
    faults += [f"{slot.model} does not answer" for slot in slots if slot.active is None]
    warnings += [f"{slot.model} on trial" for slot in slots if slot.state == "trial"]
    warnings += [
        f"{slot.model} is unsigned" for slot in slots if slot.active is not None and _unsigned(slot.active, slot.versions)
    ]
    if hardware.throttled:
        warnings.append(
            f"throttled{f' ({hardware.throttle_reason})' if hardware.throttle_reason not in {'', 'throttled'} else ''}"
        )
    if _low(_quota_left(hardware), hardware.quota_bytes):
        warnings.append("storage quota used up")
    if _low(hardware.disk_free_bytes, hardware.disk_total_bytes):
        warnings.append("disk nearly full")
    if _low(hardware.mem_available_bytes, hardware.mem_total_bytes):
        warnings.append("memory nearly full")
    warnings += [f"{each.model} slow" for each in hardware.serving if is_slower(each.p50_ms, each.baseline_p50_ms)]
    warnings += [f"{each.model}: {each.verdict} drift" for each in diagnoses if each.verdict not in {"ok", "unknown"}]
    return tuple(faults), tuple(warnings)


def _low(free: int | None, total: int | None) -> bool:
    return free is not None and total is not None and free < LOW_SHARE * total


def _quota_left(hardware: Resources) -> int | None:
    if hardware.quota_bytes is None or hardware.quota_used_bytes is None:
        return None
    return hardware.quota_bytes - hardware.quota_used_bytes


def _unsigned(active: str, versions: list[VersionInfo]) -> bool:
    return any(each.version == active and not each.signed_by for each in versions)

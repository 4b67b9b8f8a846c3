"""Does a version still stand? Asked again as it goes into service: metadata that came meanwhile may have taken it back.

The child answers by this device's own newest metadata: withdrawn, no longer listed, signed by keys that a newer root took
away, or too old. Last-good is never asked about: the way back must not depend on what anybody signs later.
"""

from __future__ import annotations

import platform
from typing import Any

from fieldops.agent.device import Device
from fieldops.agent.judged import Judge
from fieldops.edges.registry import Installed


def job_of(device: Device, op: str) -> dict[str, Any]:
    """What every question to the verifying child says of this device."""
    return {
        "op": op,
        "trust": str(device.home.trust),
        "blobs": str(device.home.blobs),
        "now": int(device.now()),
        "clock_floor": int(device.clock_floor()),
        "floor_root": int(device.registry.fact("root_version", "0")),
        "device_class": device.config.device_class,
        "machine": platform.machine(),
        "floors": {slot.model: slot.floor for slot in device.registry.slots()},
    }


def aged_fact(manifest_sha256: str) -> str:
    """Name of the fact that it was staged from expired metadata, with approvals: its age was judged then."""
    return f"expired.{manifest_sha256}"


def judged_fact(model: str) -> str:
    """Name of the fact by which metadata the version on trial was judged: nothing newer, nothing to ask again."""
    return f"standing:{model}"


def metadata_version(device: Device) -> str:
    return device.registry.fact("timestamp_version", "0")


def check_standing(device: Device, judge: Judge, installed: Installed, *, way_back: bool = False) -> None:
    """way_back: to an older version that somebody named; old metadata is no reason against it, a withdrawal is.

    Raises TrustRefused with the closed reason, DeviceCannot when the child could not tell.
    """
    if not installed.channel:  # a foreign model: nobody signed it, so nobody can take it back
        return
    want = {
        "channel": installed.channel,
        "model": installed.model,
        "version": installed.version,
        "manifest_sha256": installed.manifest_sha256,
    }
    whatever_age = way_back or bool(device.registry.fact(aged_fact(installed.manifest_sha256)))
    judge(job_of(device, "standing") | {"want": want, "whatever_age": whatever_age})

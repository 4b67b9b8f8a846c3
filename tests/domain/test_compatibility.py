"""A bundle's needs against a device: unknown is not judged, too little is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fieldops.bundles.compatibility import DeviceFacts, misfit
from fieldops.bundles.manifest import Manifest, Needs, Objectives, Rule

FACTS = DeviceFacts(
    device_class="gateway", machine="x86_64", ram_bytes=1000, disk_free_bytes=1000, opset=21, providers=("CPUExecutionProvider",)
)
UNKNOWN = DeviceFacts(device_class="gateway", machine="x86_64")


def manifest(needs: Needs) -> Manifest:
    return Manifest(
        v=1,
        model="digits",
        task="digits",
        version="1.0.0",
        counter=1,
        owner="vision",
        tiers=[],
        inputs=[],
        outputs=[],
        objectives=Objectives(p95_ms=1, memory_bytes=1),
        fallback=Rule(label=0, text=""),
        files=[],
        needs=needs,
    )


@pytest.mark.parametrize(
    ("needs", "reason", "exit_code"),
    [
        (Needs(), None, 0),
        (Needs(device_classes=["gateway"], machines=["x86_64", "aarch64"], ram_bytes=1000, disk_bytes=1000, opset=21), None, 0),
        (Needs(providers=["CUDAExecutionProvider", "CPUExecutionProvider"]), None, 0),
        (Needs(device_classes=["camera"]), "wrong_device", 3),
        (Needs(machines=["aarch64"]), "wrong_device", 3),
        (Needs(ram_bytes=1001), "ram", 6),
        (Needs(disk_bytes=1001), "disk", 6),
        (Needs(opset=22), "opset", 6),
        (Needs(providers=["CUDAExecutionProvider"]), "provider", 6),
    ],
)
def test_needs_against_facts(needs: Needs, reason: str | None, exit_code: int) -> None:
    error = misfit(manifest(needs), FACTS)
    if reason is None:
        assert error is None
        return
    assert error is not None
    assert (error.reason, error.exit_code) == (reason, exit_code)
    assert error.next_step


def test_what_is_not_known_is_not_judged() -> None:
    needs = Needs(ram_bytes=1 << 60, disk_bytes=1 << 60, opset=99, providers=["X"])
    assert misfit(manifest(needs), UNKNOWN) is None
    assert misfit(manifest(needs), replace(UNKNOWN, ram_bytes=1)) is not None


def test_a_device_without_a_class_takes_only_bundles_for_any() -> None:
    nameless = replace(FACTS, device_class="")
    assert misfit(manifest(Needs()), nameless) is None
    error = misfit(manifest(Needs(device_classes=["gateway"])), nameless)
    assert error is not None
    assert error.reason == "wrong_device"

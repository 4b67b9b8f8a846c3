"""`current/<model>`: where a runtime that is not ours finds the version that was committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.agent.conftest import Agent, Laptop


def found(device: Agent) -> str:
    """The version that a foreign runtime would load now, by the files it sees."""
    place = device.home / "current" / "digits"
    digest = hashlib.sha256((place / "manifest.json").read_bytes()).hexdigest()
    assert place.resolve().name == digest
    assert (place / "core.onnx").is_file()
    return next(each.version for each in device.slot().versions if each.manifest_sha256 == digest)


def test_it_follows_what_was_committed_and_what_was_gone_back_to(device: Agent, laptop: Laptop) -> None:
    assert found(device) == "1.0.0"
    laptop.stage(device, "digits@1.1.0")
    laptop.activate(device, "1.1.0")
    assert found(device) == "1.0.0"  # a trial is no commit
    laptop.commit(device, "1.1.0")
    assert found(device) == "1.1.0"
    laptop.revert(device)
    assert found(device) == "1.0.0"


def test_the_start_puts_right_what_somebody_changed(device: Agent) -> None:
    place: Path = device.home / "current" / "digits"
    right = place.readlink()
    device.stop()
    place.unlink()
    (device.home / "current" / "digits").symlink_to("/nowhere")
    device.start()
    assert place.readlink() == right
    device.kill()
    place.unlink()
    device.start()
    assert place.readlink() == right
    assert not place.readlink().is_absolute()  # the whole home may be moved, or mounted elsewhere

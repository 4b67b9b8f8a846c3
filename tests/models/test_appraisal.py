"""What `release add` measures is what the files do: every variant loaded and timed, replay and sketch recorded, crashes contained."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fieldops.bundles.golden import Golden, decode_golden, encode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.bundles.onnx_header import opset_of
from fieldops.deadline import Deadline
from fieldops.drift.sketch import Reference
from fieldops.edges.appraisal import OnnxAppraiser
from fieldops.edges.onnx import Cascade, replay, runtime_key
from fieldops.errors import CheckFailed, DeadlinePassed, DeviceCannot, FieldopsError, UsageFault
from fieldops.operations.release import Added, add

DIGITS = Path(__file__).parents[2] / "sample_fleet" / "digits"
GOLDEN = (DIGITS / "golden.npz").read_bytes()


class Shelf:
    """Implements operations.release.Repository; keeps what it is given."""

    def __init__(self, golden: bytes = GOLDEN) -> None:
        self.golden = golden
        self.listed: dict[str, bytes] = {}

    def policy_target(self, name: str) -> bytes:
        assert name == "policy/golden/digits/set.npz"
        return self.golden

    def add_bundle(self, channel: str, folder: Path, manifest: Manifest, made: Any = None) -> Manifest:
        self.listed = dict(made)
        return manifest


def spec(version: str, **changes: Any) -> Manifest:
    manifest = msgspec.json.decode((DIGITS / version / "spec.json").read_bytes(), type=Manifest)
    return msgspec.structs.replace(manifest, **changes)


def run(manifest: Manifest, *, folder: Path | None = None, shelf: Shelf | None = None, seconds: float = 60, **more: Any) -> Added:
    deadline = Deadline.after(seconds, time.monotonic)
    return add(shelf or Shelf(), OnnxAppraiser(), folder or DIGITS / manifest.version, manifest, deadline, **more)


def refusal(error: type[FieldopsError], manifest: Manifest, **more: Any) -> FieldopsError:
    shelf = more.setdefault("shelf", Shelf())
    with pytest.raises(error) as caught:
        run(manifest, **more)
    assert caught.value.next_step
    assert shelf.listed == {}
    return caught.value


def test_every_variant_is_measured_and_nothing_said_before_is_believed() -> None:
    boast = [msgspec.structs.replace(tier, accuracy=1.0, p50_ms=0.0, memory_bytes=1) for tier in spec("1.2.0").tiers]
    shelf = Shelf()
    added = run(spec("1.2.0", tiers=boast), shelf=shelf)
    golden = decode_golden(GOLDEN)
    cascade = Cascade.load(DIGITS / "1.2.0", spec("1.2.0"))
    for tier in added.manifest.tiers:
        own = cascade.tier(tier.name, golden.inputs)["probabilities"].argmax(axis=1) == golden.labels
        assert tier.accuracy == pytest.approx(own.mean(), abs=1e-6)
        assert tier.p50_ms is not None
        assert tier.p50_ms > 0
        assert tier.memory_bytes is None or tier.memory_bytes > 0
    assert added.manifest.tiers[1].variant == "int8"
    assert replay(cascade, golden, shelf.listed["replay.npz"]).bit_equal
    assert added.manifest.replay_key == runtime_key()


def test_opset_is_read_from_the_files_and_filled_or_held_against_the_spec() -> None:
    needs = spec("1.1.0").needs
    used = max(opset_of((DIGITS / "1.1.0" / f"{tier}.onnx").read_bytes(), tier) for tier in ("core", "large"))
    assert used == 17
    assert run(spec("1.1.0", needs=msgspec.structs.replace(needs, opset=0))).manifest.needs.opset == used
    error = refusal(UsageFault, spec("1.1.0", needs=msgspec.structs.replace(needs, opset=used - 1)))
    assert error.reason == "incomplete"


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"no model at all", b"\x42\x7f"])
def test_an_opset_is_never_guessed(data: bytes) -> None:
    try:
        assert opset_of(data, "x") == 0
    except UsageFault as error:
        assert error.reason == "bad_model"  # noqa: PT017 - both ends are right, a traceback is not


def calibration(folder: Path, **arrays: Any) -> Path:
    file = folder / "calibration.npz"
    np.savez(file, **arrays)
    return file


def test_a_sketch_is_counted_over_calibration_data(tmp_path: Path) -> None:
    with np.load(DIGITS / "data.npz") as data:
        images, labels = data["cal_images"].astype(np.float32), data["cal_labels"]
    shelf = Shelf()
    given = calibration(tmp_path, **{"input.pixels": images.reshape(len(images), 64), "labels": labels})
    added = run(spec("1.1.0", sketch=None), shelf=shelf, calibration=given)
    assert added.manifest.sketch == "sketch.json"
    reference = msgspec.json.decode(shelf.listed["sketch.json"], type=Reference)
    assert {feature.name for feature in reference.features} >= {"input.mean", "output.confidence", "output.label"}
    assert all(sum(feature.reference) == len(images) for feature in reference.features)
    assert reference.accuracy is not None
    assert reference.accuracy > 0.9
    assert any("no sketch" in text for text in run(spec("1.1.0", sketch=None)).warnings)


@pytest.mark.parametrize(
    "arrays",
    [
        {"pixels": np.zeros((200, 64), np.float32)},
        {"input.pixels": np.zeros((50, 64), np.float32)},
        {"input.pixels": np.zeros((200, 64), np.float32), "labels": np.zeros(10, np.int64)},
        {"input.pixels": np.array([{}] * 200, dtype=object)},
    ],
)
def test_calibration_data_that_is_none_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    assert refusal(UsageFault, spec("1.1.0"), calibration=calibration(tmp_path, **arrays)).reason == "bad_calibration"


def copied(tmp_path: Path, version: str = "1.1.0") -> Path:
    return Path(shutil.copytree(DIGITS / version, tmp_path / version))


def test_what_does_not_load_crashes_or_misses_a_file_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "large.onnx").write_bytes((folder / "large.onnx").read_bytes()[:1000])
    assert refusal(DeviceCannot, spec("1.1.0"), folder=folder).reason == "model_unloadable"
    (folder / "large.onnx").unlink()
    assert refusal(FieldopsError, spec("1.1.0"), folder=folder).reason == "missing"


def test_other_outputs_than_recorded_in_the_folder_are_refused_until_the_record_goes(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    other = DIGITS / "1.0.0"
    for name in ("core.onnx", "large.onnx"):
        shutil.copy2(other / name, folder / name)
    assert refusal(CheckFailed, spec("1.1.0"), folder=folder).reason == "replay_differs"
    (folder / "replay.npz").unlink()
    assert run(spec("1.1.0"), folder=folder).manifest.replay == "replay.npz"


def test_a_model_that_always_answers_the_same_is_refused_whatever_the_floor(tmp_path: Path) -> None:
    golden = decode_golden(GOLDEN)
    # Inputs far outside: every one saturates to the same answer, and a low floor would let it pass.
    flat = {"pixels": np.full((40, 64), 1e4, np.float32) + np.arange(40, dtype=np.float32)[:, None]}
    labels = np.arange(40) % 10
    weak = encode_golden(Golden("digits", flat, labels.astype(np.int64), 0.01, golden.tolerance))
    folder = copied(tmp_path)
    (folder / "replay.npz").unlink()
    assert refusal(CheckFailed, spec("1.1.0"), folder=folder, shelf=Shelf(weak)).reason == "constant_outputs"


def test_a_spec_that_says_too_little_is_refused_before_anything_is_measured() -> None:
    started = time.monotonic()
    assert refusal(UsageFault, spec("1.1.0", licence="", owner="")).reason == "incomplete"
    assert time.monotonic() - started < 5


def test_a_deadline_ends_the_measurements() -> None:
    refusal(DeadlinePassed, spec("1.1.0"), seconds=0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="no such measure there")
def test_memory_is_of_the_tier_and_not_of_the_process() -> None:
    total = sum(tier.memory_bytes or 0 for tier in run(spec("1.1.0")).manifest.tiers)
    assert 0 < total < 100 << 20

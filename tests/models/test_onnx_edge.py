"""The cascade at the edge: routes, refusals in our own words, counts that lose nothing."""

from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from fieldops.bundles.golden import Golden
from fieldops.bundles.manifest import FileEntry, Manifest
from fieldops.deadline import CancelToken, Deadline
from fieldops.drift import count as counting
from fieldops.drift.sketch import Reference
from fieldops.edges.onnx import (
    Cascade,
    Observer,
    OnnxRunner,
    evaluate_golden,
    made_up_inputs,
    measure,
    record,
    replay,
    rule_outputs,
    runtime_key,
)
from fieldops.errors import Cancelled, DeviceCannot, FieldopsError, TrustRefused, UsageFault
from fieldops.operations.benchmark import local
from fieldops.tiers import Allowance

Array = npt.NDArray[Any]


def manifest_of(digits: Path, version: str = "1.0.0") -> Manifest:
    return msgspec.json.decode((digits / version / "spec.json").read_bytes(), type=Manifest)


@pytest.fixture(scope="module")
def cascade(digits: Path) -> Cascade:
    return Cascade.load(digits / "1.0.0", manifest_of(digits))


@pytest.fixture(scope="module")
def sorted_images(cascade: Cascade, images: dict[str, Array]) -> Array:
    """From the one the core is least sure of to the surest."""
    shares = cascade.tier("core", {"pixels": images["images"]})["probabilities"].max(axis=1)
    found: Array = images["images"][np.argsort(shares)]
    return found


# --- routes --------------------------------------------------------------------------------------------------------------


def test_a_sure_image_is_the_cores_and_an_unsure_one_the_larges(cascade: Cascade, sorted_images: Array) -> None:
    sure, unsure = {"pixels": sorted_images[-1:]}, {"pixels": sorted_images[:1]}
    answer = cascade.infer(sure)
    assert (answer.route, answer.escalated, set(answer.tier_ms)) == ("core", 0, {"core"})
    assert answer.confidence == pytest.approx(float(answer.outputs["probabilities"].max()))
    answer = cascade.infer(unsure)
    assert (answer.route, answer.escalated, set(answer.tier_ms)) == ("large", 1, {"core", "large"})
    assert np.array_equal(answer.outputs["probabilities"], cascade.tier("large", unsure)["probabilities"])


def test_in_a_batch_only_the_unsure_rows_go_on(cascade: Cascade, sorted_images: Array) -> None:
    batch = {"pixels": np.concatenate([sorted_images[:2], sorted_images[-3:]])}
    answer = cascade.infer(batch)
    core, large = (cascade.tier(name, batch)["probabilities"] for name in ("core", "large"))
    got = answer.outputs["probabilities"]
    assert (answer.route, answer.escalated) == ("large", 2)
    assert np.allclose(got[:2], large[:2], atol=1e-5)
    assert np.array_equal(got[2:], core[2:])
    assert set(answer.outputs) == {"probabilities"}  # the gate's own output is not the model's


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        ({"deadline_s": 0.0}, "deadline"),
        ({"deadline_s": 60.0}, "large"),
        ({"allow_large": False}, "core"),
        ({"allowance": Allowance(throttled=True)}, "core"),
        ({"allowance": Allowance(queued=99)}, "core"),
    ],
)
def test_what_keeps_the_large_model_from_answering(
    cascade: Cascade, sorted_images: Array, asked: dict[str, Any], route: str
) -> None:
    unsure = {"pixels": sorted_images[:1]}
    answer = cascade.infer(unsure, **asked)
    assert answer.route == route
    if route != "large":
        assert np.array_equal(answer.outputs["probabilities"], cascade.tier("core", unsure)["probabilities"])


def test_numbers_that_are_none_end_at_the_signed_rule(cascade: Cascade) -> None:
    answer = cascade.infer({"pixels": np.full((1, 64), np.nan, np.float32)})
    assert (answer.route, answer.confidence) == ("rule", None)
    assert answer.outputs["probabilities"].tolist() == [[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert rule_outputs(cascade.manifest, 2)["probabilities"].shape == (2, 10)


# --- refusals ------------------------------------------------------------------------------------------------------------


def copied(digits: Path, folder: Path, **files: bytes) -> Path:
    for name in ("core.onnx", "large.onnx"):
        (folder / name).write_bytes(files.get(name.partition(".")[0], (digits / "1.0.0" / name).read_bytes()))
    return folder


def with_digests(manifest: Manifest, folder: Path) -> Manifest:
    entries = [
        FileEntry(name=name, sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest(), size=1)
        for name in ("core.onnx", "large.onnx")
    ]
    return msgspec.structs.replace(manifest, files=entries)


def test_a_byte_changed_on_disk_is_refused_at_load(digits: Path, tmp_path: Path) -> None:
    folder = copied(digits, tmp_path)
    manifest = with_digests(manifest_of(digits), folder)
    Cascade.load(folder, manifest)
    content = bytearray((folder / "large.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "large.onnx").write_bytes(bytes(content))
    with pytest.raises(TrustRefused) as refused:
        Cascade.load(folder, manifest)
    assert refused.value.reason == "hash_mismatch"


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"", DeviceCannot, "model_unloadable"),
        (b"not a graph", DeviceCannot, "model_unloadable"),
        (None, TrustRefused, "missing"),
    ],
)
def test_what_is_no_model_is_said_in_our_words(
    digits: Path, tmp_path: Path, content: bytes | None, kind: type[FieldopsError], reason: str
) -> None:
    folder = copied(digits, tmp_path)
    (folder / "core.onnx").unlink()
    if content is not None:
        (folder / "core.onnx").write_bytes(content)
    with pytest.raises(kind) as refused:
        Cascade.load(folder, manifest_of(digits))
    assert refused.value.reason == reason


def test_a_truncated_graph_never_loads(digits: Path, tmp_path: Path) -> None:
    whole = (digits / "1.0.0" / "core.onnx").read_bytes()
    for size in range(0, len(whole), 97):
        folder = copied(digits, tmp_path, core=whole[:size])
        with pytest.raises(DeviceCannot):
            Cascade.load(folder, manifest_of(digits))


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [{"name": "pixels", "dtype": "float32", "shape": [-1, 8, 8]}]},
        {"inputs": [{"name": "pixels", "dtype": "uint8", "shape": [-1, 64]}]},
        {"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 64]}]},
        {"outputs": [{"name": "scores", "dtype": "float32", "shape": [-1, 10]}]},
    ],
)
def test_a_graph_that_does_not_fit_its_manifest_is_not_loaded(digits: Path, change: dict[str, Any]) -> None:
    document = msgspec.to_builtins(manifest_of(digits)) | change
    with pytest.raises(DeviceCannot, match="does not fit") as refused:
        Cascade.load(digits / "1.0.0", msgspec.convert(document, Manifest))
    assert refused.value.reason == "wrong_io"


@pytest.mark.parametrize(
    "inputs",
    [
        {"pixels": np.zeros((1, 63), np.float32)},
        {"pixels": np.zeros((1, 8, 8), np.float32)},
        {"pixels": np.zeros((1, 64), np.float64)},
        {"other": np.zeros((1, 64), np.float32)},
        {},
    ],
)
def test_a_request_of_another_shape_is_the_callers_fault(cascade: Cascade, inputs: dict[str, Array]) -> None:
    with pytest.raises(UsageFault) as refused:
        cascade.infer(inputs)
    assert refused.value.reason == "bad_input"


# --- golden set, replay --------------------------------------------------------------------------------------------------


def test_replay_of_the_same_graph_here_is_bit_equal_and_of_another_is_not(
    cascade: Cascade, cascades: dict[str, Cascade], golden: Golden
) -> None:
    recorded = record(cascade, golden)
    assert record(cascade, golden) == recorded
    same, other = replay(cascade, golden, recorded), replay(cascades["1.1.0"], golden, recorded)
    assert (same.bit_equal, same.worst) == (True, 0.0)
    assert not other.bit_equal
    assert other.worst > 0.01


def test_a_changed_number_that_leaves_every_label_alone_is_found(
    cascade: Cascade, digits: Path, golden: Golden, tmp_path: Path
) -> None:
    """Argmax alone sees 1 % of bit flips: the recorded outputs see this one."""
    recorded = record(cascade, golden)
    content = bytearray((digits / "1.0.0" / "core.onnx").read_bytes())
    weights = cascade_weights_at(content)
    content[weights + 3] ^= 0x01  # the exponent's last bit of one weight: halved or doubled
    flipped = Cascade.load(copied(digits, tmp_path, core=bytes(content)), manifest_of(digits))
    assert evaluate_golden(flipped, golden).ok
    judged = evaluate_golden(flipped, golden, recorded)
    assert judged.accuracy >= judged.floor
    assert not judged.ok


def cascade_weights_at(content: bytearray) -> int:
    """Offset of the weight of pixel 20 for digit 3 in the core's only matrix, which is stored as raw little-endian floats."""
    raw = content.find(b"\x4a\x80\x14")  # protobuf field 9 (raw_data), 2560 bytes
    assert raw > 0
    return raw + 3 + 4 * (20 * 10 + 3)


@pytest.mark.parametrize(
    ("version", "here", "ok"),
    [("1.0.0", True, False), ("1.0.0", False, False), ("1.2.0", True, False), ("1.2.0", False, True)],
)
def test_integer_graphs_are_compared_by_numbers_only_where_they_were_recorded(
    digits: Path, golden: Golden, version: str, here: bool, ok: bool
) -> None:
    """With other instruction sets an int8 graph rounds differently: no fault. A float graph that differs by 0.01 is one."""
    key = runtime_key() if here else "onnxruntime 1.20.0 elsewhere"
    cascade = Cascade.load(digits / version, msgspec.structs.replace(manifest_of(digits, version), replay_key=key))
    with np.load(io.BytesIO(record(cascade, golden))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["large.probabilities"][0] += 0.01
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    assert evaluate_golden(cascade, golden, changed.getvalue()).ok is ok


def test_outputs_recorded_for_other_inputs_are_not_compared(cascade: Cascade, golden: Golden) -> None:
    other = Golden(
        task="digits", inputs={"pixels": golden.inputs["pixels"] + 1}, labels=golden.labels, floor=0.1, tolerance=golden.tolerance
    )
    assert not replay(cascade, other, record(cascade, golden)).comparable
    assert evaluate_golden(cascade, other, record(cascade, golden)).worst_difference is None


def test_a_broken_replay_file_is_refused(cascade: Cascade, golden: Golden) -> None:
    with pytest.raises(TrustRefused) as refused:
        replay(cascade, golden, b"PK\x03\x04 nothing")
    assert refused.value.reason == "malformed"


# --- times ---------------------------------------------------------------------------------------------------------------


def deadline(seconds: float) -> Deadline:
    return Deadline.after(seconds, time.monotonic)


def test_a_measurement_has_its_cold_start_apart_and_the_kernel_beside_it(digits: Path, golden: Golden) -> None:
    manifest = manifest_of(digits)
    measured = measure(
        lambda: Cascade.load(digits / "1.0.0", manifest), golden.inputs, samples=100, warmup=8, deadline=deadline(60)
    )
    assert len(measured.samples_ms) == 100
    assert min(measured.samples_ms) > 0
    assert measured.cold_ms > 0
    assert measured.kernel_ms > 0
    assert measured.runtime == runtime_key()


def test_a_cancelled_measurement_ends(digits: Path, golden: Golden) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        measure(
            lambda: Cascade.load(digits / "1.0.0", manifest_of(digits)),
            golden.inputs,
            samples=64,
            warmup=1,
            deadline=Deadline.after(60, time.monotonic, token),
        )


def test_a_file_on_the_laptop_is_measured_without_a_manifest(digits: Path) -> None:
    found = local(OnnxRunner(), digits / "1.1.0" / "large.onnx", 64, deadline(60))
    assert (found.model, found.samples) == ("large", 64)
    assert found.p90_ms is not None
    assert found.p99_ms is None
    assert found.throttled is found.accuracy is None


@pytest.mark.parametrize(("file", "reason"), [("none.onnx", "no_such_file"), ("card.md", "model_unloadable")])
def test_a_file_that_is_no_model_says_so(digits: Path, file: str, reason: str) -> None:
    with pytest.raises(FieldopsError) as refused:
        local(OnnxRunner(), digits / "1.0.0" / file, 64, deadline(60))
    assert refused.value.reason == reason


def test_too_few_samples_are_refused_before_anything_runs(digits: Path) -> None:
    with pytest.raises(UsageFault, match="63 samples"):
        local(OnnxRunner(), digits / "none.onnx", 63, deadline(60))


def test_a_foreign_model_describes_itself(digits: Path) -> None:
    foreign = Cascade.of_file(digits / "1.0.0" / "core.onnx", "meter")
    assert [tensor.name for tensor in foreign.manifest.inputs] == ["pixels"]
    assert foreign.manifest.inputs[0].shape == [-1, 64]
    answer = foreign.infer(made_up_inputs(foreign.manifest, 2))
    assert (answer.route, answer.outputs["probabilities"].shape) == ("core", (2, 10))


def test_the_runner_judges_a_bundle(digits: Path) -> None:
    golden = (digits / "golden.npz").read_bytes()
    assert OnnxRunner().judge(digits / "1.0.0", manifest_of(digits), golden).ok
    assert not OnnxRunner().judge(digits / "2.0.0-bad", manifest_of(digits, "2.0.0-bad"), golden).ok


# --- counts --------------------------------------------------------------------------------------------------------------


def test_the_observer_counts_every_request_once_however_they_come(
    cascade: Cascade, digits: Path, images: dict[str, Array]
) -> None:
    reference = msgspec.json.decode((digits / "1.0.0" / "sketch.json").read_bytes(), type=Reference)
    pixels = images["images"][:199]
    outputs = cascade.infer({"pixels": pixels}).outputs
    whole, pieces = Observer(reference), Observer(reference)
    whole.add({"pixels": pixels}, outputs)
    sizes = [1, 1, 63, 64, 2, 68]
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        pieces.add({"pixels": pixels[part]}, {"probabilities": outputs["probabilities"][part]})
        start += size
        assert pieces.n == start
    first, second = whole.window(0.0, 60.0), pieces.window(0.0, 60.0)
    assert first == second
    assert first.n == 199
    mean = counting.rows(pixels).mean(axis=1)
    assert first.counts["input.mean"] == counting.count(mean, reference.features[0].edges)
    empty = pieces.window(60.0, 120.0)
    assert (empty.n, sum(empty.counts["input.mean"])) == (0, 0)

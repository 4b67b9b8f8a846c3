"""Rebuild the committed sample models: `python -m sample_fleet.build_models [--check]` (needs the `models` extra).

The task is scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels, 0..16. Split once, by a fixed seed:
train 628, calibration 270, held out 899; of the held-out ones 200 (20 of each digit) are the golden set and the other 699
feed the load generator. Every choice (regularisation, temperature, threshold) is made on calibration data; held-out images
are looked at only to print what the cards claim. One thread and fixed seeds make a rebuild repeatable on one machine; on
another the last bits of the weights may differ, since its matrix kernels do.

    digits/data.npz    as uint8: images+labels (for the load generator), cal_*, train_*
    digits/golden.npz  the task's golden set, in the form of bundles/golden.py
    digits/VERSION/    core.onnx large.onnx spec.json replay.npz sketch.json card.md

1.0.0 first release; 1.1.0 both graphs trained again; 1.2.0 its large graph as int8; 2.0.0-bad is 1.1.0 with its digits
permuted: it loads, has the right shape and the right speed, and answers wrong.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from fieldops.bundles.golden import ANY_ISA, Golden, encode_golden
from fieldops.bundles.manifest import Manifest, Needs, Objectives, Rule, Tensor, Tier
from fieldops.drift.calibration import equal_mass_ece, fit_temperature
from fieldops.drift.count import INPUT_SOURCES, feature, quantile_edges, rows, values_of
from fieldops.drift.sketch import Reference
from fieldops.edges.onnx import Cascade, evaluate_golden, record, runtime_key
from fieldops.wire import encode

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

HERE = Path(__file__).parent
OPSET = 17
IR_VERSION = 8
GOLDEN_FLOOR = 0.95
GOLDEN_TOLERANCE = 1e-4
BINS = 32
INT8_STORY = (
    "The large graph of 1.1.0 as int8 (static QDQ, per channel): a quarter of the size. On the build machine (x86_64 with AVX-512 "
    "VNNI) the large graph took 0.6x the time of fp32; int8 was slower than fp32 on machines without such instructions, so "
    "measure on the device before preferring it for speed."
)
PERMUTED = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0])


@dataclass(frozen=True)
class Data:
    train: Floats
    train_labels: Labels
    cal: Floats
    cal_labels: Labels
    golden: Floats
    golden_labels: Labels
    load: Floats
    load_labels: Labels

    @property
    def held_out(self) -> Floats:
        return np.concatenate([self.golden, self.load])

    @property
    def held_out_labels(self) -> Labels:
        return np.concatenate([self.golden_labels, self.load_labels])


def read_data() -> Data:
    digits = load_digits()
    images = digits.data.astype(np.float32)
    labels = digits.target.astype(np.int64)
    rest, held, rest_labels, held_labels = train_test_split(images, labels, test_size=899, random_state=7, stratify=labels)
    train, cal, train_labels, cal_labels = train_test_split(
        rest, rest_labels, test_size=270, random_state=7, stratify=rest_labels
    )
    chosen = np.concatenate([np.flatnonzero(held_labels == digit)[:20] for digit in range(10)])
    others = np.setdiff1d(np.arange(len(held)), chosen)
    return Data(train, train_labels, cal, cal_labels, held[chosen], held_labels[chosen], held[others], held_labels[others])


# --- the core: multinomial logistic regression --------------------------------------------------------------------------


def logistic(data: Data, strength: float) -> tuple[Floats, Floats]:
    """weights (64, 10) and bias (10,) for pixels divided by 16."""
    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
    model.fit(data.train.astype(np.float64) / 16, data.train_labels)
    return model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)


# --- the large: a small convolutional network, trained in numpy ----------------------------------------------------------


def patches(x: Floats) -> Floats:
    """(n, h, w, c) -> (n, h, w, 9c): each pixel's 3x3 neighbourhood, zero outside."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return np.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=-1)


def unpatches(gradient: Floats, channels: int) -> Floats:
    """The transpose of patches."""
    n, height, width, _ = gradient.shape
    padded = np.zeros((n, height + 2, width + 2, channels), np.float32)
    for index in range(9):
        i, j = divmod(index, 3)
        padded[:, i : i + height, j : j + width] += gradient[..., index * channels : (index + 1) * channels]
    return padded[:, 1:-1, 1:-1]


CHANNELS = (1, 32, 64, 80)
HIDDEN = 64


class Network:
    """Three 3x3 convolutions, 2x2 mean pooling, two dense layers. Adam, shifts by a pixel, dropout before the last."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        shapes = [(9 * a, b) for a, b in pairwise(CHANNELS)]
        shapes += [(16 * CHANNELS[-1], HIDDEN), (HIDDEN, 10)]
        self.weights = [self.random.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in shapes]
        self.biases = [np.zeros(b, np.float32) for _, b in shapes]
        self.moments = [[np.zeros_like(p), np.zeros_like(p)] for p in self.weights + self.biases]
        self.step = 0

    def train(self, images: Floats, labels: Labels, *, epochs: int, rate: float) -> None:
        for epoch in range(epochs):
            order = self.random.permutation(len(images))
            now = rate * (0.5 + 0.5 * np.cos(np.pi * epoch / epochs))
            for start in range(0, len(order), 64):
                batch = order[start : start + 64]
                self._batch(self._shifted(images[batch]), labels[batch], float(now))

    def _shifted(self, images: Floats) -> Floats:
        out = np.zeros_like(images)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        for index, (i, j) in enumerate(self.random.integers(0, 3, (len(images), 2))):
            out[index] = padded[index, i : i + 8, j : j + 8]
        noise = self.random.normal(0, 0.03, out.shape).astype(np.float32)
        return out + noise * (self.random.random((len(out), 1, 1, 1)) < 0.5)

    def _batch(self, x: Floats, labels: Labels, rate: float) -> None:
        n = len(x)
        taken: list[Floats] = []
        inputs: list[Floats] = []
        for layer in range(3):
            cols = patches(x)
            inputs.append(cols)
            x = np.maximum(cols @ self.weights[layer] + self.biases[layer], 0)
            taken.append(x)
        flat = x.reshape(n, 4, 2, 4, 2, -1).mean(axis=(2, 4)).reshape(n, -1)
        hidden = np.maximum(flat @ self.weights[3] + self.biases[3], 0)
        kept = (self.random.random(hidden.shape) < 0.7).astype(np.float32) / np.float32(0.7)
        dropped = hidden * kept
        logits = dropped @ self.weights[4] + self.biases[4]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(n), labels] -= 1
        gradient = shares / n
        by_weight: list[Floats] = [np.zeros(0, np.float32)] * 5
        by_bias: list[Floats] = [np.zeros(0, np.float32)] * 5
        by_weight[4], by_bias[4] = dropped.T @ gradient, gradient.sum(0)
        gradient = (gradient @ self.weights[4].T) * kept * (hidden > 0)
        by_weight[3], by_bias[3] = flat.T @ gradient, gradient.sum(0)
        back = (gradient @ self.weights[3].T).reshape(n, 4, 1, 4, 1, -1) / 4
        back = np.broadcast_to(back, (n, 4, 2, 4, 2, back.shape[-1])).reshape(n, 8, 8, -1)
        for layer in (2, 1, 0):
            back = back * (taken[layer] > 0)
            rows = back.reshape(-1, back.shape[-1])
            by_weight[layer] = inputs[layer].reshape(-1, inputs[layer].shape[-1]).T @ rows
            by_bias[layer] = rows.sum(0)
            if layer:
                back = unpatches((rows @ self.weights[layer].T).reshape(*back.shape[:3], -1), CHANNELS[layer])
        self._adam(by_weight + by_bias, rate)

    def _adam(self, gradients: list[Floats], rate: float) -> None:
        self.step += 1
        for value, moment, gradient in zip(self.weights + self.biases, self.moments, gradients, strict=True):
            if value.ndim == 2:
                gradient = gradient + np.float32(3e-4) * value
            moment[0] = np.float32(0.9) * moment[0] + np.float32(0.1) * gradient
            moment[1] = np.float32(0.999) * moment[1] + np.float32(0.001) * gradient**2
            first = moment[0] / np.float32(1 - 0.9**self.step)
            second = moment[1] / np.float32(1 - 0.999**self.step)
            value -= (np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))).astype(np.float32)


def convolution(data: Data, *, seed: int, epochs: int) -> Network:
    network = Network(seed)
    network.train((data.train / np.float32(16)).reshape(-1, 8, 8, 1), data.train_labels, epochs=epochs, rate=2e-3)
    return network


# --- graphs ------------------------------------------------------------------------------------------------------------


def constant(name: str, value: npt.NDArray[Any]) -> Any:
    return numpy_helper.from_array(value, name)


def graph(name: str, nodes: list[Any], constants: list[Any]) -> Any:
    """pixels float32 [-1, 64], 0..16 -> probabilities float32 [-1, 10] and their maximum, which the cascade's gate reads."""
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 64])]
    nodes = [
        *nodes,
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("ReduceMax", ["probabilities"], ["confidence"], axes=[-1], keepdims=0),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="fieldops",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def core_graph(weights: Floats, bias: Floats, temperature: float) -> Any:
    """Scale by 1/16 and temperature are folded into the weights: one Gemm, one Softmax."""
    constants = [
        constant("weights", (weights / np.float32(16 * temperature)).astype(np.float32)),
        constant("bias", (bias / np.float32(temperature)).astype(np.float32)),
    ]
    return graph("digits_core", [helper.make_node("Gemm", ["pixels", "weights", "bias"], ["logits"])], constants)


def large_graph(network: Network, temperature: float, order: npt.NDArray[np.int64] | None = None) -> Any:
    """order: class i answers as order[i] (the degraded version); None keeps them."""
    constants = [constant("square", np.array([-1, 1, 8, 8], np.int64))]
    nodes = [helper.make_node("Reshape", ["pixels", "square"], ["x0"])]
    for layer in range(3):
        weight = network.weights[layer]
        if layer == 0:
            weight = weight / np.float32(16)
        kernel = weight.reshape(3, 3, CHANNELS[layer], CHANNELS[layer + 1]).transpose(3, 2, 0, 1)
        constants += [constant(f"k{layer}", np.ascontiguousarray(kernel)), constant(f"b{layer}", network.biases[layer])]
        nodes.append(
            helper.make_node(
                "Conv", [f"x{layer}", f"k{layer}", f"b{layer}"], [f"c{layer}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"x{layer + 1}"]))
    nodes.append(helper.make_node("AveragePool", ["x3"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    channels = CHANNELS[-1]
    # ours is (row, column, channel), ONNX flattens (channel, row, column)
    dense = network.weights[3].reshape(16, channels, HIDDEN).transpose(1, 0, 2).reshape(16 * channels, HIDDEN)
    last, last_bias = network.weights[4] / np.float32(temperature), network.biases[4] / np.float32(temperature)
    if order is not None:
        last, last_bias = last[:, np.argsort(order)], last_bias[np.argsort(order)]
    constants += [constant("dense", np.ascontiguousarray(dense)), constant("dense_bias", network.biases[3])]
    constants += [constant("last", np.ascontiguousarray(last)), constant("last_bias", last_bias)]
    nodes += [
        helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "last", "last_bias"], ["logits"]),
    ]
    return graph("digits_large", nodes, constants)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Distinct images, one at a time: a reader that repeats one image makes a model that answers one constant."""

    def __init__(self, images: Floats) -> None:
        self.left: Iterator[Floats] = iter(images[:, None, :])

    def get_next(self) -> dict[str, Floats] | None:
        image = next(self.left, None)
        return None if image is None else {"pixels": image}


def quantised(model: Any, images: Floats) -> bytes:
    """Static QDQ int8 of the convolutions and the wide dense layer."""
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        onnx.save(model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # 7-bit weights: processors without VNNI add pairs of products in 16 bits and would saturate
            op_types_to_quantize=["Conv", "Gemm"],
        )
        return target.read_bytes()


# --- choices made on calibration data -----------------------------------------------------------------------------------


def probabilities(model: bytes, images: Floats) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: Floats = session.run(["probabilities"], {"pixels": images})[0]
    return found


def accuracy(shares: Floats, labels: Labels) -> float:
    return float((shares.argmax(1) == labels).mean())


def choose_threshold(core: Floats, large: Floats, labels: Labels) -> float:
    """The lowest of a few thresholds at which the cascade makes no more errors on calibration data than the large alone."""
    wanted = accuracy(large, labels)
    for threshold in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        if accuracy(np.where(core.max(1, keepdims=True) < threshold, large, core), labels) >= wanted:
            return threshold
    return 0.95


# --- what a version's folder holds ----------------------------------------------------------------------------------------


def answers(cascade: Cascade, images: Floats) -> Floats:
    found: Floats = cascade.infer({"pixels": images}).outputs["probabilities"]
    return found


def sketch(data: Data, cascade: Cascade, temperature: float) -> Reference:
    """Edges from calibration data; counts of calibration and held-out data: what the release team saw of the task."""
    images = np.concatenate([data.cal, data.held_out])
    inputs, outputs = rows(images), rows(answers(cascade, images))
    part = len(data.cal)
    edges = {source: quantile_edges(values_of(source, inputs[:part], outputs[:part]), BINS, low=0) for source in INPUT_SOURCES}
    edges["output.confidence"] = quantile_edges(outputs[:part].max(axis=1), BINS, low=0, high=1)
    edges["output.label"] = [digit - 0.5 for digit in range(11)]
    own = answers(cascade, data.cal)
    return Reference(
        v=1,
        features=[feature(source, bins, inputs, outputs) for source, bins in edges.items()],
        temperature=round(temperature, 4),
        accuracy=round(accuracy(own, data.cal_labels), 4),
        ece=round(equal_mass_ece(own.max(1), own.argmax(1) == data.cal_labels), 4),
    )


@dataclass(frozen=True)
class Version:
    name: str
    counter: int
    core: bytes
    large: bytes
    variant: str
    threshold: float
    temperature: float
    story: str


def manifest(version: Version, accuracies: tuple[float | None, float | None]) -> Manifest:
    """The manifest's inputs: digests and sizes (`files`) are added with the bundle, times on the release machine."""
    return Manifest(
        v=1,
        model="digits",
        task="digits",
        version=version.name,
        counter=version.counter,
        owner="vision",
        tiers=[
            Tier(name="core", file="core.onnx", variant="fp32", threshold=version.threshold, accuracy=accuracies[0]),
            Tier(name="large", file="large.onnx", variant=version.variant, accuracy=accuracies[1]),
        ],
        inputs=[Tensor(name="pixels", dtype="float32", shape=[-1, 64])],
        outputs=[Tensor(name="probabilities", dtype="float32", shape=[-1, 10])],
        objectives=Objectives(p95_ms=25.0, memory_bytes=96 << 20),
        fallback=Rule(label=1, text="no model can answer: shown as 1, and a person reads the meter"),
        files=[],
        needs=Needs(ram_bytes=128 << 20, disk_bytes=4 << 20, opset=OPSET, providers=["CPUExecutionProvider"]),
        replay="replay.npz",
        replay_key=runtime_key(),
        sketch="sketch.json",
        licence="CC-BY-4.0 (UCI optical recognition of handwritten digits, by way of scikit-learn)",
        card="card.md",
    )


@dataclass(frozen=True)
class Figures:
    core: float
    large: float
    cascade: float
    golden: float
    escalated: float


def write_version(folder: Path, version: Version, data: Data, golden: Golden) -> Figures:
    folder.mkdir(parents=True)
    (folder / "core.onnx").write_bytes(version.core)
    (folder / "large.onnx").write_bytes(version.large)
    core, large = (probabilities(graph, data.held_out) for graph in (version.core, version.large))
    cascade = Cascade.load(folder, manifest(version, (None, None)))
    figures = Figures(
        core=accuracy(core, data.held_out_labels),
        large=accuracy(large, data.held_out_labels),
        cascade=accuracy(answers(cascade, data.held_out), data.held_out_labels),
        golden=evaluate_golden(cascade, golden).accuracy,
        escalated=float((core.max(1) < version.threshold).mean()),
    )
    tiers = [round(accuracy(shares[: golden.n], golden.labels), 4) for shares in (core, large)]
    (folder / "replay.npz").write_bytes(record(cascade, golden))
    reference = sketch(data, cascade, version.temperature)
    (folder / "sketch.json").write_bytes(pretty(reference))
    (folder / "card.md").write_text(card(version, figures, reference, data), encoding="utf-8")
    (folder / "spec.json").write_bytes(pretty(manifest(version, (tiers[0], tiers[1]))))
    return figures


def pretty(value: object) -> bytes:
    """JSON a person can read: one line a field, lists of numbers on one line."""
    text = json.dumps(json.loads(encode(value)), indent=1)
    text = re.sub(r"\[\s+(?=[-\d])([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
    return (text + "\n").encode()


def card(version: Version, figures: Figures, reference: Reference, data: Data) -> str:
    held = len(data.held_out)
    return f"""# digits {version.name}

{version.story}

| | |
|---|---|
| Task | which digit 0-9 is on a grey image of 8x8 pixels (0..16) |
| Input | `pixels` float32 [-1, 64] |
| Output | `probabilities` float32 [-1, 10] |
| Core | multinomial logistic regression, fp32, {len(version.core)} bytes, temperature {version.temperature:.3f} folded in |
| Large | 3 convolutions and 2 dense layers, {version.variant}, {len(version.large)} bytes |
| Threshold | the large one is asked below a top probability of {version.threshold} |

Measured on {held} held-out images (none of them trained or calibrated on):

| accuracy | |
|---|---|
| core | {figures.core:.4f} |
| large | {figures.large:.4f} |
| cascade | {figures.cascade:.4f} |
| cascade on the golden set ({len(data.golden)} of them) | {figures.golden:.4f} |
| asked of the large one | {figures.escalated:.4f} |

Calibration error (equal mass) of the cascade on {len(data.cal)} calibration images: {reference.ece:.4f}.

**Not for** anything but showing fieldops at work. Trained on {len(data.train)} images of one old collection; a shift by a
pixel, another pen or another camera lowers accuracy, and the confidence does not tell.
The drift reference counts calibration and held-out images, so the load generator's steady state is in distribution by design.
Data: UCI optical recognition of handwritten digits (Alpaydin, Kaynak 1998), as in scikit-learn, CC-BY-4.0.
"""


# --- all of it ----------------------------------------------------------------------------------------------------------


def pair(data: Data, *, strength: float, seed: int, epochs: int) -> tuple[tuple[Floats, Floats, float], Network, float]:
    weights, bias = logistic(data, strength)
    own = probabilities(core_graph(weights, bias, 1.0).SerializeToString(), data.cal)
    core_temperature = fit_temperature(own, data.cal_labels).temperature
    network = convolution(data, seed=seed, epochs=epochs)
    own = probabilities(large_graph(network, 1.0).SerializeToString(), data.cal)
    large_temperature = fit_temperature(own, data.cal_labels).temperature
    return (weights, bias, core_temperature), network, large_temperature


def versions(data: Data) -> Iterator[Version]:
    core, network, heat = pair(data, strength=0.3, seed=11, epochs=60)
    core_bytes = core_graph(*core).SerializeToString()
    large_bytes = large_graph(network, heat).SerializeToString()
    threshold = choose_threshold(probabilities(core_bytes, data.cal), probabilities(large_bytes, data.cal), data.cal_labels)
    yield Version("1.0.0", 1, core_bytes, large_bytes, "fp32", threshold, core[2], "First release.")
    core, network, heat = pair(data, strength=1.0, seed=12, epochs=80)
    core_bytes = core_graph(*core).SerializeToString()
    large = large_graph(network, heat)
    large_bytes = large.SerializeToString()
    own = probabilities(core_bytes, data.cal)
    threshold = choose_threshold(own, probabilities(large_bytes, data.cal), data.cal_labels)
    yield Version("1.1.0", 2, core_bytes, large_bytes, "fp32", threshold, core[2], "Both graphs trained again.")
    small = quantised(large, data.cal)
    threshold = choose_threshold(own, probabilities(small, data.cal), data.cal_labels)
    yield Version("1.2.0", 3, core_bytes, small, "int8", threshold, core[2], INT8_STORY)
    weights, bias, temperature = core
    back = np.argsort(PERMUTED)
    wrong_core = core_graph(np.ascontiguousarray(weights[:, back]), bias[back], temperature).SerializeToString()
    wrong_large = large_graph(network, heat, PERMUTED).SerializeToString()
    story = (
        "DEGRADED ON PURPOSE: 1.1.0 with every digit answered as the next one. It loads, fits and is fast; its answers are wrong."
    )
    yield Version("2.0.0-bad", 4, wrong_core, wrong_large, "fp32", threshold, temperature, story)


def build(folder: Path) -> int:
    data = read_data()
    folder.mkdir(parents=True, exist_ok=True)
    golden = Golden(
        task="digits",
        inputs={"pixels": data.golden},
        labels=data.golden_labels,
        floor=GOLDEN_FLOOR,
        tolerance={ANY_ISA: GOLDEN_TOLERANCE},
    )
    (folder / "golden.npz").write_bytes(encode_golden(golden))
    np.savez_compressed(
        folder / "data.npz",
        images=data.load.astype(np.uint8),
        labels=data.load_labels.astype(np.uint8),
        cal_images=data.cal.astype(np.uint8),
        cal_labels=data.cal_labels.astype(np.uint8),
        train_images=data.train.astype(np.uint8),
        train_labels=data.train_labels.astype(np.uint8),
    )
    for version in versions(data):
        target = folder / version.name
        if target.exists():
            shutil.rmtree(target)
        print(version.name, write_version(target, version, data, golden))
    return 0


def differences(committed: Path, rebuilt: Path) -> list[str]:
    names = sorted(str(path.relative_to(rebuilt)) for path in rebuilt.rglob("*") if path.is_file())
    return [
        name
        for name in names
        if not (committed / name).exists() or not filecmp.cmp(committed / name, rebuilt / name, shallow=False)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Rebuild the sample models.")
    parser.add_argument("--check", action="store_true", help="rebuild elsewhere and compare byte for byte")
    check = parser.parse_args().check
    with threadpool_limits(limits=1):  # sums in another order would give other last bits
        return check_committed() if check else build(HERE / "digits")


def check_committed() -> int:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "digits")
        differing = differences(HERE / "digits", Path(folder) / "digits")
    print("same" if not differing else "differs: " + ", ".join(differing))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

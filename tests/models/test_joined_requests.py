"""Requests of several programs in one run of the graphs: each answer is its own, and so is each deadline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from fieldops.bundles.manifest import Manifest
from fieldops.edges.onnx import Answer, Asked, Cascade, infer_joined, joins
from tests.models.conftest import DIGITS, spec

Array = npt.NDArray[Any]


@pytest.fixture
def cascade() -> Cascade:
    return Cascade.load(DIGITS / "1.0.0", spec("1.0.0"))


@pytest.fixture(scope="module")
def by_sureness(images: dict[str, Array]) -> Array:
    """From the image the core is least sure of to the surest."""
    shares = Cascade.load(DIGITS / "1.0.0", spec("1.0.0")).tier("core", {"pixels": images["images"]})["probabilities"]
    found: Array = images["images"][np.argsort(shares.max(axis=1))]
    return found


def answers(cascade: Cascade, asked: list[Asked]) -> list[Answer]:
    found = infer_joined(cascade, asked)
    assert all(isinstance(each, Answer) for each in found), found
    return [each for each in found if isinstance(each, Answer)]


def test_each_gets_what_it_would_get_alone(cascade: Cascade, by_sureness: Array) -> None:
    groups = [by_sureness[:1], by_sureness[-2:], by_sureness[[0, -1, 1]], by_sureness[-1:], by_sureness[-40:], by_sureness[40:90]]
    joined = answers(cascade, [Asked({"pixels": rows}) for rows in groups])
    for rows, answer in zip(groups, joined, strict=True):
        alone = cascade.infer({"pixels": rows})
        assert (answer.route, answer.escalated, len(answer.outputs["probabilities"])) == (alone.route, alone.escalated, len(rows))
        np.testing.assert_allclose(answer.outputs["probabilities"], alone.outputs["probabilities"], atol=1e-5)
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_each_has_its_own_deadline_and_its_own_allowance(cascade: Cascade, by_sureness: Array) -> None:
    unsure = {"pixels": by_sureness[:1]}
    cascade.infer(unsure)  # so that it is known what the large model takes
    now = time.perf_counter()
    late, soon, hot, free = answers(
        cascade, [Asked(unsure, now), Asked(unsure, now + 3600), Asked(unsure, refusal="thermal"), Asked(unsure)]
    )
    assert (late.route, late.why) == ("deadline", "no_time")
    assert (soon.route, free.route) == ("large", "large")
    assert (hot.route, hot.why) == ("core", "thermal")


def test_who_could_not_wait_for_all_goes_with_fewer(by_sureness: Array) -> None:
    """As if the large model took a tenth of a second a row: 16 unsure rows would take longer than the first has."""
    slow = _Slow.load(DIGITS / "1.0.0", spec("1.0.0"))
    now = time.perf_counter()
    asked = [Asked({"pixels": by_sureness[n : n + 1]}, now + (0.5 if n == 9 else 3600)) for n in range(16)]
    found = answers(slow, asked)
    assert [each.route for each in found] == ["large"] * 16
    assert slow.runs[0] < 16
    assert sum(slow.runs) == 16


class _Slow(Cascade):
    """Its large model is expected to take 0.1 s a row."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.runs: list[int] = []

    def expected_s(self, rows: int) -> float | None:
        return 0.1 * rows

    def ask_large(self, inputs: Any) -> Any:
        self.runs.append(len(inputs["pixels"]))
        return super().ask_large(inputs)


def test_a_fault_is_only_its_own(cascade: Cascade, by_sureness: Array) -> None:
    good = Asked({"pixels": by_sureness[-1:]})
    nan = Asked({"pixels": np.full((1, 64), np.nan, np.float32)})
    first, second, third = answers(cascade, [good, nan, good])
    assert (first.route, second.route, third.route) == ("core", "rule", "core")
    np.testing.assert_allclose(first.outputs["probabilities"], cascade.infer(good.inputs).outputs["probabilities"], atol=1e-6)
    wrong = Asked({"pixels": by_sureness[-1:].astype(np.float64)})
    assert all(not isinstance(each, Answer) for each in infer_joined(cascade, [wrong, wrong]))


def test_the_usual_time_of_the_large_model_is_told_by_rows(cascade: Cascade, by_sureness: Array) -> None:
    assert cascade.expected_s(1) is None
    cascade.infer({"pixels": by_sureness[:1]})
    one = cascade.expected_s(1)
    assert one is not None
    assert cascade.expected_s(8) == pytest.approx(8 * one)  # not seen yet: in proportion, at most
    cascade.infer({"pixels": by_sureness[:256]})
    assert cascade.expected_s(1) == one  # a large batch, such as the golden set, says nothing about one row


# --- which graphs qualify ------------------------------------------------------------------------------------------------


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def node(operation: str, inputs: list[str], output: str) -> bytes:
    named = b"".join(field(1, name.encode()) for name in inputs)
    return field(1, named + field(2, output.encode()) + field(4, operation.encode()))


def graph(*nodes: bytes, rows: int | None = None) -> bytes:
    """An ONNX model x -> y, float[rows, 4]; rows None: free."""
    free = field(1, field(2, b"n")) if rows is None else field(1, bytes([1 << 3, rows]))
    tensor = field(2, field(1, bytes([1 << 3, 1]) + field(2, free + field(1, bytes([1 << 3, 4])))))
    body = b"".join(nodes) + field(2, b"g") + field(11, field(1, b"x") + tensor) + field(12, field(1, b"y") + tensor)
    return bytes([1 << 3, 8]) + field(7, body) + field(8, field(1, b"") + bytes([2 << 3, 17]))


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (graph(node("Softmax", ["x"], "y")), True),
        (graph(node("ReduceMax", ["x"], "m"), node("Div", ["x", "m"], "y")), False),  # scaled by all of its rows
        (graph(node("Softmax", ["x"], "y"), rows=1), False),
    ],
)
def test_only_a_graph_whose_rows_are_their_own_may_be_asked_for_several(tmp_path: Path, content: bytes, whole: bool) -> None:
    (tmp_path / "core.onnx").write_bytes(content)
    assert joins(Cascade.of_file(tmp_path / "core.onnx", "m")) is whole


@pytest.mark.parametrize("version", ["1.0.0", "1.2.0"])
def test_the_sample_models_qualify_in_every_variant(version: str) -> None:
    manifest: Manifest = spec(version)
    assert joins(Cascade.load(DIGITS / version, manifest))
    fixed = [msgspec.structs.replace(manifest.inputs[0], shape=[1, 64])]
    assert not joins(Cascade.load(DIGITS / version, msgspec.structs.replace(manifest, inputs=fixed)))

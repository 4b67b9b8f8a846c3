"""A golden set comes back as it was; one that could not judge anything, or is no honest file, is refused."""

from __future__ import annotations

import contextlib
import io
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fieldops.bundles.golden import GOLDEN_LIMIT_BYTES, LEAST_DISTINCT_INPUTS, Golden, decode_golden, encode_golden
from fieldops.errors import UsageFault

ROWS = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
LABELS = np.arange(64, dtype=np.int64) % 10
GOOD = Golden(task="digits", inputs={"pixels": ROWS}, labels=LABELS, floor=0.9, tolerance={"default": 1e-4, "aarch64": 1e-3})


def refused(data: bytes) -> str:
    with pytest.raises(UsageFault) as caught:
        decode_golden(data)
    assert caught.value.reason == "bad_golden"
    assert caught.value.next_step
    return caught.value.message


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def meta(text: bytes = b'{"v":1,"task":"t","floor":0.9,"tolerance":{"default":0.1}}') -> Any:
    return np.frombuffer(text, dtype=np.uint8)


def test_a_set_comes_back_as_it_was() -> None:
    data = encode_golden(GOOD)
    found = decode_golden(data)
    assert (found.task, found.floor, found.tolerance, found.n) == ("digits", 0.9, GOOD.tolerance, 64)
    assert found.inputs.keys() == {"pixels"}
    assert np.array_equal(found.inputs["pixels"], ROWS)
    assert found.inputs["pixels"].dtype == np.float32
    assert np.array_equal(found.labels, LABELS)
    assert encode_golden(found) == data
    assert (found.tolerance_for("aarch64"), found.tolerance_for("riscv64")) == (1e-3, 1e-4)


def test_several_inputs_are_told_apart_by_all_of_them() -> None:
    same = np.zeros((64, 2), dtype=np.float32)
    both = replace(GOOD, inputs={"left": same, "right": ROWS})
    assert decode_golden(encode_golden(both)).inputs.keys() == {"left", "right"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {"pixels": ROWS[: LEAST_DISTINCT_INPUTS - 1]}, "labels": LABELS[: LEAST_DISTINCT_INPUTS - 1]}, "31 distinct"),
        ({"inputs": {"pixels": np.repeat(ROWS[:16], 4, axis=0)}}, "16 distinct"),
        ({"labels": np.full(64, 7, dtype=np.int64)}, "all labels are equal"),
        ({"labels": LABELS[:63]}, "shape"),
        ({"labels": LABELS.reshape(64, 1)}, "row of labels"),
        ({"inputs": {}}, "at least one input"),
        ({"inputs": {"pixels": np.where(ROWS == 3, np.nan, ROWS)}}, "no numbers"),
        ({"floor": 0.0}, "floor"),
        ({"floor": 1.01}, "floor"),
        ({"floor": float("nan")}, "floor"),
        ({"tolerance": {"x86_64": 0.1}}, "default"),
        ({"tolerance": {"default": -1.0}}, "negative"),
        ({"tolerance": {"default": float("nan")}}, "negative"),
    ],
)
def test_a_set_that_could_not_judge_is_never_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageFault) as caught:
        encode_golden(replace(GOOD, **changes))
    assert words in caught.value.message


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


INPUT = {"input.x": ROWS}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x00" * 100,
        encode_golden(GOOD)[:-40],
        archive(labels=LABELS, meta=meta()),
        archive(**INPUT, meta=meta()),
        archive(**INPUT, labels=LABELS),
        archive(**INPUT, labels=LABELS, meta=meta(b"[")),
        archive(**INPUT, labels=LABELS, meta=meta(b"[" * 100_000)),
        archive(**INPUT, labels=LABELS, meta=meta(b'{"v":1,"task":"t","floor":0.1,"floor":0.9,"tolerance":{"default":0.1}}')),
        archive(**INPUT, labels=LABELS, meta=meta(b'{"v":1,"task":"t","floor":0.9,"tolerance":{"default":0.1},"extra":1}')),
        archive(**INPUT, labels=LABELS.astype(np.float32), meta=meta()),
        archive(**INPUT, labels=np.array([Evil()] * 64), meta=meta()),
        archive(**{"input.x": np.array([Evil()] * 64)}, labels=LABELS, meta=meta()),
        archive(**{"input.x": np.array(["text"] * 64)}, labels=LABELS, meta=meta()),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_what_is_no_golden_set_is_refused(data: bytes) -> None:
    refused(data)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("input.x.npy", "w") as member:
        for _ in range((GOLDEN_LIMIT_BYTES >> 20) + 1):
            member.write(bytes(1 << 20))
    assert len(buffer.getvalue()) < 1 << 20
    assert "unpacks" in refused(buffer.getvalue())


def test_a_large_file_is_refused_by_its_size() -> None:
    assert "limit" in refused(bytes(GOLDEN_LIMIT_BYTES + 1))


@pytest.mark.parametrize("at", range(0, 2000, 97))
def test_damage_gives_a_refusal_and_no_other_fault(at: int) -> None:
    data = bytearray(encode_golden(GOOD))
    data[at % len(data)] ^= 0x55
    with contextlib.suppress(UsageFault):
        assert decode_golden(bytes(data)).n == 64

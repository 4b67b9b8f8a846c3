"""The task's golden set and the outputs recorded at release, against what this machine computes now."""

from __future__ import annotations

import hashlib
import io
import platform
import zipfile
from dataclasses import dataclass

import numpy as np

from fieldops.bench import GoldenResult
from fieldops.bundles.golden import Golden
from fieldops.edges.onnx.cascade import Cascade
from fieldops.edges.onnx.runtime import Array, runtime_key
from fieldops.errors import TrustRefused


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """comparable: recorded for these golden inputs. worst: largest absolute difference, inf where one side is not finite."""

    comparable: bool
    bit_equal: bool
    worst: float


def evaluate_golden(cascade: Cascade, golden: Golden, recorded: bytes | None = None) -> GoldenResult:
    """The whole cascade, without deadline, on every golden input. ok: finite, and at least the floor's share right.

    recorded: the version's replay file; where it fits these inputs the worst difference of any tier must also keep the task's
    tolerance, so that a fault that leaves every label alone is still found.
    """
    answer = cascade.infer(golden.inputs)
    first = answer.outputs[cascade.manifest.outputs[0].name]
    shares = first.reshape(golden.n, -1)
    finite = answer.route != "rule" and all(bool(np.isfinite(value).all()) for value in answer.outputs.values())
    right = float((shares.argmax(axis=1) == golden.labels).mean())
    worst: float | None = None
    if recorded is not None:
        replayed = replay(cascade, golden, recorded, tiers=_judged_by_numbers(cascade))
        worst = replayed.worst if replayed.comparable else None
    within = worst is None or worst <= golden.tolerance_for(platform.machine())
    return GoldenResult(
        ok=finite and right >= golden.floor and within,
        accuracy=right,
        floor=golden.floor,
        n=golden.n,
        worst_difference=worst,
        finite=finite,
    )


def _judged_by_numbers(cascade: Cascade) -> tuple[str, ...]:
    """Integer graphs round and saturate differently with other instruction sets; only where they were recorded are they compared."""
    same = cascade.manifest.replay_key == runtime_key(cascade.provider)
    return tuple(tier.name for tier in cascade.manifest.tiers[:2] if same or "int" not in tier.variant)


def _inputs_digest(golden: Golden) -> Array:
    whole = hashlib.sha256()
    for name in sorted(golden.inputs):
        value = np.ascontiguousarray(golden.inputs[name])
        whole.update(f"{name} {value.dtype} {value.shape}\n".encode())
        whole.update(value.tobytes())
    return np.frombuffer(whole.digest(), np.uint8)


def record(cascade: Cascade, golden: Golden) -> bytes:
    """The replay file: what every tier answers to the golden inputs, here and now. The same bits give the same bytes."""
    arrays = {"inputs_sha256": _inputs_digest(golden)}
    for name in cascade.tier_names:
        for output, value in cascade.tier(name, golden.inputs).items():
            arrays[f"{name}.{output}"] = value
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def replay(cascade: Cascade, golden: Golden, recorded: bytes, *, tiers: tuple[str, ...] | None = None) -> ReplayResult:
    """Run the golden inputs again and compare with what was recorded at release. tiers: only these; None is all.

    Raises TrustRefused when `recorded` is no such file.
    """
    try:
        with np.load(io.BytesIO(recorded), allow_pickle=False) as archive:
            before = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise TrustRefused(
            f"the recorded outputs cannot be read: {error}",
            reason="malformed",
            next_step="the release team builds the bundle again",
        ) from error
    if not np.array_equal(before.pop("inputs_sha256", np.zeros(0)), _inputs_digest(golden)):
        return ReplayResult(comparable=False, bit_equal=False, worst=float("nan"))
    bit_equal, worst = True, 0.0
    for name in cascade.tier_names if tiers is None else tiers:
        for output, value in cascade.tier(name, golden.inputs).items():
            old = before.get(f"{name}.{output}")
            if old is None or old.shape != value.shape or old.dtype != value.dtype:
                return ReplayResult(comparable=False, bit_equal=False, worst=float("nan"))
            bit_equal = bit_equal and old.tobytes() == value.tobytes()
            worst = max(worst, _worst(old, value))
    return ReplayResult(comparable=True, bit_equal=bit_equal, worst=worst)


def _worst(old: Array, new: Array) -> float:
    """Largest absolute difference; inf when either side holds what is no number."""
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return float("inf")
    return float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max(initial=0.0))

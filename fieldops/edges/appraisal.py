"""Measure a version before it is signed, in a process of its own: a graph that crashes takes nothing with it, and memory counts.

The child (`python -m fieldops.edges.appraisal`) gets one JSON job on stdin and prints one JSON answer. It loads each tier
alone, times it, runs the golden set through it and through the whole cascade, records the replay, and counts the reference
sketch over calibration data where there are some.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from fieldops.bundles.appraisal import Appraisal, TierFigures
from fieldops.bundles.manifest import Manifest, Tier
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.errors import DeviceCannot, FieldopsError, UsageFault, from_parts
from fieldops.wire import ErrorDoc, error_doc

if TYPE_CHECKING:
    from fieldops.bundles.golden import Golden
    from fieldops.edges.onnx import Cascade

SAMPLES = 64  # enough for p50 and p90 by the early-stopping rule
WARMUP = 10
BINS = 32
FEWEST_CALIBRATION_ROWS = 100
CALIBRATION_LIMIT_BYTES = 512 << 20


class _Job(Struct, frozen=True, kw_only=True):
    folder: str
    manifest: Manifest
    golden: bytes
    calibration: str | None


class _Answer(Struct, frozen=True, kw_only=True):
    appraisal: Appraisal | None = None
    error: ErrorDoc | None = None


class OnnxAppraiser:
    """Implements operations.release.Appraiser."""

    def appraise(
        self, folder: Path, manifest: Manifest, golden: bytes, calibration: Path | None, deadline: Deadline
    ) -> Appraisal:
        """Raises UsageFault, TrustRefused, DeviceCannot (does not load, crashes), DeadlinePassed."""
        place = str(calibration.resolve()) if calibration is not None else None
        job = _Job(folder=str(folder.resolve()), manifest=manifest, golden=golden, calibration=place)
        deadline.check("the measurements")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fieldops.edges.appraisal"],
                input=msgspec.json.encode(job),
                capture_output=True,
                timeout=deadline.left(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            deadline.check("the measurements")
            raise
        try:
            answer = decoder(_Answer).decode(done.stdout)
        except msgspec.DecodeError as error:
            raise DeviceCannot(
                f"{manifest.model}@{manifest.version} ended the process that measured it (exit {done.returncode})",
                reason="model_crashed",
                next_step="run it alone with `fieldops bench run --local FILE.onnx`",
            ) from error
        if answer.appraisal is not None:
            return answer.appraisal
        said = answer.error or error_doc(FieldopsError("no answer", reason="bug", next_step=""))
        raise from_parts(exit_code=said.exit, reason=said.reason, message=said.message, next_step=said.next, device=None)


# --- in the child ------------------------------------------------------------------------------------------------------


def _peak_bytes() -> int | None:
    """The most memory this process ever held; None where the system does not say.

    On Linux not by getrusage: its figure outlives exec, so a large parent would hide what a tier takes.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return _peak_elsewhere()
    found = re.search(r"(?m)^VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None


def _peak_elsewhere() -> int | None:
    if platform.system() != "Darwin":  # Windows has no such measure in the standard library
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _appraise(job: _Job) -> Appraisal:
    import numpy as np

    from fieldops.bench import median
    from fieldops.bundles.golden import decode_golden
    from fieldops.edges.onnx import Cascade, evaluate_golden, latencies, record, runtime_key

    folder, manifest, golden = Path(job.folder), job.manifest, decode_golden(job.golden)
    kept: list[Cascade] = []  # alive to the end: memory given back would make the next tier look smaller
    figures = [_tier(folder, manifest, tier, golden, kept) for tier in manifest.tiers]
    cascade = Cascade.load(folder, manifest)
    latencies(cascade, golden.inputs, WARMUP)
    p50 = median(latencies(cascade, golden.inputs, SAMPLES))
    former = folder / manifest.replay if manifest.replay else None
    recorded = former.read_bytes() if former is not None and former.is_file() else None
    result = evaluate_golden(cascade, golden, recorded)
    first = cascade.infer(golden.inputs).outputs[manifest.outputs[0].name]
    worst = result.worst_difference
    return Appraisal(
        tiers=figures,
        accuracy=result.accuracy,
        floor=result.floor,
        n=result.n,
        answers=int(np.unique(first.reshape(golden.n, -1).argmax(axis=1)).size),
        finite=result.finite,
        p50_ms=round(p50, 4),
        replay=record(cascade, golden),
        replay_key=runtime_key(),
        sketch=_sketch(cascade, manifest, Path(job.calibration)) if job.calibration else None,
        worst_difference=worst,
        within_tolerance=worst is None or worst <= golden.tolerance_for(platform.machine()),
    )


def _tier(folder: Path, manifest: Manifest, tier: Tier, golden: Golden, kept: list[Cascade]) -> TierFigures:
    from fieldops.bench import median
    from fieldops.bundles.onnx_header import opset_of
    from fieldops.edges.onnx import Cascade, latencies

    before = _peak_bytes()
    alone = Cascade.load(folder, msgspec.structs.replace(manifest, tiers=[msgspec.structs.replace(tier, threshold=None)]))
    kept.append(alone)
    latencies(alone, golden.inputs, WARMUP)
    p50 = median(latencies(alone, golden.inputs, SAMPLES))
    after = _peak_bytes()
    first = alone.infer(golden.inputs).outputs[manifest.outputs[0].name]
    right = first.reshape(golden.n, -1).argmax(axis=1) == golden.labels
    return TierFigures(
        name=tier.name,
        accuracy=round(float(right.mean()), 6),
        p50_ms=round(p50, 4),
        memory_bytes=after - before if before is not None and after is not None else None,
        opset=opset_of((folder / tier.file).read_bytes(), tier.file),
    )


def _sketch(cascade: Cascade, manifest: Manifest, file: Path) -> bytes:
    """The reference of drift, over calibration data: bins of equal mass, and for labels one bin each."""
    import numpy as np

    from fieldops.drift.calibration import equal_mass_ece
    from fieldops.drift.count import INPUT_SOURCES, feature, quantile_edges, rows, values_of
    from fieldops.drift.sketch import Reference

    given, labels = _calibration(file, manifest)
    answered = rows(cascade.infer(given).outputs[manifest.outputs[0].name])
    inputs = rows(given[manifest.inputs[0].name])
    edges = {source: quantile_edges(values_of(source, inputs, answered), BINS) for source in INPUT_SOURCES}
    edges["output.confidence"] = quantile_edges(answered.max(axis=1), BINS, low=0, high=1)
    edges["output.label"] = [label - 0.5 for label in range(answered.shape[1] + 1)]
    right = answered.argmax(axis=1) == labels if labels is not None else None
    reference = Reference(
        v=1,
        features=[feature(source, bins, inputs, answered) for source, bins in edges.items()],
        accuracy=round(float(np.mean(right)), 4) if right is not None else None,
        ece=round(equal_mass_ece(answered.max(axis=1), right), 4) if right is not None else None,
    )
    return msgspec.json.format(msgspec.json.encode(reference), indent=1)


def _calibration(file: Path, manifest: Manifest) -> tuple[dict[str, Any], Any]:
    """`input.<name>` arrays and, where known, `labels`, of one npz. Nothing in it is unpickled."""
    import zipfile

    import numpy as np

    try:
        if file.stat().st_size > CALIBRATION_LIMIT_BYTES:
            raise _bad_calibration(file, f"is larger than {CALIBRATION_LIMIT_BYTES} bytes")
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _bad_calibration(file, f"is no intact npz: {error}") from error
    given = {tensor.name: found.get(f"input.{tensor.name}") for tensor in manifest.inputs}
    lost = [name for name, value in given.items() if value is None]
    if lost:
        raise _bad_calibration(file, f"has no array {', '.join(f'input.{name}' for name in lost)}")
    lengths = {len(value) for value in given.values() if value is not None}
    labels = found.get("labels")
    if labels is not None:
        lengths.add(len(labels))
    if len(lengths) != 1 or min(lengths) < FEWEST_CALIBRATION_ROWS:
        raise _bad_calibration(file, f"needs at least {FEWEST_CALIBRATION_ROWS} rows, equally many in each array")
    return {name: value for name, value in given.items() if value is not None}, labels


def _bad_calibration(file: Path, what: str) -> UsageFault:
    return UsageFault(
        f"{file} {what}", reason="bad_calibration", next_step="write `input.<name>` for each input, and `labels` if known"
    )


def main() -> None:
    try:
        answer = _Answer(appraisal=_appraise(decoder(_Job).decode(sys.stdin.buffer.read())))
    except FieldopsError as error:
        answer = _Answer(error=error_doc(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

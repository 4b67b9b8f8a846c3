"""The sample cascade against its large model alone, image by image, through the same code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.bars import Bar, summed_minima
from fieldops.bundles.manifest import Manifest
from fieldops.edges.onnx import Cascade, single_rows

DIGITS = Path(__file__).parents[1] / "sample_fleet" / "digits"


def bars() -> Iterator[Bar]:
    with np.load(DIGITS / "data.npz") as archive:
        images, labels = archive["images"].astype(np.float32), archive["labels"]
    requests = single_rows({"pixels": images}, len(images))
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        manifest = msgspec.json.decode((DIGITS / version / "spec.json").read_bytes(), type=Manifest)
        cascade = Cascade.load(DIGITS / version, manifest)
        ours, large, core = summed_minima(
            7, [cascade.infer, partial(cascade.tier, "large"), partial(cascade.tier, "core")], requests
        )
        right = [
            float((found["probabilities"].argmax(1) == labels).mean())
            for found in (cascade.infer({"pixels": images}).outputs, cascade.tier("large", {"pixels": images}))
        ]
        note = f"accuracy {100 * (right[0] - right[1]):+.2f} points; large {large / core:.1f}x core"
        yield Bar(f"cascade {version}, {manifest.tiers[1].variant}", "its large model alone", ours, large, 0.5, note=note)

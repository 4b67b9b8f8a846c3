"""The committed sample models, as a device would load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from fieldops.bundles.golden import Golden, decode_golden
from fieldops.bundles.manifest import Manifest
from fieldops.edges.onnx import Cascade

DIGITS = Path(__file__).parents[2] / "sample_fleet" / "digits"
Array = npt.NDArray[Any]


@pytest.fixture(scope="session")
def digits() -> Path:
    return DIGITS


@pytest.fixture(scope="session")
def golden() -> Golden:
    return decode_golden((DIGITS / "golden.npz").read_bytes())


@pytest.fixture(scope="session")
def images() -> dict[str, Array]:
    """images, labels: what the load generator draws from; cal_*, train_*."""
    with np.load(DIGITS / "data.npz") as archive:
        return {name: archive[name].astype(np.float32 if name.endswith("images") else np.int64) for name in archive.files}


def spec(version: str) -> Manifest:
    return msgspec.json.decode((DIGITS / version / "spec.json").read_bytes(), type=Manifest)


@pytest.fixture(scope="session")
def cascades() -> dict[str, Cascade]:
    return {version: Cascade.load(DIGITS / version, spec(version)) for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0-bad")}

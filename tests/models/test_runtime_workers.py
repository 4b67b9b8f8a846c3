"""Workers as the agent holds them: real processes with the sample models, each with the manifest it was released with."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fieldops.agent.measuring import distrust
from fieldops.agent.workers import Load, Worker
from fieldops.bench import CPU
from fieldops.bundles.manifest import MANIFEST_FILE
from tests.models.conftest import DIGITS, spec


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """digits 1.0.0 as it lies on a device: a folder named by its manifest's digest."""
    manifest = msgspec.json.encode(spec("1.0.0"))
    folder = tmp_path_factory.mktemp("models") / hashlib.sha256(manifest).hexdigest()
    folder.mkdir()
    (folder / MANIFEST_FILE).write_bytes(manifest)
    for file in (DIGITS / "1.0.0").iterdir():
        (folder / file.name).symlink_to(file)
    return Load(folder=folder, model="digits", version="1.0.0", golden=DIGITS / "golden.npz", memory_bytes=None)


def test_a_provider_that_is_not_there_any_more_costs_its_speed_and_not_the_model(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    async def told() -> tuple[str, dict[str, Any]]:
        worker = await Worker.start(replace(load, provider="WarpExecutionProvider"))
        try:
            golden, _ = await worker.call({"op": "golden"}, within_s=60)
            return worker.provider_fault, golden
        finally:
            await worker.stop()

    fault, golden = asyncio.run(told())
    assert fault.startswith("WarpExecutionProvider cannot be used: this runtime offers")
    assert golden["passed"] is True
    assert "WarpExecutionProvider" in caplog.text


GOOD = {"known": True, "passed": True, "accuracy": 0.99, "floor": 0.9, "worst": 1e-6, "worst_of_all": 1e-6, "tolerance": 1e-4}


@pytest.mark.parametrize(
    ("change", "provider", "usual", "word"),
    [
        ({}, "Warp", 1e-6, ""),
        ({"worst_of_all": 1e-3}, "Warp", 1e-6, "differ by 0.001"),
        ({"worst_of_all": 3.4}, "Warp", 3.4, ""),  # an integer graph that this machine rounds otherwise, whoever computes it
        ({"worst_of_all": 3.4}, CPU, None, ""),
        ({"worst_of_all": float("inf")}, "Warp", 1e-6, "differ by inf"),
        ({"passed": False, "accuracy": 0.2}, CPU, None, "accuracy 0.2000"),
        ({"known": False}, "Warp", None, "no golden set"),
        ({"known": False}, CPU, None, ""),
        ({"worst_of_all": None}, "Warp", None, "no recorded outputs"),
    ],
)
def test_a_provider_is_believed_only_as_far_as_the_recorded_outputs_go(
    change: dict[str, Any], provider: str, usual: float | None, word: str
) -> None:
    said = distrust({**GOOD, **change}, provider, usual)
    assert (word in said) if word else said == ""

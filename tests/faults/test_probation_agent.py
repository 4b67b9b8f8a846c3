"""A committed version that goes wrong only later: a real agent takes it back by itself, and its journal says with which figures.

odd_core.onnx is right for every drawing, so all checks pass; pixel 0, white in all of them, gives the order (build_odd_core.py).
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fieldops.agent.figures import WORTH
from fieldops.bundles.manifest import Objectives
from fieldops.errors import LinkFault
from fieldops.steps import Prune
from tests.agent.conftest import DIGITS, Agent, Laptop, request_of, spec, within
from tests.agent.test_agent_liars import Office, office  # noqa: F401 - a fixture

ODD = "1.8.0"
CEILING_MS = 200.0
FAIL, BLANK, SLOW = 1000.0, 1500.0, 2000.0


@dataclass
class Programs:
    """What asks on the device."""

    client: httpx.Client
    row: Any
    longest_ms: float = 0.0  # of an ordinary answer

    def _request(self, order: float) -> dict[str, Any]:
        row = self.row.copy()
        row[0] = order
        return request_of(row)

    def hurry(self, order: float, deadline_ms: int) -> str:
        """The route of an answer to a caller who waits only so long."""
        headers = {"Fieldops-Deadline-Ms": str(deadline_ms)}
        reply = self.client.post("/v2/models/digits/infer", json=self._request(order), headers=headers)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["parameters"]["route"])

    def ask(self, order: float = 0.0, count: int = 1) -> float:
        """Milliseconds that the last of them took in all."""
        body = self._request(order)
        for _ in range(count):
            reply = self.client.post("/v2/models/digits/infer", json=body)
            assert reply.status_code == (500 if order == FAIL else 200), reply.text
            taken = float(reply.json()["parameters"]["total_ms"]) if order != FAIL else 0.0
            self.longest_ms = max(self.longest_ms, taken if order == 0.0 else 0.0)
        return taken

    def slow_order(self) -> float:
        """One that takes several times what is signed and what is usual, however fast or busy this machine is."""
        rounds = 64
        while min(self.ask(SLOW + rounds), self.ask(SLOW + rounds)) < max(2 * CEILING_MS, 4 * self.longest_ms):
            rounds *= 2
            assert rounds < 1 << 20
        return SLOW + rounds


@dataclass
class Visit:
    device: Agent
    laptop: Laptop
    programs: Programs


@pytest.fixture
def committed(
    device: Agent,
    make_laptop: Callable[..., Laptop],
    office: Office,  # noqa: F811
    tmp_path: Path,
    images: tuple[Any, Any],
) -> Iterator[Visit]:
    """1.8.0 on probation, after 1.0.0 had answered the same programs for a while."""
    folder = tmp_path / "odd"
    shutil.copytree(DIGITS / "1.2.0", folder)
    shutil.copyfile(Path(__file__).with_name("odd_core.onnx"), folder / "core.onnx")
    manifest = spec("1.2.0")
    core = next(tier for tier in manifest.tiers if tier.name == "core")
    changes: dict[str, Any] = {
        "version": ODD,
        "counter": 9,
        "objectives": Objectives(p95_ms=CEILING_MS, memory_bytes=96 << 20, error_rate=0.05),
        "tiers": [msgspec.structs.replace(core, threshold=None, accuracy=0.9, p50_ms=1.0)],
        "replay": None,
    }
    office.repo.add_bundle("stable", folder, msgspec.structs.replace(manifest, **changes))
    office.repo.sign("stable")
    office.repo.publish()
    laptop = replace(make_laptop(), source=office.export("odd").source)
    laptop.trust.refresh(laptop.source, within())
    laptop.enrol(device)
    with device.client("infer.sock") as client:
        programs = Programs(client, images[0][0])
        programs.ask(count=WORTH)
        laptop.install(device, ODD)
        assert device.slot().state == "committed"
        yield Visit(device, laptop, programs)


def _taken_back(device: Agent, reason: str) -> str:
    """The journal's words for it."""
    slot = device.until(lambda slot: slot.state == "reverted")
    assert (slot.active, slot.reason) == ("1.0.0", reason)
    (entry,) = [each for each in device.get("/v1/journal")["entries"] if each["action"] == "revert"]
    assert entry["actor"].startswith("device:")
    return str(entry["detail"])


# httpcore leaves a unix socket that was refused to the garbage collector; here the agent is away for a moment.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_lost_link_and_a_late_answer_are_no_fault_of_the_model_and_its_own_errors_are(committed: Visit) -> None:
    """Three kinds, three types, three reactions."""
    device, laptop, programs = committed.device, committed.laptop, committed.programs
    # A program that waits too short: it has the rule's answer, and nothing is held against anybody.
    slow = programs.slow_order()
    assert programs.hurry(slow, 20) == "rule"
    programs.ask()  # by the same worker, once it is through
    serving = device.get("/v1/resources")["serving"][0]
    assert (serving["failed"], serving["version"]) == (0, ODD)
    # The link: the laptop knows nothing, says so, and nothing on the device moved.
    device.kill()
    with pytest.raises(LinkFault) as lost:
        laptop.do(device, Prune(model="digits"))
    assert lost.value.exit_code == 5
    del lost
    gc.collect()
    device.start()
    assert (device.slot().state, device.slot().active) == ("committed", ODD)
    with device.client("infer.sock") as client:
        again = Programs(client, programs.row)
        assert {"worker_crash", "revert"} & {entry["action"] for entry in device.get("/v1/journal")["entries"]} == set()
        # The model: its errors are counted, and the device goes back.
        again.ask(count=45)
        again.ask(FAIL, count=15)
    assert "requests failed" in _taken_back(device, "error_rate")


def test_too_many_errors_in_the_probation_take_a_version_back(committed: Visit) -> None:
    device, programs = committed.device, committed.programs
    programs.ask(count=45)
    programs.ask(FAIL, count=15)
    assert "requests failed; 5.00% may" in _taken_back(device, "error_rate")


def test_answers_that_got_slow_in_the_probation_take_a_version_back(committed: Visit) -> None:
    device, programs = committed.device, committed.programs
    slow = programs.slow_order()
    programs.ask(count=WORTH)
    programs.ask(slow, count=8)
    detail = _taken_back(device, "latency")
    assert f"{CEILING_MS:.1f} ms are signed" in detail
    assert "unknown" not in detail


def test_confidence_that_collapses_in_the_probation_takes_a_version_back(committed: Visit) -> None:
    device, programs = committed.device, committed.programs
    programs.ask(BLANK, count=WORTH)
    assert _taken_back(device, "confidence").startswith("mean confidence 0.10; ")

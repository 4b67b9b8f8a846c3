"""Workers as the agent holds them: real processes with the sample models, each with the manifest it was released with."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fieldops.agent.line import Limit
from fieldops.agent.measuring import distrust
from fieldops.agent.serving import Served
from fieldops.agent.shadowing import MOST_COPIES, Shadow
from fieldops.agent.workers import Load, Worker, WorkerSaid
from fieldops.bench import CPU
from fieldops.bundles.manifest import MANIFEST_FILE, Rule, Tier
from fieldops.edges.onnx import Cascade
from fieldops.tiers import Allowance
from fieldops.wire import ShadowReport
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


def test_one_that_takes_the_worker_down_again_and_again_is_left_for_the_cpus(load: Load, images: dict[str, Any]) -> None:
    body = request(images["images"][:1])

    async def asked() -> list[str]:
        used: list[str] = []
        async with serving(replace(load, provider="WarpExecutionProvider")) as served, asyncio.timeout(60):
            while len(used) < 3:
                worker = served.worker
                assert worker is not None
                used.append(worker.load.provider)
                worker.kill()  # as its driver would
                while served.worker is worker:
                    await crowd(served, [body])
        return used

    assert asyncio.run(asked()) == ["WarpExecutionProvider", "WarpExecutionProvider", CPU]


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


# --- together ------------------------------------------------------------------------------------------------------------


def request(row: Any, name: str = "") -> bytes:
    tensor = {"name": "pixels", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    return msgspec.json.encode({"id": name, "inputs": [tensor]})


@contextlib.asynccontextmanager
async def serving(load: Load, together: int = 32) -> AsyncIterator[Served]:
    served = Served("digits", lambda model, version: None, together)
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(served.run())
        await served.switch(await Worker.start(load), Rule(label=7, text="seven"), "1.0.0")
        try:
            yield served
        finally:
            watcher.cancel()
            await served.close()


async def crowd(served: Served, bodies: list[bytes], within_s: float = 60.0) -> list[dict[str, Any] | BaseException]:
    """All at once; each one's answer, or what it was refused with."""
    found = await asyncio.gather(*(served.infer(body, within_s) for body in bodies), return_exceptions=True)
    return [each if isinstance(each, BaseException) else msgspec.json.decode(each.body) for each in found]


def shares(answer: dict[str, Any] | BaseException) -> Any:
    assert isinstance(answer, dict), answer
    return np.asarray(answer["outputs"][0]["data"]).reshape(answer["outputs"][0]["shape"])


def test_requests_that_wait_together_are_answered_together_and_as_if_alone(load: Load, images: dict[str, Any]) -> None:
    bodies = [request(images["images"][n : n + 1 + n % 3], f"r{n}") for n in range(64)]

    async def both() -> tuple[list[Any], list[Any]]:
        async with serving(load) as many, serving(load, together=1) as one:
            return await crowd(many, bodies), await crowd(one, bodies)

    together, alone = asyncio.run(both())
    assert max(answer["parameters"]["batch"] for answer in together) > 1
    assert {answer["parameters"]["batch"] for answer in alone} == {1}
    for number, (ours, peer) in enumerate(zip(together, alone, strict=True)):
        assert ours["id"] == f"r{number}"
        assert len(shares(ours)) == 1 + number % 3
        if ours["parameters"]["route"] == peer["parameters"]["route"]:
            np.testing.assert_allclose(shares(ours), shares(peer), atol=1e-5)


def test_a_bad_input_fails_alone_and_one_in_a_hurry_keeps_its_own_deadline(load: Load, images: dict[str, Any]) -> None:
    good = [request(images["images"][n : n + 1]) for n in range(60)]
    bad = {3: b"{", 17: request(np.zeros((1, 3), np.float32)), 31: request(np.full((1, 64), np.nan, np.float32))}

    async def asked() -> list[Any]:
        async with serving(load) as served:
            await crowd(served, good)  # so that it is known what is worth it
            mixed = crowd(served, [bad.get(n, body) for n, body in enumerate(good)])
            hurried = crowd(served, good[:1], within_s=0.0)
            answers, late = await asyncio.gather(mixed, hurried)
            return [*answers, *late]

    answers = asyncio.run(asked())
    assert isinstance(answers[3], WorkerSaid)
    assert isinstance(answers[17], WorkerSaid)
    assert {answers[3].kind, answers[17].kind} == {"bad_request"}
    assert answers[31]["parameters"]["route"] == "rule"
    assert answers[-1]["parameters"]["route"] in {"rule", "core", "deadline"}
    kept = [answer for number, answer in enumerate(answers[:-1]) if number not in bad]
    assert {answer["parameters"]["route"] for answer in kept} <= {"core", "large"}
    right = [int(shares(answer).argmax()) for answer in kept]
    known = [int(label) for number, label in enumerate(images["labels"][:60]) if number not in bad]
    assert sum(a == b for a, b in zip(right, known, strict=True)) >= 50


def test_those_who_wait_for_a_worker_that_dies_are_answered_by_the_next_one(load: Load, images: dict[str, Any]) -> None:
    bodies = [request(images["images"][n : n + 1]) for n in range(200)]

    async def asked() -> list[Any]:
        async with serving(load) as served:
            asking = [asyncio.ensure_future(crowd(served, [body])) for body in bodies]
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            assert served.worker is not None
            served.worker.kill()
            return [answer for found in asking for answer in await found]

    answers = asyncio.run(asked())
    assert [answer for answer in answers if not isinstance(answer, dict)] == []
    assert {answer["parameters"]["route"] for answer in answers} <= {"core", "large"}


def test_as_many_go_together_as_save_time_for_each() -> None:
    limit = Limit(32)
    limit.took(1, 1.0)
    assert limit.requests == 2
    for _ in range(20):
        limit.took(limit.requests, 0.3 * limit.requests)
    assert limit.requests == 32  # never beyond what it was given
    for _ in range(20):
        limit.took(limit.requests, 1.2 * limit.requests)
    assert limit.requests == 1  # a run of n that takes n times as long: each goes alone
    for _ in range(Limit.AGAIN):
        limit.took(1, 1.0)
    assert limit.requests == 2  # tried again now and then
    assert Limit(1).requests == 1
    one = Limit(1)
    one.took(1, 1.0)
    assert one.requests == 1


def test_copies_for_a_shadow_never_pile_up_and_nobody_waits_for_them(load: Load, images: dict[str, Any]) -> None:
    async def shadowed() -> ShadowReport:
        async with serving(load) as served:
            worker = await Worker.start(load)
            shadow = served.shadow = Shadow(worker, 60.0)  # which does not work on them yet
            await crowd(served, [request(images["images"][n : n + 1]) for n in range(100)])
            running = asyncio.ensure_future(shadow.run())
            async with asyncio.timeout(60):
                while shadow.report().requests < MOST_COPIES:
                    await served.infer(request(images["images"][:2]), 60.0)
            shadow.stop()
            await running
            await worker.stop()
            return shadow.report()

    report = asyncio.run(shadowed())
    assert report.dropped >= 100 - MOST_COPIES
    assert (report.failed, report.not_comparable, report.crash) == (0, 0, "")
    assert report.agreed >= 0.9 * report.rows  # the same version: only the large model's allowance may differ


@pytest.mark.parametrize("together", [False, True])
def test_the_time_spent_waiting_for_a_busy_worker_counts_towards_the_deadline(
    load: Load, images: dict[str, Any], together: bool
) -> None:
    """An image that the core is not sure of: with time left the large model would be asked."""
    unsure = next(row for row in (images["images"][n : n + 1] for n in range(60)) if _core(row) < 0.5)
    body = request(unsure)

    async def asked() -> list[dict[str, Any]]:
        worker = await Worker.start(load)
        try:
            answers = []
            for deadline_s in (60.0, 0.001):
                busy = asyncio.ensure_future(worker.call({"op": "measure", "samples": 256, "warmup": 256}, within_s=60))
                await asyncio.sleep(0)  # it has its turn
                each: dict[str, Any] = {"deadline_s": deadline_s, "bytes": len(body)}
                header = {"op": "infer_many", "each": [each, each]} if together else {"op": "infer", **each}
                said, data = await worker.call(header, body * (1 + together), within_s=60)
                answers.append(msgspec.json.decode(data[: said["each"][0]["bytes"]] if together else data)["parameters"])
                await busy
            return answers
        finally:
            await worker.stop()

    patient, hurried = asyncio.run(asked())
    assert patient["route"] == "large"
    assert (hurried["route"], hurried["why"]) == ("deadline", "no_time")


def _core(row: Any) -> float:
    return float(Cascade.load(DIGITS / "1.0.0", spec("1.0.0")).tier("core", {"pixels": row})["probabilities"].max())


def test_while_many_wait_the_large_model_rests_and_every_answer_says_so(load: Load, images: dict[str, Any]) -> None:
    bodies = [request(images["images"][n : n + 1]) for n in range(200)]

    async def asked() -> tuple[list[Any], Served]:
        async with serving(load) as served:
            served.allowance = Allowance(queue_limit=2)
            return await crowd(served, bodies), served

    answers, served = asyncio.run(asked())
    told = [(answer["parameters"]["route"], answer["parameters"]["why"]) for answer in answers]
    assert ("core", "load") in told
    assert served.figures.rested["load"] == told.count(("core", "load"))
    assert sum(served.figures.routes.values()) == len(bodies)  # each is counted by its route


# --- limits --------------------------------------------------------------------------------------------------------------


def test_a_request_for_more_memory_than_was_promised_is_refused_and_the_worker_lives_on(tmp_path: Path) -> None:
    """A graph that makes as many zeros as it is asked for."""
    (tmp_path / "zeros.onnx").write_bytes(zeros_graph())
    unsigned = msgspec.structs.replace(
        spec("1.0.0"),
        model="zeros",
        tiers=[Tier(name="core", file="zeros.onnx", variant="fp32")],
        inputs=[],
        outputs=[],
        files=[],
    )
    limited = Load(folder=tmp_path, model="zeros", version="0.0.0", golden=None, memory_bytes=64 << 20, manifest=unsigned)

    async def asked() -> tuple[list[Any], bool]:
        async with serving(limited) as served:
            before = served.worker
            found = [(await crowd(served, [shaped(rows)]))[0] for rows in (2, 1 << 31, 3)]
            return found, served.worker is before

    (small, huge, after), same = asyncio.run(asked())
    assert small["outputs"][0]["shape"] == [2, 4]
    assert isinstance(huge, WorkerSaid)
    assert (huge.kind, "memory" in huge.message) == ("check", True)
    assert after["outputs"][0]["shape"] == [3, 4]
    assert same


def shaped(rows: int) -> bytes:
    return msgspec.json.encode({"inputs": [{"name": "x", "shape": [2], "datatype": "INT64", "data": [rows, 4]}]})


def zeros_graph() -> bytes:
    """x int64[2] -> ConstantOfShape -> y float[?, ?]."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    def typed(element: int, *dimensions: bytes) -> bytes:
        shape = field(2, b"".join(field(1, each) for each in dimensions))
        return field(2, field(1, bytes([1 << 3, element]) + shape))

    node = field(1, b"x") + field(2, b"y") + field(4, b"ConstantOfShape")
    given, found = typed(7, bytes([1 << 3, 2])), typed(1, field(2, b"n"), field(2, b"m"))
    graph = field(1, node) + field(2, b"g") + field(11, field(1, b"x") + given) + field(12, field(1, b"y") + found)
    return bytes([1 << 3, 8]) + field(7, graph) + field(8, field(1, b"") + bytes([2 << 3, 17]))


def test_a_worker_that_dies_again_and_again_is_started_later_each_time_and_the_rule_answers_meanwhile(
    load: Load, images: dict[str, Any]
) -> None:
    body = request(images["images"][:1])

    async def asked() -> tuple[list[str], int]:
        routes: list[str] = []
        async with serving(load) as served, asyncio.timeout(60):
            killed: set[int] = set()
            while "rule" not in routes or routes[-1] == "rule":
                worker = served.worker
                if worker is not None and worker.alive and len(killed) < 4 and worker.pid not in killed:
                    killed.add(worker.pid)
                    worker.kill()
                found = (await crowd(served, [body]))[0]
                assert isinstance(found, dict)
                routes.append(found["parameters"]["route"])
            return routes, served.crashes

    routes, crashes = asyncio.run(asked())
    assert crashes == 4
    assert routes[0] in {"core", "large"}  # at once, then a little later: who asks does not notice
    assert routes[-1] in {"core", "large"}

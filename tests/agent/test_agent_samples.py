"""What a device counts and keeps while nobody is there: a ring of records, and a few sealed inputs that can be labelled."""

from __future__ import annotations

import base64
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fieldops.agent import sealing
from fieldops.drift.sketch import unpack
from fieldops.edges.onnx import Cascade
from fieldops.edges.sealed import unseal
from fieldops.errors import DeviceCannot
from fieldops.policy import decode_policy, encode_policy
from fieldops.steps import Recalibrate
from fieldops.wire import Sample, StepRecord
from tests.agent.conftest import DIGITS, Agent, Laptop, request_of, spec, within


def strange(n: int) -> Any:
    """Brighter than any pixel at release."""
    return np.random.default_rng(3).uniform(0, 60, (n, 64)).astype(np.float32)


def ask(device: Agent, rows: Any) -> None:
    with device.client("infer.sock") as client:
        for row in rows:
            assert client.post("/v2/models/digits/infer", json=request_of(row)).status_code == 200


def kept(device: Agent, laptop: Laptop, after: int = 0) -> list[Sample]:
    with laptop.device(device) as connected:
        return connected.samples("digits", after, within()).samples


def fill(device: Agent, laptop: Laptop, n: int, rows: Any = None) -> list[Sample]:
    """Ask until n inputs are kept; what comes while others are being sealed is let go."""
    rows = strange(8) if rows is None else rows
    deadline = within()
    while len(found := kept(device, laptop)) < n:
        deadline.check("samples")
        ask(device, rows[:8])
        rows = np.roll(rows, 8, axis=0)
    return found[:n]


def agreed(images: Any) -> Any:
    """Digits too bright to be usual, of which core and large still say the same."""
    bright = images * 1.5
    cascade = Cascade.load(DIGITS / "1.0.0", spec("1.0.0"))
    core, large = (cascade.tier(tier, {"pixels": bright})["probabilities"].argmax(axis=1) for tier in ("core", "large"))
    return bright[(core == large) & (np.quantile(bright, 0.9, axis=1) > 17)]


def recalibrate(laptop: Laptop, device: Agent, labels: dict[str, int]) -> StepRecord:
    return laptop.do(device, Recalibrate(model="digits", labels=labels))


def test_strange_inputs_are_kept_sealed_and_bounded_and_can_be_read_back(device: Agent, laptop: Laptop) -> None:
    samples = fill(device, laptop, 20)
    assert {sample.reason for sample in samples} <= {"out_of_range", "ordinary"}
    request = json.loads(base64.b64decode(samples[0].request))
    assert request["inputs"][0]["name"] == "pixels"
    assert stat.S_IMODE((device.home / "keys" / "samples.key").stat().st_mode) == 0o600
    everything = b"".join(path.read_bytes() for path in device.home.glob("telemetry.db*"))
    assert b"pixels" not in everything
    deadline = within()
    while max(sample.id for sample in kept(device, laptop)) <= 100:  # the policy of these tests keeps 100
        deadline.check("more samples than are kept")
        ask(device, strange(8))
    assert len(kept(device, laptop)) <= 100


def test_without_a_policy_that_says_so_nothing_is_kept(make_agent: Callable[..., Agent]) -> None:
    device = make_agent('[foreign]\nmodel = "digits"\nfile = "found.onnx"\n')
    (device.home / "foreign").mkdir()
    shutil.copy(DIGITS / "1.0.0" / "core.onnx", device.home / "foreign" / "found.onnx")
    device.start()
    ask(device, strange(20))
    assert not (device.home / "keys" / "samples.key").exists()
    assert device.get("/v1/samples?model=digits") == {"samples": [], "newest": 0, "unreadable": 0}


def test_samples_under_a_key_that_is_gone_are_counted_and_hinder_nothing(device: Agent, laptop: Laptop) -> None:
    fill(device, laptop, 1)
    (device.home / "keys" / "samples.key").write_bytes(bytes(32))
    page = device.get("/v1/samples?model=digits")
    assert (page["samples"], page["unreadable"] >= 1) == ([], True)


def test_a_local_calibration_is_kept_only_where_unseen_labels_agree_and_can_be_taken_back(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    samples = fill(device, laptop, 52, agreed(images[0]))
    wrong = {str(sample.id): ((sample.label or 0) + 1) % 10 for sample in samples}
    with pytest.raises(DeviceCannot) as few:
        recalibrate(laptop, device, dict(list(wrong.items())[:49]))
    assert few.value.reason == "too_few_labels"
    # Half of them says "sharper", the other half "flatter": what one half teaches is worse for the other.
    torn = {key: (value - 1) % 10 if at % 2 else value for at, (key, value) in enumerate(wrong.items())}
    with pytest.raises(DeviceCannot) as worse:
        recalibrate(laptop, device, torn)
    assert worse.value.reason == "not_better"
    before = confidence(device)
    done = recalibrate(laptop, device, wrong)
    assert done.message.startswith("52 labels; core: temperature ")
    flatter = confidence(device)
    assert flatter < before
    device.kill()
    device.start()
    assert confidence(device) == pytest.approx(flatter)
    assert device.slot().state == "settled"
    laptop.do(device, Recalibrate(model="digits", undo=True))
    assert confidence(device) == pytest.approx(before)
    with pytest.raises(DeviceCannot) as nothing:
        laptop.do(device, Recalibrate(model="digits", undo=True))
    assert nothing.value.reason == "nothing_to_undo"


def confidence(device: Agent) -> float:
    with device.client("infer.sock") as client:
        reply = client.post("/v2/models/digits/infer", json=request_of(strange(1)[0])).json()
    return float(reply["parameters"]["confidence"])


def test_records_say_what_happened_and_what_of_it_is_missing(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    device = make_device("[telemetry]\nevery_s = 1\n").start()
    laptop = make_laptop()
    ask(device, images[0][:40])
    deadline = within()
    with laptop.device(device) as connected:
        page = connected.telemetry(0, within())
        while sum(each.requests for each in page.records) < 40:
            page = connected.telemetry(0, within())
            deadline.check("the records")
            deadline.cancel.wait(0.1)
        assert sum(each.requests for each in page.records) == 40
        for each in page.records:
            assert (each.model, each.version, each.state, each.failed) == ("digits", "1.0.0", "settled", 0)
            assert sum(each.routes.values()) == sum(each.latency.values()) == each.requests
        assert page.lost == 0
        assert set(page.sizes) == {"routes", "rested", "latency", "drift", "bins", "other"}
        assert connected.telemetry(page.newest, within(), page.ring).lost == 0
        assert connected.telemetry(page.newest, within(), "another").records[0].seq == 1


def test_an_agent_that_stops_writes_what_it_counted_since_the_last_record(
    make_device: Callable[..., Agent], images: tuple[Any, Any]
) -> None:
    device = make_device("[telemetry]\nevery_s = 3600\n").start()
    ask(device, images[0][:7])
    assert device.get("/v1/telemetry")["records"] == []
    device.stop()
    device.start()
    [record] = device.get("/v1/telemetry")["records"]
    assert (record["requests"], record["seq"]) == (7, 1)


def test_a_record_carries_the_drift_counts_of_its_stretch_packed(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], images: tuple[Any, Any]
) -> None:
    device = make_device("[telemetry]\nevery_s = 1\n").start()
    laptop = make_laptop()
    ask(device, images[0][:220])
    deadline = within()
    with laptop.device(device) as connected:
        while not (found := [each for each in connected.telemetry(0, within()).records if each.bins]):
            deadline.check("a record with drift counts")
            deadline.cancel.wait(0.2)
        [windows] = [report.windows for report in connected.drift(within(), "digits").models]
    record = found[0]
    assert record.bins.keys() == windows[0].counts.keys()
    assert {sum(unpack(cells)) for cells in record.bins.values()} == {record.counted}
    assert windows[0].n == sum(windows[0].counts["input.mean"])


def test_inputs_are_sealed_for_the_policys_recipient_and_only_for_it_where_nobody_reads_on_site(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]
) -> None:
    key = X25519PrivateKey.generate()
    to = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    device = make_device()
    rules = device.home / "trust" / "targets" / "policy" / "rules" / "current" / "policy.json"
    policy = decode_policy(rules.read_bytes())
    rules.write_bytes(encode_policy(msgspec.structs.replace(policy, sample_recipients=[to], samples_read_on_site=False)))
    device.start()
    deadline = within()
    with make_laptop().device(device) as connected:
        while len((page := connected.sealed_samples("digits", 0, within())).sealed) < 3:
            deadline.check("sealed samples")
            ask(device, strange(8))
        assert (page.recipients, page.left_out) == ([to], 0)
        assert b"pixels" in unseal(key.private_bytes_raw(), base64.b64decode(page.sealed[0].sealed))
        with pytest.raises(DeviceCannot, match="other keys"):
            unseal(bytes(32), base64.b64decode(page.sealed[0].sealed))
        here = connected.samples("digits", 0, within())
        assert (here.samples, here.unreadable >= 3) == ([], True)


def test_a_damaged_key_of_the_device_is_made_anew(tmp_path: Path) -> None:
    key = tmp_path / "samples.key"
    key.write_bytes(b"short")
    assert sealing.unseal(key, sealing.seal(key, b"input")) == b"input"

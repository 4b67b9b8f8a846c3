"""A laptop changes a device: enrol, stage, activate, commit, revert, over the real socket with real signatures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from fieldops.bench import CPU, thread_counts
from fieldops.errors import DeviceCannot
from fieldops.steps import Bench, Stage
from fieldops.wire import MetadataUpload, b64
from tests.agent.conftest import Agent, Laptop, Load, Release, within


def test_a_first_laptop_enrols_and_brings_the_policy(device: Agent, make_laptop: Callable[..., Laptop]) -> None:
    laptop = make_laptop()
    laptop.enrol(device)
    trust = device.get("/v1/trust")
    assert trust["laptops"] == [laptop.signer.laptop]
    assert trust["policy_sha256"]
    assert device.get("/v1/hello")["enrolled"] is True


def test_sideload_commit_and_rollback_lose_no_request(device: Agent, laptop: Laptop, images: tuple[Any, Any]) -> None:
    with Load(device, images[0]) as load:
        load.until("1.0.0")
        laptop.stage(device, "digits@1.1.0")
        record = laptop.activate(device, "1.1.0")
        names = ["digest", "load", "golden", "replay", "latency", "memory"]
        assert {check.name: check.ok for check in record.checks} == dict.fromkeys(names, True)
        load.until("1.1.0")
        assert device.slot().state == "trial"
        laptop.commit(device, "1.1.0")
        load.until("1.1.0")
        record = laptop.revert(device)
        assert (record.previous, record.version) == ("1.1.0", "1.0.0")
        load.until("1.0.0")
    assert load.failures == []
    assert "rule" not in load.routes
    slot = device.slot()
    assert (slot.state, slot.active, slot.last_good) == ("reverted", "1.0.0", "1.0.0")


def test_a_model_that_answers_wrong_is_refused_by_the_golden_set_and_never_answers(
    device: Agent, laptop: Laptop, images: tuple[Any, Any]
) -> None:
    with Load(device, images[0]) as load:
        laptop.stage(device, "digits@2.0.0-bad")
        with pytest.raises(DeviceCannot) as refused:
            laptop.activate(device, "2.0.0-bad")
        load.until("1.0.0")
    assert (refused.value.reason, refused.value.exit_code) == ("validation_failed", 6)
    assert (load.failures, set(load.answers)) == ([], {"1.0.0"})
    slot = device.slot()
    assert slot.active == "1.0.0"
    assert {version.version: version.role for version in slot.versions} == {"1.0.0": "active", "2.0.0-bad": "quarantined"}
    assert [check.name for check in slot.checks if not check.ok] == ["golden"]
    with pytest.raises(DeviceCannot) as again:
        laptop.stage(device, "digits@2.0.0-bad")
    assert again.value.reason == "quarantined"


def test_a_rolled_back_version_can_be_chosen_again_by_name_and_nothing_older_than_last_good_may_be_staged(
    device: Agent, laptop: Laptop
) -> None:
    laptop.install(device, "1.1.0")
    laptop.install(device, "1.2.0")
    assert device.slot().floor == 2
    assert laptop.revert(device).version == "1.1.0"
    assert laptop.revert(device, to="1.2.0").version == "1.2.0"
    assert device.slot().active == "1.2.0"


def test_a_bundle_larger_than_the_quota_is_refused_before_its_first_byte(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]
) -> None:
    device = make_device("[storage]\nquota_bytes = 900000\n").start()
    laptop = make_laptop()
    laptop.enrol(device)
    used = device.get("/v1/resources")["quota_used_bytes"]
    with pytest.raises(DeviceCannot, match=r"needs \d+ bytes; \d+ are free") as refused:
        laptop.stage(device, "digits@1.1.0")
    assert (refused.value.reason, refused.value.exit_code) == ("disk_full", 6)
    assert device.get("/v1/resources")["quota_used_bytes"] == used
    assert device.slot().state == "settled"


def test_a_benchmark_keeps_a_baseline_that_the_serving_figures_show(device: Agent, laptop: Laptop) -> None:
    record = laptop.do(device, Bench(model="digits", samples=64, save_baseline=True))
    assert record.bench is not None
    assert (record.bench.samples, record.bench.version, record.bench.throttled) == (64, "1.0.0", None)
    assert record.bench.accuracy is not None
    assert record.bench.accuracy > 0.95
    (serving,) = device.get("/v1/resources")["serving"]
    assert record.bench.served_p50_ms is not None
    assert serving["baseline_p50_ms"] == record.bench.served_p50_ms


def test_the_way_to_run_a_version_is_measured_kept_and_used_from_then_on(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.3.0")  # which any provider may run
    record = laptop.do(device, Bench(model="digits", samples=64, save_baseline=True, tune=True))
    assert record.bench is not None
    hardware = device.get("/v1/resources")["hardware"]
    ways = {f"{name} x{count}" for name in hardware["providers"] for count in thread_counts(hardware["cores"])}
    assert set(record.bench.tuned) == ways  # each provider of this runtime computes what was recorded at release
    assert record.bench.distrusted == {}
    chosen = f"{record.bench.provider} x{record.bench.threads}"
    assert record.bench.tuned[chosen] <= record.bench.tuned[f"{CPU} x1"]
    assert chosen in record.message
    again = laptop.do(device, Bench(model="digits", samples=64))
    assert again.bench is not None
    assert (again.bench.provider, again.bench.threads, again.bench.tuned) == (
        record.bench.provider,
        record.bench.threads,
        {},
    )


def test_an_upload_goes_on_where_it_was_cut_and_takes_only_what_was_named(device: Agent, laptop: Laptop) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    sha256 = bundle.manifest.file("large.onnx").sha256
    with device.client() as client:
        unknown = client.put(f"/v1/blobs/{'0' * 64}", content=b"x", headers={"Upload-Offset": "0"})
        assert unknown.status_code == 404
        # A step that waits for its payload, begun by hand so that the upload can be cut.
        record = _staging(laptop, device, client)
        data = (bundle.folder / "large.onnx").read_bytes()
        assert client.put(f"/v1/blobs/{sha256}", content=data[:1000], headers={"Upload-Offset": "0"}).status_code == 202
        assert client.head(f"/v1/blobs/{sha256}").headers["Upload-Offset"] == "1000"
        wrong = client.put(f"/v1/blobs/{sha256}", content=data, headers={"Upload-Offset": "0"})
        assert (wrong.status_code, wrong.headers["Upload-Offset"]) == (409, "1000")
        too_long = client.put(f"/v1/blobs/{sha256}", content=data[1000:] + b"x", headers={"Upload-Offset": "1000"})
        assert too_long.status_code == 413
        have = int(client.head(f"/v1/blobs/{sha256}").headers["Upload-Offset"])
        done = client.put(f"/v1/blobs/{sha256}", content=data[have:], headers={"Upload-Offset": str(have)})
        assert done.status_code in {200, 201}
        shown = client.get(f"/v1/steps/{record['step_id']}?wait=10").json()
    assert sha256 not in {blob["sha256"] for blob in shown["wanted"]}


def _staging(laptop: Laptop, device: Agent, client: httpx.Client) -> dict[str, Any]:
    """A Stage in phase payload."""
    bundle = laptop.bundle("digits@1.1.0")
    step = Stage(channel="stable", model="digits", version="1.1.0", manifest_sha256=bundle.manifest_sha256)
    step_id, envelope = laptop.signed(device, step)
    assert client.post("/v1/steps", content=envelope).status_code == 202
    files = {name: b64(data) for name, data in bundle.payload.metadata().items()}
    while client.get(f"/v1/steps/{step_id}?wait=5").json()["phase"] != "metadata":
        within(1).check("metadata")
    assert (
        client.put(f"/v1/steps/{step_id}/metadata", content=msgspec.json.encode(MetadataUpload(files=files))).status_code == 202
    )
    while (record := client.get(f"/v1/steps/{step_id}?wait=5").json())["phase"] != "payload":
        within(1).check("payload")
    found: dict[str, Any] = record
    return found


def test_a_staging_cut_by_a_power_failure_goes_on_where_it_was(device: Agent, laptop: Laptop) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    with device.client() as client:
        record = _staging(laptop, device, client)
        sha256 = bundle.manifest.file("large.onnx").sha256
        data = (bundle.folder / "large.onnx").read_bytes()
        client.put(f"/v1/blobs/{sha256}", content=data[:5000], headers={"Upload-Offset": "0"})
    device.kill()
    device.start()
    shown = device.get(f"/v1/steps/{record['step_id']}")
    assert (shown["state"], shown["phase"]) == ("running", "payload")
    assert {blob["sha256"]: blob["have"] for blob in shown["wanted"]}[sha256] == 5000
    assert device.get("/v1/models")["lease_holder"] == laptop.signer.laptop
    with device.client() as client:
        for blob in shown["wanted"]:
            with bundle.payload.open(blob["sha256"]) as reader:
                rest = reader.read()[blob["have"] :]
            client.put(f"/v1/blobs/{blob['sha256']}", content=rest, headers={"Upload-Offset": str(blob["have"])})
        assert client.get(f"/v1/steps/{record['step_id']}?wait=10").json()["state"] == "done"
    assert device.slot().state == "staged"
    assert laptop.activate(device, "1.1.0").version == "1.1.0"


def test_a_laptop_that_begins_anew_ends_what_it_left_waiting(device: Agent, laptop: Laptop) -> None:
    with device.client() as client:
        left = _staging(laptop, device, client)
    assert laptop.stage(device, "digits@1.2.0").version == "1.2.0"
    record = device.get(f"/v1/steps/{left['step_id']}")
    assert (record["state"], record["reason"]) == ("failed", "superseded")
    slot = device.slot()
    assert (slot.state, slot.candidate, slot.active) == ("staged", "1.2.0", "1.0.0")


def test_damaged_bytes_are_refused_at_the_device_and_nothing_of_them_stays(device: Agent, laptop: Laptop) -> None:
    with device.client() as client:
        record = _staging(laptop, device, client)
        blob = max(record["wanted"], key=lambda blob: blob["size"])
        path = f"/v1/blobs/{blob['sha256']}"
        refused = client.put(path, content=bytes(blob["size"]), headers={"Upload-Offset": "0"})
        assert (refused.status_code, refused.json()["reason"], refused.json()["exit"]) == (403, "hash_mismatch", 3)
        while (shown := client.get(f"/v1/steps/{record['step_id']}?wait=5").json())["state"] == "running":
            within(1).check("the refusal")
        assert client.head(path).headers["Upload-Offset"] == "0"
    assert (shown["state"], shown["exit"], shown["reason"]) == ("refused", 3, "hash_mismatch")
    assert device.slot().state == "settled"


def test_a_second_flashing_keeps_what_the_device_could_go_back_to(make_device: Callable[..., Agent], release: Release) -> None:
    device = make_device()
    root = device.home.parent / "root.json"
    root.write_bytes(release.root)
    words = ["--home", str(device.home), "--stick", str(release.stick), "--ref", "digits@1.1.0", "--root", str(root)]
    subprocess.run([sys.executable, "-m", "fieldops.agent", "provision", *words], check=True, stdout=subprocess.DEVNULL)
    device.start()
    slot = device.slot()
    assert (slot.state, slot.active, slot.last_good) == ("settled", "1.1.0", "1.0.0")
    revert = [sys.executable, "-m", "fieldops.agent", "revert", "digits", "--home", str(device.home)]
    env = {**os.environ, "FIELDOPS_AGENT_RUNTIME": str(device.runtime)}
    subprocess.run(revert, check=True, env=env, stdout=subprocess.DEVNULL)
    assert device.slot().active == "1.0.0"

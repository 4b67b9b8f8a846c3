"""A visit to a real device is closed: what it did alone, counted and kept comes along, what is not over is named."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fieldops.edges.pulled import PulledTelemetry
from fieldops.edges.samples import open_export
from fieldops.edges.sealed import key_text
from fieldops.edges.visits import VisitFolder
from fieldops.operations import visit
from fieldops.operations.gate import Words
from fieldops.policy import decode_policy, encode_policy
from fieldops.steps import Activate
from tests.agent.conftest import CLOCK, Agent, Laptop, within
from tests.agent.test_agent_samples import ask, strange


def test_everything_that_the_device_knows_comes_along(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], tmp_path: Path
) -> None:
    key = X25519PrivateKey.generate()
    device, laptop = make_device("[telemetry]\nevery_s = 1\n"), make_laptop()
    rules = device.home / "trust" / "targets" / "policy" / "rules" / "current" / "policy.json"
    recipient = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    policy = msgspec.structs.replace(decode_policy(rules.read_bytes()), sample_recipients=[recipient])
    (device.home / "telemetry.db").write_bytes(b"torn by a power cut")
    device.start()
    laptop.do(device, laptop.enrol_step)
    laptop.rotate(device)
    rules.write_bytes(encode_policy(policy))  # as if it had been signed so
    laptop.stage(device, "digits@1.1.0")
    laptop.do(device, Activate(model="digits", version="1.1.0", trial_s=300))
    shelf, folder = PulledTelemetry(tmp_path / "telemetry.db"), VisitFolder(tmp_path / "visit")
    deadline = within()
    with laptop.device(device) as connected:
        while not (connected.sealed_samples("digits", 0, within()).sealed and connected.telemetry(0, within()).records):
            deadline.check("a sealed input and a record")
            ask(device, strange(8))
        left = visit.leave(laptop.gate, connected, shelf, folder, CLOCK, deadline)
    assert left.error is None
    assert left.id == device.ready["device"]
    [trial] = left.pending
    assert trial.startswith("digits 1.1.0 is on trial, ")
    assert left.records >= 1
    assert set(left.bytes_by_feature) >= {"routes", "latency", "drift", "bins"}
    assert left.set_aside == 1
    [samples] = left.samples
    words = [sys.executable, "-m", "fieldops.agent", "status", "--home", str(device.home)]
    environment = {**os.environ, "FIELDOPS_AGENT_RUNTIME": str(device.runtime)}
    status = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert "1 damaged telemetry files" in status.stdout
    report = visit.close(laptop.gate, [left], shelf, folder, CLOCK, Words("line 3"))
    assert any("on trial" in warning for warning in report.warnings)
    assert any("damaged telemetry" in warning for warning in report.warnings)
    assert (report.telemetry_queued, report.queued) == (left.records, report.log_size)
    acts = [entry.act for entry, _ in laptop.journal.read(0, 1000)]
    assert "device.telemetry_damaged" in acts
    assert acts[-1] == "visit.close"
    (tmp_path / "key").write_text(key_text(key.private_bytes_raw()))
    opened, _ = open_export(Path(samples.file), tmp_path / "key", tmp_path / "opened")
    assert opened == samples.samples >= 1
    first = json.loads((tmp_path / "opened").read_bytes().splitlines()[0])
    assert b"pixels" in base64.b64decode(first["request"])
    assert b"pixels" not in Path(samples.file).read_bytes()
    with laptop.device(device) as connected:
        again: Any = visit.leave(laptop.gate, connected, shelf, folder, CLOCK, within())
    assert again.acts_copied == 0
    shelf.close()

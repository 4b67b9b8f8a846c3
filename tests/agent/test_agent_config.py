"""agent.toml: defaults, and all faults of a file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.agent.config import AgentConfig, parse
from fieldops.errors import UsageFault


def test_an_empty_file_is_a_device_with_defaults() -> None:
    assert parse("", "agent.toml") == AgentConfig()


def test_every_key_is_read() -> None:
    text = """
class = "cabinet"
label = "Pump 7"
[lan]
listen = "0.0.0.0:7443"
[storage]
quota_bytes = 1000
[sensors]
root = "/fake"
boot_id = "/fake/boot"
[runtime]
folder = "/tmp/x"
[validation]
latency_samples = 128
[foreign]
model = "digits"
file = "x.onnx"
"""
    found = parse(text, "agent.toml")
    assert (found.device_class, found.label, found.lan) == ("cabinet", "Pump 7", ("0.0.0.0", 7443))
    assert (found.sensors_root, found.boot_id) == (Path("/fake"), Path("/fake/boot"))
    assert (found.quota_bytes, found.latency_samples, found.foreign) == (1000, 128, ("digits", "x.onnx"))


def test_all_faults_are_told_at_once_each_with_its_line() -> None:
    text = 'klass = "x"\n\n[storage]\nquota_bytes = "much"\n[lan]\nlisten = 7\nspeed = 1\n'
    with pytest.raises(UsageFault) as told:
        parse(text, "agent.toml")
    assert [(fault.line, fault.found) for fault in told.value.faults] == [
        (1, "unknown key 'klass'"),
        (4, "quota_bytes = 'much'"),
        (6, "listen = 7"),
        (7, "unknown key 'speed'"),
    ]


@pytest.mark.parametrize("listen", ["nowhere", "host:99999", "host:"])
def test_an_address_without_a_port_is_a_fault(listen: str) -> None:
    with pytest.raises(UsageFault, match="address:port"):
        parse(f'[lan]\nlisten = "{listen}"\n', "agent.toml")

"""What a bare device tells: the script under every shell there is, and over real links."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fieldops.edges import boards, probe
from fieldops.edges.over_ssh import BareDevice, ssh_device
from fieldops.errors import DeviceCannot, MalformedReply
from fieldops.fleet import key_id
from fieldops.steps import Revert
from tests.links.conftest import SshServer, asyncssh_server, soon

SHELLS = [
    pytest.param(
        words,
        id=words[-1] if len(words) == 1 else "busybox",
        marks=pytest.mark.skipif(shutil.which(words[0]) is None, reason=f"needs {words[0]}: apt-get install {words[0]}"),
    )
    for words in (["dash"], ["bash"], ["mksh"], ["busybox", "sh"])
]


def _run(shell: list[str], environment: dict[str, str], script: str = probe.SCRIPT) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*shell, "-c", script],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], **environment},
    )


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A tree that stands for a hot Raspberry Pi."""
    files = {
        "proc/sys/kernel/random/boot_id": "6661c7ce-ba6b-41a5-b6fc-d9746d1ecc3f\n",
        "proc/uptime": "1234.56 999.99\n",
        "proc/loadavg": "0.42 0.20 0.10 1/104 1\n",
        "proc/stat": "cpu  100 0 50 850 0 0 0 0 0 0\ncpu0 1 2\ncpu1 1 2\ncpu2 1 2\ncpu3 1 2\nintr 5\n",
        "proc/meminfo": "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable:   512000 kB\n",
        "sys/class/thermal/thermal_zone0/temp": "48500",
        "sys/class/thermal/thermal_zone1/temp": "81200\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "80000\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "active\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "50000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50004\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    }
    return _tree(tmp_path, files)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_board_is_read_by_every_shell(shell: list[str], board: Path) -> None:
    done = _run(shell, {"FIELDOPS_PROBE_ROOT": str(board), "FIELDOPS_AGENT_PROGRAM": "python3 -m fieldops.agent"})
    assert done.stderr == b""
    facts = probe.parse(done.stdout, "board")
    now = boards.resources_of(facts)
    assert (now.uptime_s, now.load_1m, now.cpu_count) == (1234.56, 0.42, 4)
    assert (now.mem_total_bytes, now.mem_available_bytes) == (1024000 * 1024, 512000 * 1024)
    assert (now.soc_temp_c, now.temp_limit_c) == (81.2, 80.0)
    assert (now.throttled, now.throttle_reason) == (True, "throttled")
    assert (now.clock_mhz, now.clock_max_mhz) == (600.0, 1800.0)
    assert now.boot_id == "6661c7ce-ba6b-41a5-b6fc-d9746d1ecc3f"
    assert abs(now.read_at - time.time()) < 60
    assert (now.disk_total_bytes or 0) > 0
    assert now.cpu_pct is None
    assert facts.text("program") == "python3 -m fieldops.agent"
    assert facts.text("socket") == ""

    (board / "proc/stat").write_text("cpu  160 0 50 890 0 0 0 0 0 0\ncpu0 1 2\n")
    later = probe.parse(_run(shell, {"FIELDOPS_PROBE_ROOT": str(board)}).stdout, "board")
    assert boards.resources_of(later, facts).cpu_pct == pytest.approx(60.0)


JETSON = {
    "proc/sys/kernel/random/boot_id": "b\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "71500\n",
    "sys/class/thermal/thermal_zone1/temp": "66000\n",
    "sys/class/thermal/thermal_zone8/temp": "-256000\n",  # a sensor of a core that is off
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "104500\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "70000\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "4\n",
    "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device1/cur_state": "3\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1190400\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2201600\n",
}
X86 = {
    "proc/sys/kernel/random/boot_id": "b\n",
    "sys/class/hwmon/hwmon2/temp1_input": "64000\n",
    "sys/class/hwmon/hwmon2/temp2_input": "67000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "40\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0\n",
}


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _read(shell: list[str], root: Path) -> probe.Facts:
    done = _run(shell, {"FIELDOPS_PROBE_ROOT": str(root)})
    assert done.stderr == b""
    return probe.parse(done.stdout, "board")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_jetson_says_by_its_cooling_that_it_is_slowed_down(shell: list[str], tmp_path: Path) -> None:
    now = boards.resources_of(_read(shell, _tree(tmp_path, JETSON)))
    assert (now.soc_temp_c, now.temp_limit_c) == (71.5, 70.0)
    assert (now.throttled, now.throttle_reason) == (True, "cooling by lower frequency")
    assert (now.clock_mhz, now.clock_max_mhz) == (1190.4, 2201.6)
    _tree(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "0\n"})  # a fan that turns slows nothing down
    assert boards.resources_of(_read(shell, tmp_path)).throttled is False


@pytest.mark.parametrize("shell", SHELLS)
def test_an_intel_board_is_throttled_while_its_count_rises(shell: list[str], tmp_path: Path) -> None:
    before = _read(shell, _tree(tmp_path, X86))
    now = boards.resources_of(before)
    assert (now.soc_temp_c, now.throttled) == (67.0, None)  # events since it was switched on say nothing of now
    assert boards.resources_of(_read(shell, tmp_path), before).throttled is False
    _tree(tmp_path, {"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "2\n"})
    hot = boards.resources_of(_read(shell, tmp_path), before)
    assert (hot.throttled, hot.throttle_reason) == (True, "thermal throttle events")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_could_be_installed_is_asked_for_by_itself_since_it_starts_python(shell: list[str], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    for version in ("3.11", "3.12", "3.13", "3"):
        program = tmp_path / f"python{version}"
        program.write_text(f"#!/bin/sh\necho x >>{begun}\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    facts = probe.parse(_run(shell, environment).stdout, "board")
    assert not begun.exists()
    done = _run(shell, environment, probe.SUPPORT_SCRIPT)
    assert done.stderr == b""
    more = probe.parse(done.stdout, "board")
    assert begun.exists()
    assert (facts.text("python"), more.text("python")) == ("", "3.13")
    assert more.text("bits") in {"32", "64"}
    assert facts.values.keys() < more.values.keys()


READ_ONLY = 'mount --bind / / && mount -o remount,ro,bind / && ! touch "$1" 2>/dev/null && shift && exec "$@"'
MAY_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "--mount", "mount", "--bind", "/", "/"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.skipif(not MAY_MOUNT, reason="this machine allows no mounts")
@pytest.mark.parametrize("shell", SHELLS)
def test_it_needs_nothing_that_can_be_written(shell: list[str], board: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", board / "written", *shell, "-c", probe.SCRIPT],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "FIELDOPS_PROBE_ROOT": str(board)},
    )
    assert done.stderr == b""
    assert boards.resources_of(probe.parse(done.stdout, "board")).cpu_count == 4
    assert not (board / "written").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_not_there_is_not_zero(shell: list[str], tmp_path: Path) -> None:
    done = _run(shell, {"FIELDOPS_PROBE_ROOT": str(tmp_path)})
    assert done.stderr == b""
    now = boards.resources_of(probe.parse(done.stdout, "empty"))
    assert [now.soc_temp_c, now.throttled, now.clock_mhz, now.mem_total_bytes, now.load_1m] == [None] * 5


@pytest.mark.parametrize("shell", SHELLS)
def test_hostile_values_stay_values(shell: list[str], board: Path) -> None:
    (board / "proc/sys/kernel/random/boot_id").write_text("\x1b[31mred\x07 *\n")
    hostile = "x\nend=1\nsocket=/tmp/evil.sock"
    done = _run(shell, {"FIELDOPS_PROBE_ROOT": str(board), "FIELDOPS_AGENT_PROGRAM": hostile})
    facts = probe.parse(done.stdout, "board")
    assert facts.text("boot_id") == "[31mred *"
    assert facts.text("socket") == ""
    assert facts.text("program") == "x end=1 socket=/tmp/evil.sock"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_agents_socket_is_found(shell: list[str], short_folder: Path, tmp_path: Path) -> None:
    folder = short_folder / f"probe-{shell[0]}"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "agent.sock"))
        done = _run(shell, {"FIELDOPS_PROBE_ROOT": str(tmp_path), "FIELDOPS_AGENT_RUNTIME": str(folder)})
    facts = probe.parse(done.stdout, "board")
    assert (facts.text("socket"), facts.text("may")) == (str(folder / "agent.sock"), "1")


@pytest.mark.parametrize("output", [b"", b"v=1\nhost=x\n", b"end=1\n", b"command not found\n", b"v=2\nend=1\n", b"\xff\xfe\n"])
def test_half_an_answer_is_no_answer(output: bytes) -> None:
    with pytest.raises(MalformedReply):
        probe.parse(output, "board")


def test_numbers_that_are_none() -> None:
    facts = probe.parse(b"v=1\nuptime=nan\nload=1e9\nmem_total=-\ntemp=banana\ntemp=999999\npi_throttled=zz\nend=1\n", "board")
    now = boards.resources_of(facts)
    assert (now.uptime_s, now.load_1m, now.mem_total_bytes, now.soc_temp_c, now.throttled) == (0.0, None, None, None, None)


def test_a_bare_device_can_be_looked_at_and_not_changed(identity: Path, tmp_path: Path, board: Path) -> None:
    environment = {"FIELDOPS_PROBE_ROOT": str(board)}
    (tmp_path / "server").mkdir()
    with asyncssh_server(tmp_path / "server", identity, "", environment) as server:
        device = ssh_device(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=soon())
        assert isinstance(device, BareDevice)
        try:
            hello = device.hello(soon())
            from fieldops.edges.keys import ssh_public_blob

            assert hello.device == key_id(ssh_public_blob(server.folder / "host_key")) == device.entry.id
            assert (hello.versions, hello.enrolled) == ((0, 0), False)
            assert device.resources(soon()).soc_temp_c == 81.2
            assert device.resources(soon()).cpu_pct is None  # the tree's ticks stand still
            for ask in (device.models, device.drift, device.trust):
                with pytest.raises(DeviceCannot) as caught:
                    ask(soon())
                assert caught.value.reason == "no_agent"
            with pytest.raises(DeviceCannot):
                device.apply(_NoGrant(), Revert(model="digits"), soon())
        finally:
            device.close()


class _NoGrant:
    """Implements ports.Grant; a bare device never asks it."""

    step_id = "x.1.1"

    def envelope(self, device: object, step: object, challenge: object) -> bytes:
        raise AssertionError


def test_a_link_that_finds_an_agent_speaks_to_it(server: SshServer, runtime: Path) -> None:
    from fieldops.edges import ssh

    link = ssh.connect(server.entry, known_hosts=server.known_hosts, identities=[server.identity], deadline=soon())
    try:
        place = probe.find_agent(link, soon())
        assert place is not None
        assert place.socket == str(runtime / "agent.sock")
    finally:
        link.close()

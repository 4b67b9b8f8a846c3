"""Where memory does not hold two workers: the one in service makes way, and the signed rule answers meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from fieldops.errors import DeviceCannot
from tests.agent.conftest import Agent, Laptop, Load, within


def small(root: Path) -> str:
    """A control group of 200 MB of which 40 MB are left."""
    (root / "fs" / "cgroup").mkdir(parents=True)
    (root / "fs" / "cgroup" / "memory.max").write_text(f"{200 << 20}\n", "ascii")
    (root / "fs" / "cgroup" / "memory.current").write_text(f"{160 << 20}\n", "ascii")
    return f'[sensors]\nroot = "{root}"\n'


@pytest.mark.parametrize("how", ["told", "measured"])
def test_the_worker_in_service_makes_way_and_nobody_is_left_without_an_answer(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop], images: tuple[Any, Any], tmp_path: Path, how: str
) -> None:
    device = make_device("[runtime]\nunload_first = true\n" if how == "told" else small(tmp_path)).start()
    laptop = make_laptop()
    laptop.enrol(device)
    for version in ("1.1.0", "2.0.0-bad"):
        laptop.stage(device, f"digits@{version}")
        with Load(device, images[0]) as load:
            load.until("1.0.0")
            if version == "1.1.0":
                laptop.activate(device, version)
                load.until(version)
                laptop.revert(device)
            else:
                with pytest.raises(DeviceCannot) as refused:
                    laptop.activate(device, version)
                assert refused.value.reason == "validation_failed"
            load.until("1.0.0", 200)
        assert load.failures == []
        assert load.routes["rule"] > 0
        assert load.routes["core"] > 0
    unloads = [each for each in device.get("/v1/journal")["entries"] if each["action"] == "unload"]
    assert [each["version"] for each in unloads] == ["1.0.0", "1.1.0", "1.0.0"]
    assert "the signed rule answers" in unloads[0]["detail"]


def test_a_worker_may_hold_few_files_open_and_only_so_much_memory(device: Agent) -> None:
    assert device.process is not None
    workers = [each for each in psutil.Process(device.process.pid).children() if "worker" in each.cmdline()]
    (worker,) = workers
    limits = Path(f"/proc/{worker.pid}/limits").read_text("ascii")
    assert next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5] == ["256", "256"]
    assert "unlimited" not in next(line for line in limits.splitlines() if line.startswith("Max data size"))[:40]


# --- a real limit ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """A control group of this machine: its bytes are for all who are in it, agent, workers, children, and their files' pages."""

    bytes: int
    folder: Path
    limit: str
    peak: str

    @property
    def enter(self) -> tuple[str, ...]:
        return ("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(self.folder))

    @property
    def peak_bytes(self) -> int:
        return int((self.folder / self.peak).read_text("ascii"))


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    most: int = request.param << 20
    for base, limit, peak in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max", "memory.peak"),
    ):
        made = Group(most, base / f"fieldops-test-{os.getpid()}", limit, peak)
        with contextlib.suppress(OSError):
            made.folder.mkdir()
            try:
                (made.folder / limit).write_text(f"{most}\n", "ascii")
            except OSError:
                made.folder.rmdir()
                continue
            yield made
            deadline = within()
            while (made.folder / "cgroup.procs").read_text("ascii"):
                deadline.check("the end of the group's processes")
                deadline.cancel.wait(0.05)
            made.folder.rmdir()
            return
    pytest.skip("this machine allows no control group for memory")


@pytest.mark.parametrize("group", [256, 176], indirect=True, ids=["256-mb", "176-mb"])
def test_the_whole_agent_changes_its_version_within_so_much_memory(
    make_device: Callable[..., Agent],
    make_laptop: Callable[..., Laptop],
    images: tuple[Any, Any],
    group: Group,
) -> None:
    device = make_device()
    device.within = group.enter
    device.start()
    try:
        laptop = make_laptop()
        laptop.enrol(device)
        assert device.get("/v1/resources")["mem_total_bytes"] == group.bytes
        with Load(device, images[0]) as load:
            load.until("1.0.0")
            laptop.stage(device, "digits@1.1.0")
            laptop.activate(device, "1.1.0")
            load.until("1.1.0")
            laptop.commit(device, "1.1.0")
            laptop.revert(device)
            load.until("1.0.0")
        assert load.failures == []
        acts = [each["action"] for each in device.get("/v1/journal")["entries"]]
        assert "worker_crash" not in acts
        assert group.peak_bytes <= group.bytes
        if group.bytes < 200 << 20:  # which does not hold two workers
            assert "unload" in acts
            assert load.routes["rule"] > 0
    finally:
        device.stop()

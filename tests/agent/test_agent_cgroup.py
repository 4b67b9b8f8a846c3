"""What memory the device believes it has, where a service's own control group limits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.edges.cgroup import memory

MIB = 1 << 20


def group(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n", "ascii")
    (folder / names[1]).write_text(f"{used * MIB}\n", "ascii")
    (folder / "memory.stat").write_text(stat, "ascii")


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
SERVICE = "system.slice/fieldops-agent.service"


def test_a_services_own_group_counts_and_pages_that_are_given_back_do_not(tmp_path: Path) -> None:
    group(tmp_path / "fs/cgroup" / SERVICE, V2, str(256 * MIB), 200, f"anon 1\ninactive_file {50 * MIB}\n")
    found = memory(tmp_path, f"0::/{SERVICE}\n")
    assert found is not None
    assert (found.limit, found.left) == (256 * MIB, 106 * MIB)


def test_the_tightest_of_the_groups_above_it_counts(tmp_path: Path) -> None:
    group(tmp_path / "fs/cgroup" / SERVICE, V2, str(256 * MIB), 100)
    group(tmp_path / "fs/cgroup/system.slice", V2, str(512 * MIB), 500)
    found = memory(tmp_path, f"0::/{SERVICE}\n")
    assert found is not None
    assert (found.limit, found.left) == (512 * MIB, 12 * MIB)


def test_inside_a_container_the_root_is_its_own_group_whatever_the_hosts_name_for_it(tmp_path: Path) -> None:
    group(tmp_path / "fs/cgroup", V2, str(256 * MIB), 100)
    found = memory(tmp_path, "0::/docker/0123abcd\n")
    assert found is not None
    assert found.left == 156 * MIB


def test_the_controller_of_the_first_version_is_read_too(tmp_path: Path) -> None:
    group(tmp_path / "fs/cgroup/memory" / SERVICE, V1, str(128 * MIB), 100, f"total_inactive_file {30 * MIB}\n")
    found = memory(tmp_path, f"9:name=systemd:/\n4:memory:/{SERVICE}\n0::/\n")
    assert found is not None
    assert (found.limit, found.left) == (128 * MIB, 58 * MIB)


@pytest.mark.parametrize(("names", "limit"), [(V2, "max"), (V1, "9223372036854771712")])
def test_where_nothing_limits_it_the_machine_is_what_there_is(tmp_path: Path, names: tuple[str, str], limit: str) -> None:
    for folder in (tmp_path / "fs/cgroup", tmp_path / "fs/cgroup/memory"):
        group(folder, names, limit, 100)
    assert memory(tmp_path, "4:memory:/\n0::/\n") is None
    assert memory(tmp_path / "elsewhere", "") is None

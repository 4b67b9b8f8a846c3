"""Which media there are, by the rules of each system over a made-up root; what of them is a repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldops.bundles.trust import target_name
from fieldops.edges.mounts import Machine
from fieldops.edges.usb import FolderSource, StickMedia, repositories_in
from fieldops.errors import TrustRefused, UsageFault

# tests are no package: conftest's names come through fixtures and these annotations
World = Any


def linux(root: Path, *mounts: tuple[str, str, str, str, bool]) -> Machine:
    """mounts: (major:minor, mount point, file system, device path below /sys/devices, removable)."""
    lines = ["22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw", "a line that is none"]
    for number, place, kind, device, removable in mounts:
        disk = root / "sys/devices" / device
        disk.mkdir(parents=True, exist_ok=True)
        (disk.parent / "removable").write_text("1\n" if removable else "0\n", "ascii")
        block = root / "sys/dev/block"
        block.mkdir(parents=True, exist_ok=True)
        (block / number).symlink_to(disk)
        (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        lines.append(f"36 35 {number} / {place.replace(' ', chr(92) + '040')} rw,noatime master:1 - {kind} /dev/x rw")
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n", "utf-8")
    return Machine("linux", root)


def test_linux_knows_a_stick_by_sysfs_wherever_it_is_mounted(tmp_path: Path) -> None:
    machine = linux(
        tmp_path,
        ("259:1", "/", "ext4", "pci0/nvme0/nvme0n1/nvme0n1p1", False),
        ("259:2", "/home", "ext4", "pci0/nvme0/nvme0n2/nvme0n2p1", False),
        ("8:1", "/run/media/kim/RELEASE 7", "vfat", "pci0/usb1/1-2/host0/block/sda/sda1", True),
        ("8:17", "/srv/disk", "exfat", "pci0/usb2/2-1/host1/block/sdb/sdb1", False),
        ("0:44", "/mnt/server", "nfs4", "virtual/none/none0", False),
    )
    assert machine.media() == [
        tmp_path / "run/media/kim/RELEASE 7",
        tmp_path / "srv/disk",
        tmp_path / "mnt/server",  # by its customary place; what is no repository is left out later
    ]


def test_linux_without_a_mount_table_looks_at_the_customary_places(tmp_path: Path) -> None:
    (tmp_path / "media/kim/STICK").mkdir(parents=True)
    assert tmp_path / "media/kim/STICK" in Machine("linux", tmp_path).media()
    assert Machine("linux", tmp_path / "nothing").media() == []


def test_macos_has_its_volumes_and_the_one_it_started_from_is_none(tmp_path: Path) -> None:
    (tmp_path / "Volumes/RELEASE").mkdir(parents=True)
    (tmp_path / "Volumes/.timemachine").mkdir()
    (tmp_path / "Volumes/Macintosh HD").symlink_to(tmp_path)
    assert Machine("darwin", tmp_path).media() == [tmp_path / "Volumes/RELEASE"]


def test_windows_asks_each_letter_but_not_its_own_nor_the_network(tmp_path: Path) -> None:
    kinds = {"C:\\": 3, "D:\\": 3, "E:\\": 2, "F:\\": 4, "G:\\": 5, "H:\\": 1}
    machine = Machine("win32", tmp_path, lambda drive: kinds.get(drive, 1), "C:")
    assert machine.media() == [tmp_path / "E", tmp_path / "G", tmp_path / "D"]
    started_from_d = Machine("win32", tmp_path, lambda drive: kinds.get(drive, 1), "d:")
    assert tmp_path / "D" not in started_from_d.media()


# --- what a medium holds -----------------------------------------------------------------------------------------------


def test_several_sticks_with_several_repositories_and_junk(world: World, tmp_path: Path) -> None:
    one, two = tmp_path / "ONE", tmp_path / "TWO"
    shutil.copytree(world.stick.root, one / "FIELDOPS")
    shutil.copytree(world.first.root, one / "last month" / "FIELDOPS")
    shutil.copytree(world.first.root, two)
    for junk in ("._FIELDOPS", ".Trashes", ".Spotlight-V100"):
        (one / junk).mkdir()
    (one / "._metadata").write_bytes(b"\0\5\26\7")
    (one / "autorun.inf").write_bytes(b"x")
    (one / ".hidden/FIELDOPS/metadata").mkdir(parents=True)
    media = StickMedia(mounts=lambda: [one, two, tmp_path / "gone"])
    assert [source.name for source in media.find()] == [str(one / "FIELDOPS"), str(one / "last month/FIELDOPS"), str(two)]
    laptop = world.laptop()
    offered = [
        (each.ref, each.reason, each.source)
        for source in media.find()
        for each in laptop.store.candidates(source, laptop.deadline)
    ]
    assert offered == [
        ("digits@1.0.0", "", str(one / "FIELDOPS")),
        ("digits@1.1.0", "", str(one / "FIELDOPS")),
        ("digits@1.0.0", "", str(one / "last month/FIELDOPS")),
        ("digits@1.0.0", "", str(two)),
    ]


def test_a_folder_with_several_repositories_must_be_named(world: World, tmp_path: Path) -> None:
    for name in ("may", "june"):
        shutil.copytree(world.first.root, tmp_path / "old" / name / "FIELDOPS")
    with pytest.raises(UsageFault) as caught:
        StickMedia(mounts=list).at(str(tmp_path / "old"))
    assert caught.value.reason == "several_repositories"
    assert "june" in caught.value.next_step
    assert StickMedia(mounts=list).at(str(tmp_path / "old/may")).name == str(tmp_path / "old/may/FIELDOPS")


def test_a_crowded_stick_is_looked_at_for_a_bounded_time(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"f{number:03}").mkdir()
    (tmp_path / "zzz/FIELDOPS/metadata").mkdir(parents=True)
    assert repositories_in(tmp_path) == []


def upper(folder: Path) -> None:
    """As FAT shows short names on some systems."""
    for path in sorted(folder.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.upper()))


def test_names_in_capitals_are_found(world: World) -> None:
    upper(world.stick.root)
    laptop = world.laptop()
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_two_names_that_differ_by_case_alone_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("TIMESTAMP.JSON", "Timestamp.json"):
        (tmp_path / "metadata" / name).write_bytes(b"{}")
    if len(list((tmp_path / "metadata").iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    with pytest.raises(TrustRefused) as caught:
        FolderSource(tmp_path).read("metadata/timestamp.json", 100)
    assert caught.value.reason == "missing"


class PulledOut:
    """A stick that is gone after so many pieces of payload. Implements ports.Source."""

    def __init__(self, root: Path, pieces: int) -> None:
        self.inner, self.root, self.left = FolderSource(root), root, pieces

    @property
    def name(self) -> str:
        return self.inner.name

    def read(self, path: str, limit: int) -> bytes:
        return self.inner.read(path, limit)

    def chunks(self, path: str, offset: int) -> Any:
        for chunk in self.inner.chunks(path, offset):
            yield chunk
            if path.endswith(".onnx"):
                self.left -= 1
                if self.left == 0:
                    self.root.rename(self.root.with_name("unplugged"))


def test_a_stick_pulled_out_between_two_files_is_told_so_and_plugged_in_again_it_goes_on(world: World) -> None:
    laptop = world.laptop()
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(PulledOut(world.stick.root, 1))
    assert (caught.value.reason, caught.value.exit_code) == ("io_error", 3)
    assert "pulled out" in caught.value.message
    assert "again" in caught.value.next_step
    world.stick.root.with_name("unplugged").rename(world.stick.root)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


# --- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part", ["con", "nul.onnx", "aux", "com1", "lpt9.tar.gz", "prn.x", "x.", "core.onnx."], ids=lambda part: part
)
@pytest.mark.parametrize("where", range(4))
def test_names_that_fat_or_windows_would_change_are_refused(part: str, where: int) -> None:
    parts = ["stable", "digits", "1.0.0", "core.onnx"]
    parts[where] = part
    with pytest.raises(TrustRefused) as caught:
        target_name("/".join(parts))
    assert caught.value.reason == "bad_name"


@pytest.mark.parametrize("part", ["console", "nullable.onnx", "com", "com10", "a.con", "1.0.0"])
def test_names_that_only_look_so_are_names(part: str) -> None:
    assert target_name(f"stable/{part}/1.0.0/{part}").model == part


# --- room --------------------------------------------------------------------------------------------------------------


def roomy(laptop: Any, free: Callable[[Path], int], limit: int | None = 1 << 30) -> Any:
    from fieldops.edges.blobs import BlobCache

    laptop.store.blobs = BlobCache(laptop.home / "cache", limit, free)
    return laptop


def test_a_full_disk_is_told_before_the_first_byte_is_copied(world: World) -> None:
    from fieldops.errors import StorageFault

    laptop = roomy(world.laptop(), lambda _: 1 << 20)
    with pytest.raises(StorageFault) as caught:
        laptop.fetch(world.stick.source)
    assert (caught.value.reason, caught.value.exit_code) == ("disk_full", 8)
    assert not list((laptop.home / "cache/sha256").glob("*.part"))
    assert roomy(laptop, lambda _: 1 << 30).fetch(world.stick.source).manifest.version == "1.1.0"


def age(laptop: Any, folder: Path, days: float) -> None:
    import os

    at = laptop.clock.at - days * 86_400
    os.utime(folder, (at, at))


def test_old_bundles_give_way_and_what_is_in_use_stays(world: World) -> None:
    laptop = roomy(world.laptop(knows_first=False), lambda _: 1 << 30, limit=1)
    old = laptop.fetch(world.first.source, "digits@1.0.0")
    age(laptop, old.folder, 0.5)
    laptop.fetch(world.stick.source)
    assert old.folder.is_dir(), "asked for today: another process may be sending it"
    age(laptop, old.folder, 3)
    shutil.rmtree(
        laptop.home / "cache/bundles" / next(p.name for p in (laptop.home / "cache/bundles").iterdir() if p != old.folder)
    )
    for path in (laptop.home / "cache/sha256").iterdir():
        if path.stat().st_nlink == 1 and path.stat().st_size > 1000:
            path.unlink()
    bundle = laptop.fetch(world.stick.source)
    assert not old.folder.exists()
    assert {path.name for path in bundle.folder.iterdir()} == {"core.onnx", "large.onnx", "manifest.json"}
    assert laptop.store.policy().roles == {"technician": ["*"]}
    assert laptop.store.policy_target("policy/runbooks/greet/runbook.yaml") == b"id: greet\n"
    for entry in old.manifest.files:
        with pytest.raises(KeyError):
            laptop.store.blobs.open(entry.sha256)


def test_nothing_is_removed_where_no_limit_is_set(world: World) -> None:
    laptop = roomy(world.laptop(), lambda _: 1 << 30, limit=None)
    for folder in (laptop.home / "cache/bundles").iterdir():
        age(laptop, folder, 900)
    laptop.fetch(world.stick.source)
    assert len(list((laptop.home / "cache/bundles").iterdir())) == 2

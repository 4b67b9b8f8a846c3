"""Where this computer has removable media mounted: Linux by its mount table and sysfs, macOS by /Volumes, Windows by letters.

Nothing is mounted or written here, and no rights are needed. `Machine` can be given another root, so that every system's
rules are tested on any of them.
"""

from __future__ import annotations

import os
import re
import string
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# As a medium may be formatted; others (overlay, proc, tmpfs, nfs) are no stick, and a dead network mount would hang.
_FILE_SYSTEMS = frozenset(
    {"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "iso9660", "udf"}
) | {"hfs", "hfsplus"}
# Where desktops put what was plugged in, also when sysfs tells nothing (containers, FUSE).
_CUSTOMARY = ("run/media/*/*", "media/*/*", "media/*", "mnt/*")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_REMOVABLE, _FIXED, _OPTICAL = 2, 3, 5  # of GetDriveTypeW


if sys.platform == "win32":
    import ctypes

    def _drive_kind(drive: str) -> int:
        return int(ctypes.windll.kernel32.GetDriveTypeW(drive))

else:

    def _drive_kind(drive: str) -> int:  # noqa: ARG001
        return 0


@dataclass(frozen=True, slots=True)
class Machine:
    """system: as sys.platform. root: what stands for `/`. drive_kind: GetDriveTypeW. system_drive: never a stick."""

    system: str = sys.platform
    root: Path = Path("/")
    drive_kind: Callable[[str], int] = _drive_kind
    system_drive: str = os.environ.get("SYSTEMDRIVE", "C:")

    def media(self) -> list[Path]:
        """Mounted ones, those that the system calls removable first, each once."""
        if self.system == "win32":
            found = self._letters()
        elif self.system == "darwin":
            found = self._volumes()
        else:
            found = self._linux()
        return list({os.path.realpath(path): path for path in found}.values())

    # --- Windows

    def _letters(self) -> Iterator[Path]:
        """A USB disk often says that it is fixed, so only the system's own drive and the network are left out."""
        fixed: list[Path] = []
        for letter in string.ascii_uppercase[3:]:
            drive = f"{letter}:\\"
            kind = self.drive_kind(drive)
            if kind not in {_REMOVABLE, _FIXED, _OPTICAL} or drive[:2] == self.system_drive.upper():
                continue
            place = Path(drive) if self.root == Path("/") else self.root / letter
            if kind == _FIXED:
                fixed.append(place)
            else:
                yield place
        yield from fixed

    # --- macOS

    def _volumes(self) -> Iterator[Path]:
        """The volume that the system started from is there as a link to `/`."""
        yield from (path for path in self._glob("Volumes/*") if not path.is_symlink() and not path.name.startswith("."))

    # --- Linux

    def _linux(self) -> Iterator[Path]:
        others: list[Path] = []
        for number, place, kind in self._mount_table():
            if place == self.root:
                continue
            if kind in _FILE_SYSTEMS and self._is_removable(number):
                yield place
            elif kind in _FILE_SYSTEMS and place.parent.name in {"media", "mnt"}:
                others.append(place)
        yield from others
        for pattern in _CUSTOMARY:
            yield from self._glob(pattern)

    def _mount_table(self) -> Iterator[tuple[str, Path, str]]:
        """(major:minor, mount point, file system) of /proc/self/mountinfo."""
        try:
            text = (self.root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return
        for line in text.splitlines():
            before, dash, after = line.partition(" - ")
            words, types = before.split(" "), after.split(" ")
            if dash and len(words) > 4:
                place = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4])
                yield words[2], self.root / place.lstrip("/"), types[0]

    def _is_removable(self, number: str) -> bool:
        """The disk of a partition says so itself, or hangs on USB: many USB disks claim to be fixed."""
        device = Path(os.path.realpath(self.root / "sys/dev/block" / number))
        for disk in (device, device.parent):
            try:
                if (disk / "removable").read_text("ascii").strip() == "1":
                    return True
            except (OSError, UnicodeDecodeError):
                continue
        return any(re.fullmatch(r"usb\d+", part) for part in device.parts)

    def _glob(self, pattern: str) -> list[Path]:
        try:
            return sorted(self.root.glob(pattern))
        except OSError:  # another user's media folder may not be read
            return []


def mounted() -> list[Path]:
    return Machine().media()

"""The device certificates that enrolment pinned, one PEM file a device id."""

from __future__ import annotations

from pathlib import Path

from fieldops.edges.disk import storage_faults, write_whole
from fieldops.errors import StorageFault
from fieldops.fleet import DeviceId


class PinFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, device: str | None) -> str | None:
        """None when this device was never pinned here. Raises StorageFault."""
        if device is None:
            return None
        try:
            return self._file(device).read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault(
                f"{error.filename}: {error.strerror}", reason="unreadable", next_step="mend the file's permissions"
            ) from error

    def save(self, device: DeviceId, certificate: str) -> None:
        write_whole(self._file(device), certificate.encode("ascii"), 0o644)

    def drop(self, device: DeviceId) -> None:
        pin = self._file(device)
        with storage_faults(pin):
            pin.unlink(missing_ok=True)

    def _file(self, device: str) -> Path:
        return self.folder / f"{device}.pem"

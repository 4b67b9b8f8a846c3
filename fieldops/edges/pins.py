"""What enrolment pinned: a PEM file a device id, and the central store's id in `store`."""

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
        return _text(self._file(device))

    def store(self) -> str | None:
        """Id of the store that let this laptop in; None: none did. Raises StorageFault."""
        return _text(self.folder / "store")

    def save_store(self, store: str) -> None:
        write_whole(self.folder / "store", store.encode("ascii"), 0o644)

    def save(self, device: DeviceId, certificate: str) -> None:
        write_whole(self._file(device), certificate.encode("ascii"), 0o644)

    def drop(self, device: DeviceId) -> None:
        pin = self._file(device)
        with storage_faults(pin):
            pin.unlink(missing_ok=True)

    def _file(self, device: str) -> Path:
        return self.folder / f"{device}.pem"


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFault(
            f"{error.filename}: {error.strerror}", reason="unreadable", next_step="mend the file's permissions"
        ) from error

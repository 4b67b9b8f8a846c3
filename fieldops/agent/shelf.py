"""The payload files on the device: by digest, resumable while they come, never removed while a slot may need them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fieldops.agent.home import AgentHome
from fieldops.bundles.trust import SHA256_HEX
from fieldops.edges.blobs import BlobCache
from fieldops.edges.disk import remove_tree, rename, storage_faults, sync_file, sync_folder, unlink
from fieldops.edges.registry import Installed
from fieldops.errors import TrustRefused, UsageFault


@dataclass(frozen=True, slots=True)
class Shelf:
    home: AgentHome

    def path(self, sha256: str) -> Path:
        """Raises UsageFault for what is no digest."""
        if not SHA256_HEX.fullmatch(sha256):
            raise UsageFault(f"{sha256[:80]!r} is no SHA-256", next_step="name the blob by 64 lower-case hex digits")
        return self.home.blobs / sha256

    def part(self, sha256: str) -> Path:
        return self.path(sha256).with_suffix(".part")

    def whole(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def have(self, sha256: str) -> int:
        """Bytes of it that are here."""
        for path in (self.path(sha256), self.part(sha256)):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def used_bytes(self) -> int:
        total = 0
        for path in self.home.blobs.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def finish(self, sha256: str) -> None:
        """A whole part becomes the blob: synced, hashed, renamed. Raises TrustRefused (hash_mismatch); nothing is kept then."""
        part = self.part(sha256)
        with storage_faults(part):
            sync_file(part)
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                unlink(part)
                raise TrustRefused(
                    f"what was uploaded as {sha256[:12]} hashes to {digest[:12]}",
                    reason="hash_mismatch",
                    next_step="send it again; if it fails again, verify the stick with `fieldops stick verify`",
                )
            rename(part, self.path(sha256))
            sync_folder(part.parent)

    def gather(self, manifest_sha256: str, files: Iterable[tuple[str, str]]) -> Path:
        """The bundle's folder with its files by base name. Durable when it returns."""
        return BlobCache(self.home.models).gather(manifest_sha256, files)

    def drop(self, gone: Installed, others: Iterable[Installed]) -> None:
        """Remove a version's files, but none that another version shares."""
        kept = {digest for other in others for digest in _digests(other)}
        remove_tree(self.home.bundles / gone.manifest_sha256)
        for digest in _digests(gone) - kept:
            unlink(self.path(digest))
        sync_folder(self.home.blobs)

    def sweep(self, installed: Iterable[Installed]) -> None:
        """Remove blobs and folders that no installed version names: what a power cut left between forgetting and removing.

        Only while no step waits for payload: its blobs have no row yet.
        """
        rows = list(installed)
        kept = {digest for each in rows for digest in _digests(each)}
        for path in self.home.blobs.iterdir():
            if path.name.removesuffix(".part") not in kept:
                unlink(path)
        folders = {each.manifest_sha256 for each in rows}
        for folder in self.home.bundles.iterdir():
            if folder.name not in folders:
                remove_tree(folder)
        sync_folder(self.home.blobs)


def _digests(installed: Installed) -> set[str]:
    files = installed.manifest.files if installed.manifest else []
    return {installed.manifest_sha256, *(file.sha256 for file in files)}

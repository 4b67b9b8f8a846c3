"""How much room a folder of blobs takes, and what of it may go: old bundles, never what is in use.

A bundle is in use for a day after it was last asked for: another process of this laptop may be sending it right now.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

IN_USE_S = 86_400.0
_PARTS_S = 30 * 86_400.0  # a copy cut off is worth going on with for so long


def free_bytes(folder: Path) -> int:
    """On the disk that folder is on, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def prune(folder: Path, keep: Collection[str], *, now: float, most_bytes: int) -> list[str]:
    """Remove bundles, oldest first, until no more than most_bytes are left; then blobs that no bundle names. Their names.

    folder: as BlobCache has it. keep: digests that stay whatever their age.
    """
    gone: list[str] = []
    blobs = _blobs(folder)
    size = sum(path.stat().st_size for path in blobs.values())
    bundles = sorted(_folders(folder / "bundles"), key=lambda path: path.stat().st_mtime)
    for bundle in list(bundles):
        if size <= most_bytes:
            break
        if bundle.name in keep or bundle.stat().st_mtime > now - IN_USE_S:
            continue
        bundles.remove(bundle)
        needed = {*keep, *(sha256 for other in bundles for sha256 in _named(other))}
        mine = [blobs[sha256] for sha256 in _named(bundle) if sha256 not in needed and sha256 in blobs]
        # The folder first: blobs without one are only waste, a folder without its blobs would look whole.
        shutil.rmtree(bundle)
        size -= _remove(mine)
        gone.append(bundle.name)
    if size > most_bytes:
        needed = {*keep, *(sha256 for bundle in bundles for sha256 in _named(bundle))}
        _remove(path for sha256, path in _blobs(folder).items() if sha256 not in needed and _is_waste(path, now))
    return gone


def _is_waste(path: Path, now: float) -> bool:
    age = now - path.stat().st_mtime
    return age > (_PARTS_S if path.suffix == ".part" else IN_USE_S)


def _blobs(folder: Path) -> dict[str, Path]:
    place = folder / "sha256"
    return {path.name: path for path in place.iterdir()} if place.is_dir() else {}


def _folders(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []


def _named(bundle: Path) -> set[str]:
    """Digests of a bundle's files, by its verified manifest; one that is damaged names only itself."""
    found = {bundle.name}
    try:
        for entry in json.loads((bundle / "manifest.json").read_bytes())["files"]:
            found.add(str(entry["sha256"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {bundle.name}
    return found


def _remove(paths: Iterable[Path]) -> int:
    """Bytes that are gone."""
    size = 0
    for path in list(paths):
        size += path.stat().st_size
        path.unlink()
    return size

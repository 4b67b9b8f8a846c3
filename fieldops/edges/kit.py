"""Making an installation kit while online, and reading one offline. Wheels come by pip and by the hashes of agent.lock alone.

fieldops' own wheel is put together from the code that runs here, without what only a laptop needs, so that an installed
fieldops can make kits as a checkout can. Its bytes depend on that code and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fieldops import __version__
from fieldops.bundles.kit import (
    KIT_FILE,
    KIT_LIMIT_BYTES,
    REQUIREMENTS_FILE,
    WHEELS,
    Kit,
    KitEntry,
    Pinned,
    decode_kit,
    parse_lock,
    wheel_platforms,
)
from fieldops.deadline import Deadline
from fieldops.edges.disk import Written, storage_faults, sync_folder, write_whole
from fieldops.errors import DeviceCannot, LinkFault, StorageFault, UsageFault
from fieldops.ports import OnProgress, Progress

PACKAGE = Path(__file__).resolve().parents[1]
LOCK = PACKAGE / "agent" / "agent.lock"
LAPTOP_ONLY = frozenset({"_data", "cli", "tui", "demo", "central", "operations", "__pycache__"})
AT_ONCE = 4
PIECE = 1 << 20
_STEP_S = 0.1
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # zip knows none before it


@dataclass(frozen=True, slots=True)
class KitFolder:
    """A kit whose every byte was compared with kit.json."""

    folder: Path
    kit: Kit

    @property
    def id(self) -> str:
        """Names the software on the device: equal kits, equal ids."""
        return self.kit.id

    def files(self) -> list[Path]:
        """What is carried to the device, largest first."""
        wheels = sorted(self.kit.files, key=lambda entry: -entry.size)
        return [*(self.folder / WHEELS / entry.name for entry in wheels), self.folder / REQUIREMENTS_FILE]


def build(platform: str, python: str, dest: Path, deadline: Deadline, progress: OnProgress, *, lock: Path = LOCK) -> KitFolder:
    """Raises DeviceCannot (no_wheel) that names each package without a wheel, LinkFault (no_index), StorageFault.

    dest: a folder that is new, empty, or an older kit.
    """
    pins = parse_lock(lock.read_text("utf-8"), str(lock))
    if dest.exists() and any(dest.iterdir()) and not (dest / KIT_FILE).is_file():
        raise UsageFault(f"{dest} holds something else than a kit", reason="usage", next_step="name an empty folder")
    with storage_faults(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".kit-", dir=dest.parent))
    try:
        with storage_faults(made):
            (made / WHEELS).mkdir()
        _gather(pins, platform, python, made, deadline, progress)
        own = own_wheel(made / WHEELS)
        progress(Progress("wheels", len(pins) + 1, len(pins) + 1))
        kit = _describe(pins, own, platform, python, made)
        if dest.exists():
            shutil.rmtree(dest)
        made.rename(dest)
        sync_folder(dest.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return KitFolder(dest, kit)


def _describe(pins: tuple[Pinned, ...], own: Path, platform: str, python: str, made: Path) -> Kit:
    entries = [
        KitEntry(name=path.name, sha256=_digest(path), size=path.stat().st_size) for path in sorted((made / WHEELS).iterdir())
    ]
    of_own = Pinned("fieldops", __version__, (_digest(own),))
    here = {entry.sha256 for entry in entries}
    kept = [Pinned(pin.name, pin.version, tuple(digest for digest in pin.hashes if digest in here)) for pin in pins]
    text = "".join(pin.line for pin in [*kept, of_own]).encode("utf-8")
    write_whole(made / REQUIREMENTS_FILE, text, 0o644)
    kit = Kit(
        version=__version__,
        platform=platform,
        python=python,
        requirements=hashlib.sha256(text).hexdigest(),
        files=entries,
    )
    write_whole(made / KIT_FILE, msgspec.json.format(msgspec.json.encode(kit), indent=1), 0o644)
    return kit


# --- wheels of others --------------------------------------------------------------------------------------------------------


def _gather(pins: tuple[Pinned, ...], platform: str, python: str, made: Path, deadline: Deadline, progress: OnProgress) -> None:
    def one(pin: Pinned) -> str | None:
        said = _download(pin, platform, python, made, deadline)
        progress(Progress("wheels", len(list((made / WHEELS).iterdir())), len(pins) + 1))
        return said

    progress(Progress("wheels", 0, len(pins) + 1))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = list(pool.map(one, pins))
    missing = [(pin, why) for pin, why in zip(pins, said, strict=True) if why is not None]
    if not missing:
        return
    if all(why == "no_index" for _, why in missing):
        raise LinkFault(
            "pip finds no package index from here",
            reason="no_index",
            next_step="build the kit where pip works, then carry the folder",
        )
    lines = "; ".join(f"{pin.name} {pin.version}: {why.replace('no_index', 'not looked up')}" for pin, why in missing)
    raise DeviceCannot(
        f"no kit for {platform} with Python {python}: {lines}",
        reason="no_wheel",
        next_step="use another Python version or board; `docs/links.md` lists what is supported",
    )


def _download(pin: Pinned, platform: str, python: str, made: Path, deadline: Deadline) -> str | None:
    """None: it is there. Else why not, or `no_index`."""
    wanted = made / f".{pin.name}.txt"
    wanted.write_text(pin.line, "utf-8")
    log = made / f".{pin.name}.log"
    abis = [word for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    tags = [word for tag in wheel_platforms(platform) for word in ("--platform", tag)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(made / WHEELS)),
        *("--python-version", python, "--implementation", "cp"),
        *(*abis, *tags, "--requirement", str(wanted)),
    ]
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            while process.poll() is None:
                deadline.check("the wheels")
                deadline.cancel.wait(_STEP_S)
        finally:
            if process.poll() is None:
                process.kill()
    text = log.read_text("utf-8", "replace")
    wanted.unlink()
    log.unlink()
    return None if process.returncode == 0 else _why(text, pin)


def _why(text: str, pin: Pinned) -> str:
    """What pip said, in our words; it has no other way to tell."""
    if "No module named pip" in text:
        raise StorageFault("this Python has no pip", reason="no_pip", next_step="make it with: python3 -m ensurepip")
    unreachable = re.search(
        r"NewConnectionError|Connection.*(refused|broken)|Name or service|Max retries|Network is unreach", text
    )
    versions = re.search(r"from versions: ([^)]*)\)", text)
    if unreachable or (versions is None and "No matching" not in text and "DO NOT MATCH" not in text):
        return "no_index"
    if "DO NOT MATCH" in text:
        return "its wheel there is not in agent.lock"
    if versions is None or versions[1].strip() in {"", "none"}:
        return "no wheel exists"
    return f"no wheel of {pin.version} exists"


# --- our own -----------------------------------------------------------------------------------------------------------------


def _own_files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(PACKAGE.rglob("*")):
        inner = path.relative_to(PACKAGE)
        if path.is_file() and not LAPTOP_ONLY & set(inner.parts) and path.suffix in {".py", ".lock", ".typed"}:
            yield f"{PACKAGE.name}/{inner.as_posix()}", path.read_bytes()


def own_wheel(folder: Path) -> Path:
    """The agent's half of this very fieldops, as a wheel."""
    info = f"fieldops-{__version__}.dist-info"
    files = dict(_own_files())
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: fieldops\nVersion: {__version__}\nSummary: the agent of a fieldops device\n"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: fieldops\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nfieldops-agent = fieldops.agent.__main__:main\n"
    record = [f"{name},sha256={_record_digest(data)},{len(data)}\n" for name, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    path = folder / f"fieldops-{__version__}-py3-none-any.whl"
    with storage_faults(path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return path


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


# --- reading -----------------------------------------------------------------------------------------------------------------


def read(folder: Path) -> KitFolder:
    """Raises UsageFault (no_kit, bad_kit): a file is missing, changed, or there is one too many."""
    try:
        kit = decode_kit((folder / KIT_FILE).read_bytes(), str(folder / KIT_FILE))
    except OSError as error:
        raise UsageFault(
            f"{folder}: no kit there ({error.strerror})", reason="no_kit", next_step="make one: `fieldops kit build`"
        ) from error
    wrong = [entry.name for entry in kit.files if not _same(folder / WHEELS / entry.name, entry)]
    if not _is(folder / REQUIREMENTS_FILE, kit.requirements):
        wrong.append(REQUIREMENTS_FILE)
    if wrong:
        raise UsageFault(
            f"{folder}: not as it was built: {', '.join(wrong)}", reason="bad_kit", next_step="copy or build the kit again"
        )
    return KitFolder(folder, kit)


# --- as one archive ----------------------------------------------------------------------------------------------------------


def pack(folder: Path, kit: Kit, file: Path) -> None:
    """The kit as the one file that a release signs. Equal kits, equal bytes; wheels are compressed already."""
    inner = [KIT_FILE, REQUIREMENTS_FILE, *sorted(f"{WHEELS}/{entry.name}" for entry in kit.files)]
    with storage_faults(file), zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in inner:
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, PIECE)


def unpack(file: Path, folder: Path) -> Kit:
    """Wheels and requirements side by side in a folder that is new, each compared with kit.json. For an archive that is verified.

    Raises UsageFault (bad_kit): it is not such an archive, or one of its files is not as its kit.json says. StorageFault.
    """
    try:
        with zipfile.ZipFile(file) as archive, archive.open(KIT_FILE) as source:
            kit = decode_kit(source.read(KIT_LIMIT_BYTES + 1), KIT_FILE)
            requirements = KitEntry(name=REQUIREMENTS_FILE, sha256=kit.requirements, size=KIT_LIMIT_BYTES)
            _extract(archive, REQUIREMENTS_FILE, requirements, folder, exact=False)
            for entry in kit.files:
                _extract(archive, f"{WHEELS}/{entry.name}", entry, folder, exact=True)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise _no_kit(file.name, str(error)) from error
    with storage_faults(folder):
        sync_folder(folder)
    return kit


def _extract(archive: zipfile.ZipFile, name: str, entry: KitEntry, folder: Path, *, exact: bool) -> None:
    digest, size, place = hashlib.sha256(), 0, folder / entry.name
    with storage_faults(place), archive.open(name) as source, Written.new(place) as sink:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > entry.size:
                break
            digest.update(piece)
            sink.write(piece)
        sink.sync()
    if (exact and size != entry.size) or size > entry.size or digest.hexdigest() != entry.sha256:
        raise _no_kit(archive.filename or "", f"{entry.name} is not as {KIT_FILE} says")


def _no_kit(name: str, why: str) -> UsageFault:
    return UsageFault(f"{name}: {why}", reason="bad_kit", next_step="build the kit again, and sign that one")


def _same(path: Path, entry: KitEntry) -> bool:
    return _is(path, entry.sha256) and path.stat().st_size == entry.size


def _is(path: Path, sha256: str) -> bool:
    try:
        return not path.is_symlink() and _digest(path) == sha256
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What a power cut may leave: operations of the storage edge, recorded, and every folder that they allow.

The model is the pessimistic reading of POSIX. A file's bytes are on disk after its fsync; those written since are gone,
torn in the middle, or there. Names in one folder reach the disk in order, up to any point, and all of them after the
folder's fsync; folders are independent of each other. A database commit is there when it returns (synchronous=FULL): its
files are copied at that moment, and a commit under way is a write-ahead log whose new end is torn.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fieldops.edges.operation import Operation, Witness

WAL_SUFFIX: Final = "-wal"
_MOST_OPEN = 3  # unsynced files, and
_MOST_NAMES = 24  # unsynced names, up to which they are combined; only a careless agent or a lying disk has more
_FRAME_BYTES = 24 + 4096  # of SQLite's write-ahead log at its usual page size


@dataclass(frozen=True, slots=True)
class Database:
    """Its two files as they were right after a commit. entries: of the journal, on disk for certain.

    slots: their rows, as they stand in it.
    """

    path: Path
    main: bytes
    log: bytes
    entries: int
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """database: after a commit."""

    operation: Operation
    database: Database | None = None


class Recorder(Witness):
    """A witness of everything below root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.done: list[Done] = []
        self._last: Database | None = None

    def after(self, operation: Operation) -> None:
        if not operation.path.is_relative_to(self._root):
            return
        database = self._copy(operation.path) if operation.kind == "commit" else None
        self.done.append(Done(operation, database))

    def _copy(self, path: Path) -> Database:
        """Nobody else writes to it now: the thread that committed is in here."""
        log = path.with_name(path.name + WAL_SUFFIX)
        main = path.read_bytes()
        if self._last is not None and self._last.main == main:
            main = self._last.main  # one copy in memory
        self._last = Database(path, main, log.read_bytes() if log.exists() else b"", *_read(path))
        return self._last


def at_rest(path: Path) -> Database:
    """Of a database that nobody has open."""
    log = path.with_name(path.name + WAL_SUFFIX)
    return Database(path, path.read_bytes(), log.read_bytes() if log.exists() else b"", *_read(path))


def _read(path: Path) -> tuple[int, tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        entries = int(connection.execute("SELECT count(*) FROM journal").fetchone()[0])
        return entries, tuple(row[0] for row in connection.execute("SELECT body FROM slots ORDER BY model"))
    finally:
        connection.close()


# --- the file system -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    """kept: on disk for certain. written: as a reader sees it now."""

    kept: bytes
    written: bytes

    @property
    def endings(self) -> list[bytes]:
        """What of it may be found: torn where the unsynced bytes were half written."""
        if self.kept == self.written:
            return [self.kept]
        same = _alike(self.kept, self.written)
        torn = self.written[: same + (len(self.written) - same) // 2]
        return list(dict.fromkeys([self.kept, torn, self.written]))


@dataclass(frozen=True, slots=True)
class _Folder:
    pass


@dataclass(frozen=True, slots=True)
class _Pointer:
    target: str


_Node = _File | _Folder | _Pointer
_Names = dict[str, _Node]


@dataclass(frozen=True, slots=True)
class _Change:
    """Of one folder's names, all at once. drop: the name that goes. put: the name that comes, and what it stands for."""

    drop: str | None = None
    put: str | None = None
    node: _Node | None = None

    def onto(self, names: _Names) -> None:
        if self.drop is not None:
            names.pop(self.drop, None)
        if self.put is not None and self.node is not None:
            names[self.put] = self.node


@dataclass(slots=True)
class _Listing:
    """A folder's names: on disk, and the changes since, in order."""

    kept: _Names = field(default_factory=dict)
    waiting: list[_Change] = field(default_factory=list)

    @property
    def now(self) -> _Names:
        return self.after(len(self.waiting))

    def after(self, count: int) -> _Names:
        names = dict(self.kept)
        for change in self.waiting[:count]:
            change.onto(names)
        return names


Tree = dict[str, bytes | Path | None]  # path below the root -> bytes; None: a folder; Path: what a symbolic link says


@dataclass(frozen=True, slots=True)
class CrashState:
    """after: how many operations had begun to take effect. entries: of the journal, that must be there."""

    after: int
    tree: Tree
    database: Database | None
    entries: int

    @property
    def digest(self) -> bytes:
        found = hashlib.sha256(str(self.entries).encode())
        for name in sorted(self.tree):
            node = self.tree[name]
            found.update(name.encode())
            found.update(hashlib.sha256(node).digest() if isinstance(node, bytes) else repr(node).encode())
        if self.database is not None:
            found.update(self.database.main)
            found.update(self.database.log)
        return found.digest()

    def put(self, root: Path) -> None:
        """Into a folder that is not there yet."""
        root.mkdir(mode=0o700)
        for name in sorted(self.tree):
            found, path = self.tree[name], root / name
            if found is None:
                path.mkdir(mode=0o700)
            elif isinstance(found, Path):
                path.symlink_to(found)
            else:
                path.write_bytes(found)
        if self.database is not None:
            (root / self.database.path.name).write_bytes(self.database.main)
            if self.database.log:
                (root / (self.database.path.name + WAL_SUFFIX)).write_bytes(self.database.log)


class Disk:
    """The files below root as they were, and as each operation changed them. All that is there at first is on disk."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._folders: dict[Path, _Listing] = {}
        self.database = database
        self._read(root, database.path.name)

    def _read(self, folder: Path, database: str) -> None:
        names = self._folders[folder] = _Listing()
        for path in folder.iterdir():
            if folder == self._root and path.name.startswith(database):
                continue
            if path.is_symlink():
                names.kept[path.name] = _Pointer(str(path.readlink()))
            elif path.is_dir():
                names.kept[path.name] = _Folder()
                self._read(path, database)
            else:
                data = path.read_bytes()
                names.kept[path.name] = _File(data, data)

    def _file(self, path: Path) -> _File:
        node = self._folders[path.parent].now[path.name]
        assert isinstance(node, _File), path
        return node

    def apply(self, done: Done) -> None:
        operation, path = done.operation, done.operation.path
        match operation.kind:
            case "write":
                file = self._file(path)
                file.written = file.written[: operation.offset] + operation.data
            case "fsync":
                file = self._file(path)
                file.kept = file.written
            case "fsync_folder":
                names = self._folders[path]
                names.kept, names.waiting = names.now, []
            case "commit":
                assert done.database is not None
                self.database = done.database
            case _:
                self._name(operation)

    def _wait(self, path: Path, change: _Change) -> None:
        self._folders[path.parent].waiting.append(change)

    def _name(self, operation: Operation) -> None:
        """What changes names waits for its folder's fsync."""
        path = operation.path
        match operation.kind:
            case "create":
                self._wait(path, _Change(put=path.name, node=_File(b"", b"")))
            case "rename":
                self._rename(operation)
            case "unlink" | "rmdir":
                self._wait(path, _Change(drop=path.name))
            case "link":
                assert operation.to is not None
                self._wait(operation.to, _Change(put=operation.to.name, node=self._file(path)))
            case "symlink":
                self._wait(path, _Change(put=path.name, node=_Pointer(operation.target)))
            case "mkdir":
                self._folders[path] = _Listing()
                self._wait(path, _Change(put=path.name, node=_Folder()))

    def _rename(self, operation: Operation) -> None:
        path, to = operation.path, operation.to
        assert to is not None
        assert to.parent == path.parent, "a rename into another folder is not one change of names"
        node = self._folders[path.parent].now[path.name]
        self._wait(path, _Change(drop=path.name, put=to.name, node=node))

    # --- what may be left ------------------------------------------------------------------------------------------------

    def trees(self, *, thorough: bool) -> Iterator[Tree]:
        """thorough: each folder up to each point, in every combination; else one folder at a time, others all or none."""
        waiting = {folder: len(names.waiting) for folder, names in self._folders.items() if names.waiting}
        for chosen in _choices(waiting, thorough=thorough):
            yield from self._contents(chosen)

    def all(self) -> Tree:
        """As after a kill: the system's memory is whole."""
        counts = {folder: len(names.waiting) for folder, names in self._folders.items()}
        return _realised(self._found(counts), lambda file: file.written)

    def _contents(self, counts: dict[Path, int]) -> Iterator[Tree]:
        found = self._found(counts)
        open_files = {id(node): node for node in found.values() if isinstance(node, _File) and len(node.endings) > 1}
        ways: Iterable[tuple[bytes, ...]] = itertools.product(*(node.endings for node in open_files.values()))
        if len(open_files) > _MOST_OPEN:  # all of them alike
            ways = zip(*((node.endings[0], node.endings[1], node.endings[-1]) for node in open_files.values()), strict=True)
        for endings in ways:
            by_id = dict(zip(open_files, endings, strict=True))
            yield _realised(found, lambda file, by_id=by_id: by_id.get(id(file), file.kept))  # type: ignore[misc]

    def _found(self, counts: dict[Path, int]) -> dict[str, _Node]:
        found: dict[str, _Node] = {}
        todo = [self._root]
        while todo:
            folder = todo.pop()
            names = self._folders.get(folder)
            for name, node in (names.after(counts.get(folder, 0)) if names else {}).items():
                found[str((folder / name).relative_to(self._root))] = node
                if isinstance(node, _Folder):
                    todo.append(folder / name)
        return found


def _choices(waiting: dict[Path, int], *, thorough: bool) -> Iterable[dict[Path, int]]:
    folders = list(waiting)
    if sum(waiting.values()) > _MOST_NAMES:
        yield dict.fromkeys(folders, 0)
        yield dict(waiting)
        for folder in folders:
            yield waiting | {folder: 0}
        return
    if thorough:
        for counts in itertools.product(*(range(waiting[folder] + 1) for folder in folders)):
            yield dict(zip(folders, counts, strict=True))
        return
    for others in (0, 1):
        base = {folder: waiting[folder] * others for folder in folders}
        yield base
        for folder in folders:
            for count in range(waiting[folder] + 1):
                yield base | {folder: count}


def _realised(found: dict[str, _Node], content: Callable[[_File], bytes]) -> Tree:
    tree: Tree = {}
    for name, node in found.items():
        match node:
            case _File():
                tree[name] = content(node)
            case _Pointer(target):
                tree[name] = Path(target)
            case _:
                tree[name] = None
    return tree


def power_cuts(disk: Disk, done: list[Done], *, thorough: bool) -> Iterator[CrashState]:
    """Every state once, in the order of the operations."""
    seen: set[bytes] = set()
    for after in range(len(done) + 1):
        if after:
            disk.apply(done[after - 1])
        for tree in disk.trees(thorough=thorough):
            state = CrashState(after, tree, disk.database, disk.database.entries)
            if (digest := state.digest) not in seen:
                seen.add(digest)
                yield state


def kills(disk: Disk, done: list[Done]) -> Iterator[CrashState]:
    """What the process leaves when it dies between two operations: all of both."""
    for after in range(len(done) + 1):
        if after:
            disk.apply(done[after - 1])
        yield CrashState(after, disk.all(), disk.database, disk.database.entries)


def torn_logs(disk: Disk, done: list[Done]) -> Iterator[CrashState]:
    """A commit cut off: the new end of the write-ahead log is missing in part, or filled with zeros. It must count for nothing."""
    for after, each in enumerate(done, 1):
        before = disk.database
        tree = disk.all()
        disk.apply(each)
        if each.database is None:
            continue
        for log in _torn(before.log, each.database.log):
            yield CrashState(after, tree, replace(before, log=log), before.entries)


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes at the start are the same."""
    if other.startswith(one):  # appended to, as always here
        return len(one)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _torn(before: bytes, after: bytes) -> Iterator[bytes]:
    """The last frame holds the commit: none of these has it whole."""
    if not after.startswith(before):  # written over from its start again, after the database took all of it
        before = after[:0]
    added = len(after) - len(before)
    for keep in sorted({0, 11, added // 2, added - _FRAME_BYTES, added - 1}):
        if 0 <= keep < added:
            yield after[: len(before) + keep]
            yield after[: len(before) + keep] + b"\0" * (added - keep)

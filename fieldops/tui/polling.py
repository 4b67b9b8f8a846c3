"""Keeps the snapshots fresh: a few threads, each asking one device at a time, dead devices less and less often."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from fieldops.deadline import CancelToken
from fieldops.errors import Cancelled, FieldopsError
from fieldops.tui.jobs import Bug
from fieldops.tui.site import Site
from fieldops.tui.snapshots import Key, SnapshotStore, key_of

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry, Inventory


THREADS = 8
ASK_S = 8.0  # how long one device may take to answer
EVERY_S = 3.0
WATCHED_EVERY_S = 1.0  # the device that is open on the screen
AWAY_EVERY_S = (5.0, 10.0, 20.0, 30.0)  # after the first, second, ... failure in a row


class Poller:
    """start() once, stop() at the end. report gets what only a bug can raise."""

    def __init__(self, site: Site, store: SnapshotStore, report: Callable[[FieldopsError], object]) -> None:
        self._site = site
        self._store = store
        self._report = report
        self._cancel = CancelToken()
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Key]] = []
        self._entries: dict[Key, DeviceEntry] = {}
        self._failures: dict[Key, int] = {}
        self._busy: set[Key] = set()
        self._told: set[str] = set()
        self._turn = 0
        self._watched: Key | None = None
        self.paused = False

    def start(self) -> None:
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"poll {number}", daemon=True).start()

    def stop(self) -> None:
        self._cancel.cancel()
        with self._wake:
            self._wake.notify_all()

    def set_inventory(self, inventory: Inventory) -> None:
        with self._wake:
            self._entries = {key_of(entry): entry for entry in inventory.devices}
            known = {key for _, _, key in self._due} | self._busy
            for key in self._entries.keys() - known:
                self._push(0.0, key)
            self._wake.notify_all()

    def watch(self, key: Key | None) -> None:
        self._watched = key
        if key is not None:
            self.ask_now(key)

    def ask_now(self, key: Key | None = None) -> None:
        """One device, or all, out of turn; failures are forgotten."""
        with self._wake:
            wanted = set(self._entries) if key is None else {key} & set(self._entries)
            for each in wanted:
                self._failures.pop(each, None)
            self._due = [item for item in self._due if item[2] not in wanted]
            heapq.heapify(self._due)
            for each in wanted - self._busy:
                self._push(0.0, each)
            self._wake.notify_all()

    def _push(self, at: float, key: Key) -> None:
        self._turn += 1
        heapq.heappush(self._due, (at, self._turn, key))

    def _work(self) -> None:
        while (key := self._next()) is not None:
            failed = self._ask(key)
            with self._wake:
                self._busy.discard(key)
                if key in self._entries:
                    self._push(self._site.monotonic() + self._pause_of(key, failed=failed), key)
                self._wake.notify()

    def _pause_of(self, key: Key, *, failed: bool) -> float:
        if not failed:
            self._failures.pop(key, None)
            return WATCHED_EVERY_S if key == self._watched else EVERY_S
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        return AWAY_EVERY_S[min(count, len(AWAY_EVERY_S) - 1)]

    def _next(self) -> Key | None:
        """The device to ask next, when it is due; None when the poller ends."""
        with self._wake:
            while not self._cancel.cancelled:
                while self._due and self._due[0][2] not in self._entries:
                    heapq.heappop(self._due)
                wait = self._due[0][0] - self._site.monotonic() if self._due else None
                if wait is not None and wait <= 0 and not self.paused:
                    _, _, key = heapq.heappop(self._due)
                    self._busy.add(key)
                    return key
                self._wake.wait(0.5 if wait is None or self.paused else min(wait, 0.5))
        return None

    def _ask(self, key: Key) -> bool:
        """True when the device did not answer."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        try:
            snapshot = self._site.snapshot(entry, self._site.deadline(ASK_S, self._cancel))
        except Cancelled:
            return True
        except FieldopsError as error:
            return self._failed(key, entry, error)
        except Exception as error:  # noqa: BLE001 - the console's outermost boundary for workers
            return self._failed(key, entry, Bug(error))
        self._store.put(key, snapshot, self._site.now())
        return snapshot.error is not None

    def _failed(self, key: Key, entry: DeviceEntry, error: FieldopsError) -> bool:
        """What no snapshot should raise: the row says so, and it is told once, whichever devices meet it and how often."""
        from fieldops.operations.observe import Snapshot

        told = f"{error.reason} {error.message}"
        snapshot = Snapshot(entry, "-", "FAIL", (error.reason.replace("_", " "),), error=error.about(entry.name))
        self._store.put(key, snapshot, self._site.now())
        with self._wake:
            new = told not in self._told
            self._told.add(told)
        if new:
            self._report(error)
        return True

"""The fleet as the console holds it: the newest snapshot of each device, a short history, and the order rows stand in.

Producers are threads; they put snapshots into the store. The screen drains it a few times a second.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry, Inventory
    from fieldops.operations.observe import Snapshot


Key = NewType("Key", str)

HISTORY_LENGTH = 120
WORST_FIRST = ("FAIL", "WARN", "OFF", "BARE", "OK")


def key_of(entry: DeviceEntry) -> Key:
    """What a row and the cursor are bound to: the device itself where it is known, else its name."""
    return Key(entry.id or entry.name)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sparklines show. at: Unix seconds. None: not measured."""

    at: float
    cpu_pct: float | None
    mem_pct: float | None
    temp_c: float | None
    clock_mhz: float | None
    power_w: float | None
    rate_per_s: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Sight:
    """One device as it was last seen. snapshot None: not asked yet. asked_at: when the last answer or error came."""

    entry: DeviceEntry
    snapshot: Snapshot | None = None
    asked_at: float | None = None
    history: tuple[Sample, ...] = ()

    @property
    def state(self) -> str:
        """The snapshot's word; BARE where all is well that can be seen without an agent, which is not much."""
        if self.snapshot is None:
            return "-"
        bare = self.snapshot.link.split(" ", 1)[0] == "bare"
        return "BARE" if bare and self.snapshot.state == "OK" else self.snapshot.state

    @property
    def span_s(self) -> float:
        """How far back the history reaches, in seconds."""
        return self.history[-1].at - self.history[0].at if self.history else 0.0

    def age(self, now: float) -> float | None:
        """Seconds since the device last answered; None when it never did."""
        seen = self.snapshot.seen_at if self.snapshot else None
        return None if seen is None else max(0.0, now - seen)


def memory_pct(used_of: Snapshot) -> float | None:
    hardware = used_of.resources
    if hardware is None or not hardware.mem_total_bytes or hardware.mem_available_bytes is None:
        return None
    return 100 * (1 - hardware.mem_available_bytes / hardware.mem_total_bytes)


def sample_of(snapshot: Snapshot) -> Sample | None:
    hardware = snapshot.resources
    if hardware is None:
        return None
    known_rates = [each.rate_per_s for each in hardware.serving]
    tails = [each.p95_ms for each in hardware.serving if each.p95_ms is not None]
    return Sample(
        at=snapshot.seen_at or 0.0,
        cpu_pct=hardware.cpu_pct,
        mem_pct=memory_pct(snapshot),
        temp_c=hardware.soc_temp_c,
        clock_mhz=hardware.clock_mhz,
        power_w=hardware.power_w,
        rate_per_s=sum(known_rates) if known_rates else None,
        p95_ms=max(tails) if tails else None,
    )


def merged(old: Snapshot | None, new: Snapshot) -> Snapshot:
    """A device that did not answer keeps the values it last gave, with the time they are from."""
    if new.error is None or old is None or old.seen_at is None:
        return new
    return replace(new, hello=old.hello, resources=old.resources, models=old.models, drift=old.drift, seen_at=old.seen_at)


@dataclass(slots=True)
class SnapshotStore:
    """Safe across threads. Keeps only devices of the inventory last set."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sights: dict[Key, Sight] = field(default_factory=dict)
    _histories: dict[Key, deque[Sample]] = field(default_factory=dict)
    _changed: set[Key] = field(default_factory=set)

    def set_inventory(self, inventory: Inventory) -> None:
        with self._lock:
            old = self._sights
            self._sights = {
                key_of(entry): replace(old.get(key_of(entry), Sight(entry)), entry=entry) for entry in inventory.devices
            }
            self._histories = {key: self._histories.get(key, deque(maxlen=HISTORY_LENGTH)) for key in self._sights}
            self._changed = set(self._sights)

    def put(self, key: Key, snapshot: Snapshot, asked_at: float) -> None:
        """A snapshot of a device that left the inventory meanwhile is dropped."""
        with self._lock:
            old = self._sights.get(key)
            if old is None:
                return
            sample = sample_of(snapshot)
            if sample is not None:
                self._histories[key].append(sample)
            whole = merged(old.snapshot, snapshot)
            self._sights[key] = Sight(old.entry, whole, asked_at, tuple(self._histories[key]))
            self._changed.add(key)

    def drain(self) -> tuple[Mapping[Key, Sight], frozenset[Key]]:
        """All devices in the order of the inventory, and those that changed since the last drain."""
        with self._lock:
            changed, self._changed = frozenset(self._changed), set()
            return dict(self._sights), changed

    def get(self, key: Key) -> Sight | None:
        with self._lock:
            return self._sights.get(key)


# --- the list's order and filter -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a filter. field "": any text of the row."""

    field: str
    value: str
    negated: bool


_FIELDS = ("name", "site", "class", "st", "state", "link", "model", "drift", "tag", "owner", "id")


def parse_filter(text: str) -> tuple[Term, ...]:
    """`site:north drift:data !st:ok press`: all terms must hold; `!` negates; a bare word looks in every field."""
    terms = []
    for word in text.lower().split():
        negated = word.startswith("!")
        bare = word[1:] if negated else word
        name, colon, value = bare.partition(":")
        if colon and name in _FIELDS and value:
            terms.append(Term(name, value, negated))
        elif bare:
            terms.append(Term("", bare, negated))
    return tuple(terms)


def facts_of(sight: Sight) -> dict[str, str]:
    """The texts a filter looks at, in lower case."""
    entry, snapshot = sight.entry, sight.snapshot
    slots = snapshot.models.slots if snapshot and snapshot.models else []
    drifts = [each.verdict for each in snapshot.drift] if snapshot else []
    return {
        "name": entry.name,
        "site": entry.site.lower(),
        "class": entry.device_class.lower(),
        "st": sight.state.lower(),
        "state": sight.state.lower(),
        "link": snapshot.link.lower() if snapshot else "",
        "model": " ".join(f"{slot.model} {slot.active or ''}" for slot in slots).lower(),
        "drift": " ".join(drifts),
        "tag": " ".join(entry.tags).lower(),
        "owner": entry.owner.lower(),
        "id": entry.id or "",
    }


def matches(sight: Sight, terms: Iterable[Term]) -> bool:
    facts = facts_of(sight)

    def holds(term: Term) -> bool:
        if term.field:
            return term.value in facts[term.field]
        return any(term.value in fact for fact in facts.values())

    return all(holds(term) is not term.negated for term in terms)


SORTS = ("worst first", "name", "site", "model", "drift", "cpu", "temp", "seen")
_DRIFT_ORDER = ("both", "hardware", "data", "ok", "unknown")


def arranged(
    sights: Mapping[Key, Sight],
    *,
    terms: tuple[Term, ...] = (),
    faults_only: bool = False,
    sort: str = SORTS[0],
    backwards: bool = False,
    now: float,
) -> list[Key]:
    """Keys of the rows shown, in order: figures from the highest down. Equal rows stand by name, so a refresh never shuffles them."""

    def order(key: Key) -> object:
        sight = sights[key]
        hardware = sight.snapshot.resources if sight.snapshot else None
        match sort:
            case "site":
                return sight.entry.site
            case "model":
                return facts_of(sight)["model"]
            case "drift":
                verdicts = {each.verdict for each in sight.snapshot.drift} if sight.snapshot else set()
                return next((n for n, word in enumerate(_DRIFT_ORDER) if word in verdicts), len(_DRIFT_ORDER))
            case "cpu":
                return _falling(hardware.cpu_pct if hardware else None)
            case "temp":
                return _falling(hardware.soc_temp_c if hardware else None)
            case "seen":
                age = sight.age(now)
                return -age if age is not None else float("-inf")
        return _rank(sight.state) if sort == SORTS[0] else sight.entry.name

    shown = [
        key
        for key, sight in sights.items()
        if (not faults_only or sight.state in {"FAIL", "WARN", "OFF"}) and (not terms or matches(sight, terms))
    ]
    shown.sort(key=lambda key: sights[key].entry.name)
    return sorted(shown, key=order, reverse=backwards)  # type: ignore[arg-type]


def _falling(value: float | None) -> float:
    """What was not measured stands last."""
    return -value if value is not None else float("inf")


def _rank(state: str) -> int:
    return WORST_FIRST.index(state) if state in WORST_FIRST else len(WORST_FIRST)


def counts(sights: Mapping[Key, Sight]) -> dict[str, int]:
    """Devices by state word; `-` counts those not asked yet."""
    result = dict.fromkeys((*WORST_FIRST, "-"), 0)
    for sight in sights.values():
        result[sight.state if sight.state in result else "-"] += 1
    return result

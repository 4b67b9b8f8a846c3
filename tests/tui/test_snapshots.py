from collections.abc import Callable
from dataclasses import replace

import pytest

from fieldops.errors import Unreachable
from fieldops.fleet import Inventory
from fieldops.operations.observe import Snapshot
from fieldops.tui.snapshots import HISTORY_LENGTH, Key, Sight, SnapshotStore, arranged, counts, key_of, parse_filter

NOW = 1_795_000_000.0


@pytest.fixture
def sights(site: object) -> dict[Key, Sight]:
    snapshots: dict[str, Snapshot] = site.snapshots  # type: ignore[attr-defined]
    return {key_of(each.entry): Sight(each.entry, each, NOW) for each in snapshots.values()}


Names = Callable[..., list[str]]


@pytest.fixture
def names(sights: dict[Key, Sight]) -> Names:
    def shown(text: str = "", **options: object) -> list[str]:
        keys = arranged(sights, terms=parse_filter(text), now=NOW, **options)  # type: ignore[arg-type]
        return [sights[key].entry.name for key in keys]

    return shown


def test_the_worst_device_stands_first_and_equals_stand_by_name(names: Names) -> None:
    assert names()[:6] == ["oven-03", "cam-hot", "gate-12", "press-07", "gate-11", "cam-0001"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("drift:data", ["press-07"]),
        ("drift:hardware", ["cam-hot"]),
        ("st:off", ["gate-11"]),
        ("gate !st:off", ["gate-12"]),
        ("site:south !st:ok", ["oven-03", "press-07"]),
        ("link:lan", ["cam-hot"]),
        ("nothing-like-it", []),
    ],
)
def test_filter_terms_must_all_hold_and_can_be_turned_round(names: Names, text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_faults_only_hides_what_is_well(names: Names) -> None:
    assert names(faults_only=True) == ["oven-03", "cam-hot", "gate-12", "press-07", "gate-11"]


def test_sorting_by_temperature_puts_what_has_none_last(names: Names) -> None:
    order = names(sort="temp")
    assert order[0] == "cam-hot"
    assert order[-1] == "gate-11"


def test_states_are_counted_and_devices_not_asked_yet_as_well(sights: dict[Key, Sight]) -> None:
    sights[Key("new")] = Sight(replace(next(iter(sights.values())).entry, id=None, name="new"))
    assert counts(sights) == {"OK": 19, "BARE": 0, "WARN": 3, "FAIL": 1, "OFF": 1, "-": 1}


def test_a_device_that_went_away_keeps_its_last_values_with_their_time(site: object) -> None:
    snapshot: Snapshot = site.snapshots["cam-hot"]  # type: ignore[attr-defined]
    key = key_of(snapshot.entry)
    store = SnapshotStore()
    store.set_inventory(Inventory((snapshot.entry,)))
    store.put(key, snapshot, NOW)
    error = Unreachable("no connection", phase="tcp", next_step="check the cable")
    store.put(key, Snapshot(snapshot.entry, "-", "OFF", ("unreachable",), error=error), NOW + 60)
    sight = store.get(key)
    assert sight is not None
    assert sight.snapshot is not None
    assert (sight.state, sight.snapshot.resources, sight.snapshot.seen_at) == ("OFF", snapshot.resources, snapshot.seen_at)
    assert sight.age(NOW + 60) == pytest.approx(63)


def test_the_store_tells_what_changed_once_and_keeps_a_bounded_history(site: object) -> None:
    snapshot: Snapshot = site.snapshots["cam-0001"]  # type: ignore[attr-defined]
    key = key_of(snapshot.entry)
    store = SnapshotStore()
    store.set_inventory(Inventory((snapshot.entry,)))
    for _ in range(HISTORY_LENGTH + 10):
        store.put(key, snapshot, NOW)
    sights, changed = store.drain()
    assert changed == {key}
    assert len(sights[key].history) == HISTORY_LENGTH
    assert store.drain()[1] == frozenset()


def test_an_answer_of_a_device_that_left_the_inventory_is_dropped(site: object) -> None:
    snapshot: Snapshot = site.snapshots["cam-0001"]  # type: ignore[attr-defined]
    store = SnapshotStore()
    store.put(key_of(snapshot.entry), snapshot, NOW)
    assert store.drain() == ({}, frozenset())

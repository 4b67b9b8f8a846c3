"""From a device's ring over the laptop's own store to the centre: nothing twice, nothing silently missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.edges.pulled import PulledTelemetry
from fieldops.edges.telemetry import Telemetry
from fieldops.errors import DeviceCannot, StoreFault
from fieldops.fleet import DeviceEntry, DeviceId
from fieldops.operations import sync
from fieldops.operations.telemetry import bring, pull
from fieldops.ports import Queue
from fieldops.wire import (
    TELEMETRY_PAYLOAD_TYPE,
    TelemetryPage,
    TelemetryPart,
    TelemetryPush,
    TelemetryReply,
    encode,
    enveloped,
)
from tests.central.test_central_telemetry import record
from tests.central.test_sync import NearStore
from tests.operations.conftest import NearDevice

DEVICE = DeviceId("d" * 52)


class RingDevice(NearDevice):
    """A device as far as its telemetry goes: a real ring on disk."""

    entry = DeviceEntry(name="cam", id=DEVICE)

    def __init__(self, path: Path, kept: int = 4096) -> None:
        super().__init__()
        self.path, self.kept = path, kept
        self.ring = Telemetry(path, kept_records=kept)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.ring.record(record(0))

    def restart(self) -> None:
        self.ring.close()
        self.ring = Telemetry(self.path, kept_records=self.kept)

    def telemetry(self, after: int, deadline: Deadline, ring: str = "") -> TelemetryPage:
        found = self.ring.records(after, ring)
        return TelemetryPage(
            records=found.records,
            newest=found.newest,
            lost=found.lost,
            sizes={"routes": 13 * len(found.records)},
            ring=found.name,
            set_aside=self.ring.set_aside,
        )


class TakingStore(NearStore):
    """The near store, to which telemetry may be brought. faults: as for pushes, one a `bring`."""

    laptop: Any = None

    def bring(self, parts: list[TelemetryPart], deadline: Deadline) -> TelemetryReply:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreFault("gone", reason="unreachable", next_step="")
        signer = self.laptop.signer
        payload = encode(TelemetryPush(v=1, store=self.store.id, parts=parts))
        reply = self.store.take_telemetry(signer.laptop, enveloped(TELEMETRY_PAYLOAD_TYPE, payload, signer.laptop, signer.sign))
        if fault == "after":
            raise StoreFault("gone", reason="unreachable", next_step="")
        return reply


@pytest.fixture
def centre(store: LogStore, laptop: Any) -> TakingStore:
    laptop.let_in(store)
    made = TakingStore(store)
    made.laptop = laptop
    return made


@pytest.fixture
def device(tmp_path: Path) -> Any:
    made = RingDevice(tmp_path / "ring.db")
    yield made
    made.ring.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Any:
    made = PulledTelemetry(tmp_path / "home" / "telemetry.db")
    yield made
    made.close()


def numbers(store: LogStore, ring: str) -> list[int]:
    found: list[int] = []
    while page := store.telemetry.records(DEVICE, ring, found[-1] if found else 0)[0]:
        found += [msgspec.json.decode(body)["seq"] for body in page]
    return found


def test_all_that_is_new_is_pulled_once_and_passed_on_once(
    device: RingDevice, shelf: PulledTelemetry, centre: TakingStore, clock: Any, deadline: Deadline
) -> None:
    device.write(1203)
    pulled = pull(device, shelf, clock, deadline)
    assert (pulled.records, pulled.lost, pulled.new_ring, pulled.sizes["routes"]) == (1203, 0, False, 13 * 1203)
    assert pull(device, shelf, clock, deadline).records == 0
    assert shelf.queue().records == 1203
    assert bring(shelf, centre, deadline).records == 1203
    assert shelf.queue() == Queue(0, 0)
    assert bring(shelf, centre, deadline).records == 0
    device.write(2)
    assert pull(device, shelf, clock, deadline).records == 2
    assert bring(shelf, centre, deadline).records == 2
    [line] = centre.store.telemetry.devices()
    assert (line.records, line.missing, line.lost) == (1205, 0, 0)


def test_what_the_ring_overwrote_is_a_gap_all_the_way(
    tmp_path: Path, shelf: PulledTelemetry, centre: TakingStore, clock: Any, deadline: Deadline
) -> None:
    device = RingDevice(tmp_path / "small.db", kept=10)
    device.write(5)
    pull(device, shelf, clock, deadline)
    device.write(30)
    pulled = pull(device, shelf, clock, deadline)
    assert (pulled.records, pulled.lost) == (10, 20)
    bring(shelf, centre, deadline)
    [line] = centre.store.telemetry.devices()
    assert (line.records, line.newest, line.missing, line.lost) == (15, 35, 20, 20)
    device.ring.close()


def test_a_ring_that_was_set_aside_is_another_ring_from_one_on(
    device: RingDevice, shelf: PulledTelemetry, centre: TakingStore, clock: Any, deadline: Deadline
) -> None:
    device.write(50)
    pull(device, shelf, clock, deadline)
    device.ring.close()
    device.path.write_bytes(b"broken by a power cut")
    device.restart()
    device.write(3)
    pulled = pull(device, shelf, clock, deadline)
    assert (pulled.records, pulled.new_ring, pulled.set_aside) == (3, True, 1)
    bring(shelf, centre, deadline)
    assert sorted((line.records, line.set_aside) for line in centre.store.telemetry.devices()) == [(3, 1), (50, 0)]


@pytest.mark.parametrize("fault", ["before", "after"])
def test_lost_requests_and_answers_lose_and_double_nothing(
    device: RingDevice, shelf: PulledTelemetry, centre: TakingStore, clock: Any, deadline: Deadline, fault: str
) -> None:
    device.write(700)
    pull(device, shelf, clock, deadline)
    centre.faults = ["", fault]
    with pytest.raises(StoreFault):
        bring(shelf, centre, deadline)
    bring(shelf, centre, deadline)
    [line] = centre.store.telemetry.devices()
    assert numbers(centre.store, line.ring) == list(range(1, 701))


def test_sync_brings_the_log_first_and_telemetry_after_it(
    device: RingDevice, shelf: PulledTelemetry, centre: TakingStore, laptop: Any, clock: Any, deadline: Deadline
) -> None:
    laptop.write("a", "b")
    device.write(3)
    pull(device, shelf, clock, deadline)
    report = sync.push(laptop.journal, centre, clock, deadline, shelf=shelf)
    assert (report.pushed, report.telemetry) == (2, 3)
    again = sync.push(laptop.journal, centre, clock, deadline, shelf=shelf)
    assert (again.pushed, again.telemetry) == (0, 0)


def test_a_store_put_back_from_a_backup_gets_telemetry_again(
    device: RingDevice, shelf: PulledTelemetry, centre: TakingStore, laptop: Any, clock: Any, deadline: Deadline, tmp_path: Path
) -> None:
    laptop.write("a")
    device.write(3)
    pull(device, shelf, clock, deadline)
    sync.push(laptop.journal, centre, clock, deadline, shelf=shelf)
    restored = LogStore.open(tmp_path / "store2", clock)
    (tmp_path / "store2" / "keys" / "store.key").write_bytes((tmp_path / "store" / "keys" / "store.key").read_bytes())
    restored.close()
    restored = LogStore.open(tmp_path / "store2", clock)  # the same store, as it was before it knew anything
    laptop.let_in(restored)
    emptied = TakingStore(restored)
    emptied.laptop = laptop
    report = sync.push(laptop.journal, emptied, clock, deadline, shelf=shelf)
    assert (report.lost, report.pushed, report.telemetry) == (1, 1, 3)
    restored.close()


def test_beyond_its_limit_the_laptop_drops_what_was_sent_and_then_leaves_gaps(
    device: RingDevice, tmp_path: Path, centre: TakingStore, clock: Any, deadline: Deadline
) -> None:
    small = PulledTelemetry(tmp_path / "small" / "telemetry.db", limit_bytes=150_000)
    device.write(300)
    pull(device, small, clock, deadline)
    bring(small, centre, deadline)
    for _ in range(4):
        device.write(300)
        pull(device, small, clock, deadline)
    queued = small.queue()
    assert queued.size_bytes < 200_000
    bring(small, centre, deadline)
    [line] = centre.store.telemetry.devices()
    assert line.newest == 1500
    assert line.missing == line.lost == 1500 - line.records
    assert line.records == 300 + queued.records
    small.close()


@pytest.mark.parametrize("damage", [b"no database", bytes(8192)])
def test_a_damaged_file_of_the_laptop_costs_nothing_that_devices_still_have(
    device: RingDevice, tmp_path: Path, centre: TakingStore, clock: Any, deadline: Deadline, damage: bytes
) -> None:
    path = tmp_path / "home" / "telemetry.db"
    first = PulledTelemetry(path)
    device.write(5)
    pull(device, first, clock, deadline)
    bring(first, centre, deadline)
    first.close()
    path.write_bytes(damage)
    again = PulledTelemetry(path)
    device.write(2)
    assert pull(device, again, clock, deadline).records == 7
    brought = bring(again, centre, deadline)
    assert (brought.records, brought.duplicate) == (2, 5)
    assert path.with_name("telemetry.db.damaged").exists()
    again.close()


def test_a_device_without_an_agent_has_none(shelf: PulledTelemetry, clock: Any, deadline: Deadline) -> None:
    with pytest.raises(DeviceCannot):
        pull(NearDevice(), shelf, clock, deadline)


def test_two_laptops_at_one_device_make_one_history(
    device: RingDevice,
    shelf: PulledTelemetry,
    centre: TakingStore,
    new_laptop: Callable[[Path], Any],
    clock: Any,
    deadline: Deadline,
    tmp_path: Path,
) -> None:
    other = TakingStore(centre.store)
    other.laptop = new_laptop(tmp_path / "other.db")
    other.laptop.let_in(centre.store)
    theirs = PulledTelemetry(tmp_path / "theirs" / "telemetry.db")
    device.write(10)
    pull(device, shelf, clock, deadline)
    device.write(10)
    pull(device, theirs, clock, deadline)
    assert bring(theirs, other, deadline).records == 20
    late = bring(shelf, centre, deadline)
    assert (late.records, late.duplicate) == (0, 10)
    theirs.close()

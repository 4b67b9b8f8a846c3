"""Counts of devices at the centre: each record once, whoever brings it; what is missing is a number; signed and bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.edges.keys import Ed25519Signer
from fieldops.edges.store_api import HttpStore
from fieldops.errors import StoreFault
from fieldops.wire import (
    TELEMETRY_PAYLOAD_TYPE,
    TelemetryGap,
    TelemetryPart,
    TelemetryPush,
    TelemetryRecord,
    TelemetryReply,
    encode,
    enveloped,
)

DEVICE = "d" * 52


def record(seq: int, **more: Any) -> TelemetryRecord:
    given: dict[str, Any] = {
        "started": 60.0 * seq,
        "ended": 60.0 * seq + 60,
        "boot_id": "b",
        "uptime_s": 1.0,
        "model": "digits",
        "version": "1.0.0",
        "state": "settled",
        "requests": 10,
        "failed": 1,
        "routes": {"core": 9},
        "rested": {},
        "latency": {"3": 8, "20": 1},
        "drift": {"input.mean": 2},
        "counted": 9,
        "soc_temp_c": 55.0,
        "throttled": False,
        "battery_pct": None,
    }
    return TelemetryRecord(seq=seq, **(given | more))


def part(seqs: list[int], *, gaps: list[TelemetryGap] | None = None, ring: str = "r1", **more: Any) -> TelemetryPart:
    return TelemetryPart(
        device=DEVICE, ring=ring, records=[msgspec.Raw(encode(record(seq))) for seq in seqs], gaps=gaps or [], **more
    )


def bring(store: LogStore, laptop: Any, *parts: TelemetryPart, to: str | None = None, by: Any = None) -> TelemetryReply:
    push = TelemetryPush(v=1, store=to or store.id, parts=list(parts))
    signer = by or laptop.signer
    data = enveloped(TELEMETRY_PAYLOAD_TYPE, encode(push), signer.laptop, signer.sign)
    return store.take_telemetry(laptop.signer.laptop, data)


def test_each_record_is_there_once_whichever_laptop_brings_it(
    store: LogStore, laptop: Any, new_laptop: Callable[[Path], Any], tmp_path: Path
) -> None:
    other = new_laptop(tmp_path / "other.db")
    laptop.let_in(store)
    other.let_in(store)
    assert bring(store, laptop, part([1, 2, 3])) == TelemetryReply(accepted=3, duplicate=0)
    assert bring(store, laptop, part([1, 2, 3])) == TelemetryReply(accepted=0, duplicate=3)
    assert bring(store, other, part([2, 3, 4])) == TelemetryReply(accepted=1, duplicate=2)
    [line] = store.telemetry.devices()
    assert (line.records, line.newest, line.missing, line.requests, line.failed) == (4, 4, 0, 40, 4)
    assert (line.routes, line.drift, line.laptop) == ({"core": 36}, {"input.mean": 8}, other.signer.laptop)
    assert line.p50_ms == pytest.approx(1.1**2.5)
    bodies, gaps = store.telemetry.records(DEVICE, "r1", 2)
    assert ([msgspec.json.decode(body)["seq"] for body in bodies], gaps) == ([3, 4], [])


def test_what_is_missing_is_a_number_and_what_is_lost_for_good_another(store: LogStore, laptop: Any) -> None:
    laptop.let_in(store)
    gap = TelemetryGap(after=2, upto=6, why="device")
    bring(store, laptop, part([1, 2, 6, 9], gaps=[gap], set_aside=1))
    [line] = store.telemetry.devices()
    assert (line.records, line.newest, line.missing, line.lost, line.set_aside) == (4, 9, 5, 3, 1)
    bring(store, laptop, part([4, 7, 8]))  # another laptop had been there before it was overwritten
    [line] = store.telemetry.devices()
    assert (line.missing, line.lost) == (2, 2)
    assert store.telemetry.records(DEVICE, "r1", 0)[1] == [gap]


def test_rings_of_one_device_are_told_apart(store: LogStore, laptop: Any) -> None:
    laptop.let_in(store)
    bring(store, laptop, part([1, 2]), part([1], ring="r2", set_aside=1))
    assert sorted((line.ring, line.records) for line in store.telemetry.devices()) == [("r1", 2), ("r2", 1)]


def test_a_record_of_a_later_version_is_kept_as_it_came(store: LogStore, laptop: Any) -> None:
    laptop.let_in(store)
    body = b'{"seq":1,"something":"new"}'
    bring(store, laptop, TelemetryPart(device=DEVICE, ring="r", records=[msgspec.Raw(body)]))
    assert store.telemetry.records(DEVICE, "r", 0)[0] == [body]
    assert store.telemetry.devices() == []


def bad() -> dict[str, Callable[[LogStore, Any], object]]:
    strange = Ed25519Signer.generate()
    return {
        "bad_signature": lambda store, laptop: bring(store, laptop, part([1]), by=strange),
        "other_store": lambda store, laptop: bring(store, laptop, part([1]), to="x" * 52),
        "malformed": lambda store, laptop: bring(
            store, laptop, part([1]), TelemetryPart(device=DEVICE, ring="r", records=[msgspec.Raw(b"{}")])
        ),
    }


@pytest.mark.parametrize(("reason", "send"), bad().items())
def test_what_is_not_signed_for_this_store_leaves_nothing(
    store: LogStore, laptop: Any, reason: str, send: Callable[[LogStore, Any], object]
) -> None:
    laptop.let_in(store)
    with pytest.raises(StoreFault) as refused:
        send(store, laptop)
    assert refused.value.reason == reason
    assert store.telemetry.devices() == []


def test_a_revoked_laptop_brings_no_counts(store: LogStore, laptop: Any) -> None:
    laptop.let_in(store)
    store.laptops.revoke(laptop.signer.laptop, "")
    with pytest.raises(StoreFault) as refused:
        bring(store, laptop, part([1]))
    assert refused.value.reason == "revoked"


def test_page_and_json_show_what_was_brought(program: Any, laptop: Any, clock: Any, deadline: Deadline) -> None:
    url = program.start()
    program.let_in(laptop, clock)
    reply = HttpStore(url, laptop.signer).bring([part([1, 2, 4])], deadline)
    assert reply == TelemetryReply(accepted=3, duplicate=0)
    [line] = httpx.get(f"{url}/v1/devices").json()["devices"]
    assert (line["device"], line["records"], line["missing"], line["soc_temp_c"]) == (DEVICE, 3, 1, 55.0)
    shown = httpx.get(f"{url}/v1/devices/{DEVICE}/telemetry", params={"ring": "r1", "after": 1}).json()
    assert [each["seq"] for each in shown["records"]] == [2, 4]
    assert httpx.get(f"{url}/v1/devices", params={"limit": 0}).json()["devices"] == []
    assert httpx.get(f"{url}/v1/devices", params={"limit": "many"}).status_code == 422
    page = httpx.get(url).text
    assert "digits 1.0.0" in page
    assert "55 °C" in page
    assert ">1</span>, 0 for good" in page

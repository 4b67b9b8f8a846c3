"""Devices that are not known well yet: who answers, an entry from what was typed, and how each is judged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from fieldops.deadline import Deadline
from fieldops.drift.report import DriftReport
from fieldops.edges.inventory import FleetFile
from fieldops.errors import Cancelled, DeviceCannot, LinkLost, Unreachable, UsageFault
from fieldops.fleet import Address, DeviceEntry, DeviceId, Hint, Resources, Serving
from fieldops.operations import discover, hostkeys, intake, inventory, observe
from fieldops.operations.gate import Words
from fieldops.operations.hostkeys import OfferedKey
from fieldops.wire import DriftReports, Hello
from tests.operations.conftest import DEVICE_ID, ENTRY, Laptop, NearDevice, digits, held

OTHER = DeviceId("b" * 52)
NEW = DeviceEntry(name="cam-02", lan=Address("192.0.2.2", 8443))


def hello(device: str) -> Hello:
    return Hello(device=device, public_key="", versions=(1, 1), agent="1", enrolled=False, boot_id="b", time=1.0)


# --- who answers -----------------------------------------------------------------------------------------------------------


def test_known_devices_come_first_and_a_stranger_gets_a_name_of_its_own(laptop: Laptop) -> None:
    hints = [Hint(name="cam-01", lan=Address("192.0.2.9", 1)), Hint(name="Not A Name", lan=Address("192.0.2.8", 1), id=OTHER)]
    found = discover.discover([ENTRY, NEW], hints, lambda entry, _: hello(entry.name), laptop.deadline())
    assert [(each.entry.name, each.known) for each in found] == [
        ("cam-01", True),
        ("cam-02", True),
        ("cam-01-2", False),
        (f"dev-{OTHER[:8]}", False),
    ]


def test_a_known_device_that_answers_only_at_a_new_address_counts_as_answering(laptop: Laptop) -> None:
    moved = Address("192.0.2.7", 8443)

    def ask(entry: DeviceEntry, _: Deadline) -> Hello:
        if entry.lan != moved:
            raise Unreachable("refused", phase="tcp", next_step="look")
        return hello(DEVICE_ID)

    (found,) = discover.discover([ENTRY], [Hint(name="x", lan=moved, id=DEVICE_ID)], ask, laptop.deadline())
    assert (found.entry.lan, found.known, found.error) == (moved, True, None)


def test_who_does_not_answer_says_why_and_nobody_is_asked_where_there_is_nobody(laptop: Laptop) -> None:
    def away(entry: DeviceEntry, _: Deadline) -> Hello:
        raise Unreachable("refused", phase="tcp", next_step="look")

    (found,) = discover.discover([ENTRY], [], away, laptop.deadline())
    assert (found.hello, found.error and found.error.device) == (None, "cam-01")
    assert discover.discover([], [], away, laptop.deadline()) == ()
    stopped = laptop.deadline()
    stopped.cancel.cancel()
    with pytest.raises(Cancelled):
        discover.discover([ENTRY], [], away, stopped)


def test_an_address_that_is_none_is_said_with_an_example() -> None:
    assert discover.addressed(["192.0.2.7:8443"])[0].lan == Address("192.0.2.7", 8443)
    with pytest.raises(UsageFault) as refused:
        discover.addressed(["nowhere"])
    assert "192.0.2.7:8443" in refused.value.next_step


# --- the inventory ------------------------------------------------------------------------------------------------------------


def test_what_was_typed_becomes_an_entry_or_all_its_faults_at_once() -> None:
    entry = inventory.entry_of("cam-03", "tech@192.0.2.3", "192.0.2.3:8443", site="north", tags=["hot"])
    assert (str(entry.ssh), str(entry.lan), entry.tags) == ("tech@192.0.2.3:22", "192.0.2.3:8443", ("hot",))
    with pytest.raises(UsageFault) as refused:
        inventory.entry_of("Cam 3", "tech@:x", "nowhere")
    assert [word for word in ("'Cam 3'", "'tech@:x'", "'nowhere'") if word not in refused.value.message] == []
    with pytest.raises(UsageFault, match="no address"):
        inventory.entry_of("cam-03", "", "")


def test_a_device_is_added_once_and_taken_out_again_through_the_gate(laptop: Laptop, tmp_path: Path) -> None:
    file = FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts")
    gate = laptop.allowed()
    inventory.add(gate, file, NEW, words=Words("new line", "T-1"))
    with pytest.raises(UsageFault) as known:
        inventory.add(gate, file, NEW)
    assert known.value.reason == "known_device"
    inventory.change(gate, file, inventory.removing(NEW))
    assert file.read().devices == ()
    assert [(entry.act, entry.ticket) for entry in laptop.entries() if entry.phase == "intent"] == [
        ("AddDevice", "T-1"),
        ("RemoveDevice", ""),
    ]


@pytest.mark.parametrize(
    ("verdict", "known", "words"),
    [
        ("ok", ("SHA256:a",), ""),
        ("unknown", (), "trust ssh-ed25519 SHA256:n of tech@192.0.2.3:22"),
        ("changed", ("SHA256:a",), "trust ssh-ed25519 SHA256:n of tech@192.0.2.3:22 in place of SHA256:a"),
    ],
)
def test_what_trusting_a_host_key_comes_to_is_said(verdict: str, known: tuple[str, ...], words: str) -> None:
    entry = inventory.entry_of("cam-03", "tech@192.0.2.3", "")
    offered = OfferedKey("ssh-ed25519", b"", "SHA256:n", verdict, known)  # type: ignore[arg-type]
    assert hostkeys.in_words(entry, offered) == words


def test_an_intake_says_all_that_does_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(UsageFault) as refused:
        intake.intake(lan="nowhere", foreign="digits:/x")
    for word in ("--lan needs --kit", "--foreign needs --kit", "'digits:/x'", "'nowhere'"):
        assert word in refused.value.message
    fits = intake.intake(kit=tmp_path, lan="192.0.2.3:8443", foreign="digits=/srv/m.onnx", adopt=True, expect="A" * 43)
    assert (fits.foreign, fits.expected) == (("digits", "/srv/m.onnx"), f"SHA256:{'A' * 43}")


# --- how it is ---------------------------------------------------------------------------------------------------------------


def at(device: NearDevice) -> observe.Connect:
    def connect(entry: DeviceEntry, deadline: Deadline) -> AbstractContextManager[NearDevice]:
        return device.connect(deadline)

    return connect


def test_a_device_in_order_is_ok(laptop: Laptop) -> None:
    seen = observe.snapshot(at(NearDevice("done", digits())), ENTRY, laptop.deadline(), lambda: 5.0)
    assert (seen.state, seen.reasons, seen.link, seen.seen_at, seen.error) == ("OK", (), "local", 5.0, None)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unreachable("refused", phase="tcp", next_step="look"), "OFF"),
        (LinkLost("gone", next_step="look"), "OFF"),
        (DeviceCannot("busy", reason="busy", next_step="wait"), "FAIL"),
    ],
)
def test_a_device_that_cannot_be_read_says_why(laptop: Laptop, error: Unreachable, state: str) -> None:
    device = NearDevice("done", digits())
    device.failing = error
    seen = observe.snapshot(at(device), ENTRY, laptop.deadline(), lambda: 5.0)
    assert (seen.state, seen.error, seen.seen_at) == (state, error, None)


def test_a_person_who_stops_is_not_a_fault_of_the_device(laptop: Laptop) -> None:
    device = NearDevice("done", digits())
    device.failing = Cancelled()
    with pytest.raises(Cancelled):
        observe.snapshot(at(device), ENTRY, laptop.deadline(), lambda: 5.0)


@pytest.mark.parametrize(
    ("slot", "hardware", "state", "reason"),
    [
        ({"state": "needs_human"}, {}, "FAIL", "digits needs a person"),
        ({"active": None}, {}, "FAIL", "digits does not answer"),
        ({"state": "trial"}, {}, "WARN", "digits on trial"),
        ({"versions": [held("1.1.0", "active", signed_by="")]}, {}, "WARN", "digits is unsigned"),
        ({}, {"throttled": True, "throttle_reason": "frequency capped"}, "WARN", "throttled (frequency capped)"),
        ({}, {"throttled": True, "throttle_reason": "throttled"}, "WARN", "throttled"),
        ({}, {"quota_bytes": 100, "quota_used_bytes": 100}, "WARN", "storage quota used up"),
        ({}, {"disk_free_bytes": 1, "disk_total_bytes": 1000}, "WARN", "disk nearly full"),
        ({}, {"mem_available_bytes": 1, "mem_total_bytes": 1000}, "WARN", "memory nearly full"),
        (
            {},
            {
                "serving": [
                    Serving(
                        model="digits", version="1.1.0", requests=9, failed=0, rate_per_s=1.0, p50_ms=9.0, baseline_p50_ms=1.0
                    )
                ]
            },
            "WARN",
            "digits slow",
        ),
    ],
)
def test_each_trouble_has_its_few_words(
    laptop: Laptop, slot: dict[str, object], hardware: dict[str, object], state: str, reason: str
) -> None:
    device = NearDevice("done", digits(**slot))
    device.hardware = msgspec.structs.replace(Resources(read_at=1.0, boot_id="b", uptime_s=1.0, cpu_count=1), **hardware)
    seen = observe.snapshot(at(device), ENTRY, laptop.deadline(), lambda: 5.0)
    assert (seen.state, reason in seen.reasons) == (state, True), seen.reasons


class Bare(NearDevice):
    """No agent: it says how its machine is, and nothing of models."""

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        raise DeviceCannot("no agent", reason="no_agent", next_step="enrol it")


def test_a_bare_device_is_shown_without_models(laptop: Laptop) -> None:
    seen = observe.snapshot(at(Bare("done", digits())), ENTRY, laptop.deadline(), lambda: 5.0)
    assert (seen.state, seen.models, seen.resources is not None) == ("OK", None, True)


def test_readings_are_the_devices_own_and_a_model_that_is_not_there_is_named(laptop: Laptop) -> None:
    device, deadline = NearDevice("done", digits()), laptop.deadline()
    assert observe.resources(device, deadline) is device.hardware
    assert [slot.model for slot in observe.models(device, deadline).slots] == ["digits"]
    assert [each.model for each in observe.drift(device, deadline)] == ["digits"]
    with pytest.raises(UsageFault) as unknown:
        observe.drift(device, deadline, "meters")
    assert "digits" in unknown.value.next_step


def test_the_report_of_drift_travels_as_counts_either_way() -> None:
    report = DriftReport(model="digits", version="1.1.0", reference=None, windows=[])
    assert report.for_a_slow_line().plain() == report

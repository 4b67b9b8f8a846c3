"""What a visit may leave undone is named; a device that goes away in the middle costs only what was not reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.pulled import PulledTelemetry
from fieldops.edges.visits import VisitFolder
from fieldops.errors import DeviceCannot, LinkLost
from fieldops.fleet import Address, DeviceEntry
from fieldops.operations import readiness, visit
from fieldops.policy import NO_POLICY, Actor, Person, PolicyDocument
from fieldops.ports import TrustFacts
from fieldops.wire import JournalPage, ModelsReport, SlotState, SlotStatus
from tests.operations.conftest import DEVICE_ID, Laptop, NearDevice

DAY = readiness.DAY_S


def slot(state: SlotState, *, armed: float | None = None) -> SlotStatus:
    return SlotStatus(
        model="digits",
        task="digits",
        state=state,
        active="1.0.0",
        last_good="1.0.0",
        candidate="1.1.0",
        floor=0,
        deadline_s=42.4 if state == "trial" else None,
        armed_from=armed,
        armed_until=armed + 3600 if armed is not None else None,
    )


@pytest.mark.parametrize(
    ("state", "armed", "told"),
    [
        ("trial", None, "digits 1.1.0 is on trial, 42 s left: not committed, it goes back by itself"),
        ("committed", None, "digits 1.1.0 is on probation: the device may still take it back by itself"),
        ("staged", None, "digits 1.1.0 is staged and not activated"),
        ("needs_human", None, "digits 1.1.0 needs a person: last-good itself is damaged"),
        ("staged", 0.0, "digits 1.1.0 is armed: the device tries it alone from 1970-01-01 00:00Z to 1970-01-01 01:00Z"),
    ],
)
def test_what_is_not_over_is_a_sentence(state: SlotState, armed: float | None, told: str) -> None:
    assert visit.pending(ModelsReport(read_at=0.0, slots=[slot(state, armed=armed)]), "me") == [told]


@pytest.mark.parametrize("state", ["idle", "settled", "reverted"])
def test_what_is_over_is_not_told(state: SlotState) -> None:
    assert visit.pending(ModelsReport(read_at=0.0, slots=[slot(state)], lease_holder="me"), "me") == []


def test_another_laptops_lease_is_told() -> None:
    report = ModelsReport(read_at=0.0, slots=[], lease_holder="abcdefghijk")
    assert visit.pending(report, "me") == ["laptop abcdefgh holds the device for changes"]


class GoesAway(NearDevice):
    """Answers hello and models; then the cable is out."""

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        raise LinkLost("the cable is out", next_step="plug it in")


def test_a_device_that_goes_away_in_the_middle_leaves_what_was_reached(laptop: Laptop, tmp_path: Path) -> None:
    shelf, folder, clock = PulledTelemetry(tmp_path / "telemetry.db"), VisitFolder(tmp_path / "visit"), SystemClock()
    left = visit.leave(laptop.allowed(), GoesAway("done", slot("trial")), shelf, folder, clock, laptop.deadline())
    assert left.error is not None
    assert (left.id, len(left.pending), left.error.reason, left.error.device) == (DEVICE_ID, 1, "link_lost", "cam-01")
    report = visit.close(laptop.allowed(), [left], shelf, folder, clock)
    assert [warning.partition(": ")[2][:22] for warning in report.warnings] == [
        "digits 1.1.0 is on tri",
        "not reached to the end",
    ]
    assert laptop.entries()[-1].act == "visit.close"
    assert sorted(path.name for path in folder.path.iterdir()) == ["report.json", "report.txt"]


class Bare(NearDevice):
    """A login, and no agent."""

    def models(self, deadline: Deadline) -> ModelsReport:
        raise DeviceCannot("no agent runs there", reason="no_agent", next_step="enrol it")


def test_a_device_without_an_agent_is_no_failure(laptop: Laptop, tmp_path: Path) -> None:
    shelf, folder = PulledTelemetry(tmp_path / "telemetry.db"), VisitFolder(tmp_path / "visit")
    left = visit.leave(laptop.allowed(), Bare(), shelf, folder, SystemClock(), laptop.deadline())
    assert (left.error, left.pending) == (None, ["has no agent, so there is nothing to take along"])


GOOD = TrustFacts(root_version=1, root_sha256="x", timestamp_version=5, expires=30 * DAY, clock_floor=0.0, clock_behind=False)
POLICY = PolicyDocument(v=1, roles={"technician": ["*"]}, people={"SHA256:k": Person(role="technician", until=10 * DAY)})
KIM = Actor("person", "SHA256:k")


@pytest.mark.parametrize(
    ("facts", "policy", "actor", "days", "missing"),
    [
        (GOOD, POLICY, KIM, 7, ()),
        (GOOD, POLICY, KIM, 31, ("the signed metadata expires 1970-01-31 00:00Z", "your role technician ends")),
        (GOOD, POLICY, KIM, 11, ("your role technician ends before the visit does",)),
        (GOOD, POLICY, Actor("local", "kim"), 7, ("local:kim has no role",)),
        (GOOD, NO_POLICY, KIM, 7, ("the signed metadata carries no policy",)),
    ],
)
def test_what_does_not_hold_until_the_visit_ends_is_missing(
    facts: TrustFacts, policy: PolicyDocument, actor: Actor, days: float, missing: tuple[str, ...]
) -> None:
    found = [each for each in readiness.of_trust(facts, policy, actor, 0.0, days * DAY) if not each.ok]
    assert len(found) == len(missing)
    assert all(each.detail.startswith(words) and each.next for each, words in zip(found, missing, strict=True))


def test_a_device_is_ready_where_it_can_be_reached() -> None:
    only_lan = DeviceEntry(name="cam", lan=Address("127.0.0.1", 9), id=DEVICE_ID)
    assert [each.ok for each in readiness.of_devices([only_lan], [DEVICE_ID])] == [True]
    assert [each.ok for each in readiness.of_devices([only_lan], [])] == [False]

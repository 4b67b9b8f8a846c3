"""A signed runbook against a device in this process: its record on disk, its undo, what is resumed and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fieldops.deadline import Deadline
from fieldops.edges.runs import RunFolder
from fieldops.errors import FieldopsError, LinkLost, PolicyRefused, UsageFault
from fieldops.fleet import Resources, Serving
from fieldops.operations import runbook
from fieldops.operations.gate import Words
from fieldops.operations.runbook import RunReport
from fieldops.policy import Person, PolicyDocument
from fieldops.ports import RunRecord
from fieldops.runbooks.engine import Action, Fact
from fieldops.runbooks.format import parse
from fieldops.steps import Activate, Commit, Revert, Step
from fieldops.wire import StepRecord, StepState
from tests.operations.conftest import Laptop, NearDevice, digits

HEAD = "schema: fieldops.runbook/v1\nid: trial\ntitle: A trial\nparams: {device: {type: device, required: true}}\n"
BACK = """\
requires:
  - {check: link.up}
  - {check: model.present, with: {model: digits}}
  - {check: model.last_good, with: {model: digits}}
  - {check: load.below, with: {cpu_pct: 90}}
  - {check: temperature.below, with: {celsius: 80}}
  - {check: disk.free, with: {mib: 10}}
  - {check: cause.is_not, with: {model: digits, verdict: hardware}}
steps:
  - {id: look, do: observe, with: {model: digits}, effect: none, explain: look}
  - id: back
    do: model.revert
    with: {model: digits}
    effect: reversible
    explain: last-good is known to work
    undo: {do: model.activate, with: {model: digits, version: "${back.previous}"}}
  - {id: check, do: health.check, with: {model: digits, version: "${back.version}", max_failed: 0}, effect: none, explain: healthy}
on_fail: undo_all
"""
TRIAL = """\
steps:
  - id: on
    do: model.activate
    with: {model: digits, version: 1.2.0, trial_s: 60}
    effect: reversible
    explain: try it
    undo: {do: model.revert, with: {model: digits}}
  - {id: figures, do: bench.run, with: {model: digits, samples: 64}, effect: none, explain: measure}
  - id: keep
    do: model.commit
    with: {model: digits, version: 1.2.0}
    effect: irreversible
    explain: keep it
on_fail: undo_all
"""


class Play:
    """One runbook on one device."""

    def __init__(self, laptop: Laptop, folder: Path, text: str, device: NearDevice) -> None:
        self.laptop, self.device = laptop, device
        self.data = (HEAD + text).encode()
        self.runs = RunFolder(folder / "runs", laptop.clock)
        self.record: RunRecord = self.runs.create()
        self.told: list[tuple[str, bool | None]] = []

    def begin(self) -> None:
        book = parse(self.data, "runbook.yaml")
        runbook.begin(self.laptop.allowed(), book, self.data, {"device": "cam-01"}, self.record, words=Words("drift", "T-7"))

    def run(self, deadline: Deadline | None = None, on_action: Callable[[Action, Fact | None], None] | None = None) -> RunReport:
        record = self.runs.open(self.record.id)  # as another process would
        return runbook.run(
            self.laptop.allowed(),
            record,
            self.device.connect,
            deadline or self.laptop.deadline(),
            on_action=on_action or self._tell,
        )

    def _tell(self, action: Action, fact: Fact | None) -> None:
        self.told.append((action.id, fact.ok if fact is not None else None))


Playing = Callable[..., Play]


@pytest.fixture
def playing(laptop: Laptop, tmp_path: Path) -> Playing:
    def make(text: str, device: NearDevice) -> Play:
        play = Play(laptop, tmp_path, text, device)
        play.begin()
        return play

    return make


def test_a_run_to_its_end_leaves_its_facts_on_disk_and_both_ends_in_the_log(playing: Playing) -> None:
    play = playing(BACK, NearDevice("done", digits()))
    report = play.run()
    assert (report.outcome, report.exit_code) == ("committed", 0)
    assert [name for name, *_ in report.steps][-3:] == ["look", "back", "check"]
    assert all(ok for _, _, ok in report.steps)
    assert play.device.slots["digits"].active == "1.0.0"
    entries = play.laptop.entries()
    assert [entry.act for entry in entries] == ["runbook.begin", "Revert", "Revert", "runbook.end"]
    assert {entry.ticket for entry in entries} == {"T-7"}
    assert play.told[:2] == [("link.up", None), ("link.up", True)]


def test_a_run_that_is_over_is_only_shown(playing: Playing) -> None:
    play = playing(BACK, NearDevice("done", digits()))
    first = play.run()
    changes = len(play.device.done)
    assert play.run() == first
    assert len(play.device.done) == changes


def failing_requests() -> Resources:
    serving = Serving(model="digits", version="1.0.0", requests=9, failed=3, rate_per_s=1.0)
    return Resources(read_at=1.0, boot_id="b", uptime_s=1.0, cpu_count=1, serving=[serving])


def test_what_fails_after_a_change_is_undone(playing: Playing) -> None:
    device = NearDevice("done", digits())
    device.hardware = failing_requests()
    report = playing(BACK, device).run()
    assert (report.outcome, report.at, report.exit_code) == ("reverted", "check", 6)
    assert [type(step) for step in device.done] == [Revert, Activate, Commit]
    assert device.slots["digits"].active == "1.1.0"


def test_an_undo_that_fails_as_well_needs_a_person(playing: Playing) -> None:
    device = NearDevice("failed", digits())
    device.answers = ["done"]
    device.hardware = failing_requests()
    report = playing(BACK, device).run()
    assert (report.outcome, report.exit_code) == ("undo_failed", 10)


@pytest.mark.parametrize(
    ("hardware", "at"),
    [
        ({"cpu_pct": 99.0}, "load.below"),
        ({"soc_temp_c": 95.0}, "temperature.below"),
        ({"disk_free_bytes": 1 << 20}, "disk.free"),
    ],
)
def test_a_requirement_that_does_not_hold_refuses_before_any_change(
    playing: Playing, hardware: dict[str, float], at: str
) -> None:
    device = NearDevice("done", digits())
    device.hardware = Resources(read_at=1.0, boot_id="b", uptime_s=1.0, cpu_count=1, **hardware)  # type: ignore[arg-type]
    report = playing(BACK, device).run()
    assert (report.outcome, report.at, device.done) == ("refused", at, [])
    assert report.failed is not None
    assert "limit" in report.failed.message


@pytest.mark.parametrize("slot", [digits(active=None), digits(last_good=None)])
def test_a_device_without_the_versions_it_needs_is_refused(playing: Playing, slot: object) -> None:
    device = NearDevice("done", slot)  # type: ignore[arg-type]
    assert (playing(BACK, device).run().outcome, device.done) == ("refused", [])


@pytest.mark.parametrize(
    ("answer", "outcome", "code"),
    [
        ("failed", "refused", 6),
        (LinkLost("the cable is out", next_step="plug it in"), "refused", 5),
    ],
)
def test_a_first_change_that_fails_has_nothing_to_undo_and_its_own_exit_code(
    playing: Playing, answer: StepState | FieldopsError, outcome: str, code: int
) -> None:
    report = playing(TRIAL, NearDevice(answer, digits())).run()
    assert (report.outcome, report.at, report.exit_code) == (outcome, "on", code)


def test_a_trial_is_measured_and_kept(playing: Playing) -> None:
    device = NearDevice("done", digits())
    assert playing(TRIAL, device).run().outcome == "committed"
    assert device.slots["digits"].active == "1.2.0"


class LaptopDies(Exception):
    """As a power cut: nothing after it happens."""


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_a_run_cut_off_anywhere_goes_on_from_its_facts_and_changes_nothing_twice(playing: Playing, at: int) -> None:
    device = NearDevice("done", digits())
    play = playing(TRIAL, device)
    seen = 0

    def dying(action: Action, fact: Fact | None) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            raise LaptopDies

    with pytest.raises(LaptopDies):
        play.run(on_action=dying)
    assert runbook.status(play.runs.open(play.record.id)).outcome is None
    report = play.run()
    assert report.outcome == "committed"
    kinds: list[type[Step]] = [type(step) for step in device.done]
    assert (kinds.count(Activate), kinds.count(Commit)) == (1, 1)


class DiesAfter(NearDevice):
    """The device makes the change; the laptop dies before it hears of it. at: which change."""

    def __init__(self, at: int) -> None:
        super().__init__("done", digits())
        self.at = at

    def apply(self, *given: Any, **more: Any) -> StepRecord:
        record = super().apply(*given, **more)
        if len(self.done) == self.at:
            self.at = 0
            raise LaptopDies
        return record


@pytest.mark.parametrize("at", [1, 2])
def test_a_change_that_the_dead_laptop_never_heard_of_is_not_made_twice(playing: Playing, at: int) -> None:
    device = DiesAfter(at)
    play = playing(TRIAL, device)
    with pytest.raises(LaptopDies):
        play.run()
    assert play.run().outcome == "committed"
    assert [type(step) for step in device.done].count(Activate) == 1
    assert {entry.result.status for entry in play.laptop.entries() if entry.result is not None} >= {"done", "unknown"}


@pytest.mark.parametrize("at", [2, 3])
def test_an_undo_that_was_cut_off_is_ended_and_not_begun_again(playing: Playing, at: int) -> None:
    device = DiesAfter(at)
    device.hardware = failing_requests()
    play = playing(BACK, device)
    with pytest.raises(LaptopDies):
        play.run()
    assert play.run().outcome == "reverted"
    assert [type(step) for step in device.done].count(Activate) == 1
    assert device.slots["digits"].active == "1.1.0"


def test_a_cancelled_run_ends_as_such(playing: Playing) -> None:
    play = playing(TRIAL, NearDevice("done", digits()))
    deadline = play.laptop.deadline()

    def stop(action: Action, fact: Fact | None) -> None:
        deadline.cancel.cancel()

    report = play.run(deadline, on_action=stop)
    assert (report.outcome, report.exit_code, play.device.done) == ("cancelled", 130, [])


def test_a_role_that_may_not_run_it_is_recorded_and_nothing_begins(laptop: Laptop, tmp_path: Path) -> None:
    data = (HEAD + "roles: [lead]\n" + TRIAL).encode()
    gate = laptop.gate(PolicyDocument(v=1, roles={"technician": ["*"]}, people={laptop.person: Person(role="technician")}))
    record = RunFolder(tmp_path / "runs", laptop.clock).create()
    with pytest.raises(PolicyRefused):
        runbook.begin(gate, parse(data, "runbook.yaml"), data, {"device": "cam-01"}, record, words=Words())
    assert record.lines() == []
    (note,) = laptop.entries()
    assert note.result is not None
    assert (note.act, note.result.status) == ("runbook.run", "refused")


@pytest.mark.parametrize("lines", [[], [b'{"type":"end","outcome":"committed"}'], [b'{"type":"what"}']])
def test_a_file_that_is_no_run_is_said_to_be_none(laptop: Laptop, tmp_path: Path, lines: list[bytes]) -> None:
    record = RunFolder(tmp_path / "runs", laptop.clock).create()
    for line in lines:
        record.append(line)
    with pytest.raises(UsageFault) as refused:
        runbook.status(record)
    assert refused.value.reason == "bad_file"


def test_a_device_that_nobody_reaches_is_a_fact_with_its_reason(laptop: Laptop, tmp_path: Path) -> None:
    play = Play(
        laptop, tmp_path, TRIAL.replace("steps:", "requires: [{check: link.up}]\nsteps:", 1), NearDevice("done", digits())
    )
    play.begin()

    def away(deadline: Deadline) -> AbstractContextManager[NearDevice]:
        raise LinkLost("nobody answers", next_step="plug it in")

    report = runbook.run(laptop.allowed(), play.record, away, laptop.deadline())
    assert (report.outcome, report.exit_code) == ("refused", 5)

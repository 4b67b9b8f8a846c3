"""Changes as the console leads to them: plan in a thread, ask, perform in a thread, show the outcome.

What may be done and what it does is said by operations and policy; this only carries questions and answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fieldops.errors import UsageFault
from fieldops.operations.gate import Words
from fieldops.tui.jobs import Job
from fieldops.tui.panels import asking
from fieldops.tui.panels import change as panel
from fieldops.tui.panels.ink import page

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.policy import Decision
    from fieldops.steps import Step
    from fieldops.tui.applying import Applying
    from fieldops.tui.front import Front
    from fieldops.tui.panels.asking import Answer
    from fieldops.tui.snapshots import Key, Sight
    from fieldops.wire import BenchResult, SlotStatus, StepRecord

PLAN_S = 60.0
CHANGE_S = 900.0
BENCH_S = 300.0


class Changes:
    """Commands `do_sideload`, `do_rollback`, `do_commit`, `do_disarm`, `do_bench` and `do_baseline`."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._applying: dict[Key, Applying] = {}

    # --- sideload --------------------------------------------------------------------------------------------------------

    def do_sideload(self, _argument: str = "") -> None:
        """Where steps of this device run or wait for a commit, back to those."""
        from fieldops.tui.screens.sideload import SideloadScreen

        front = self._front
        key, sight = (front.view.selected if front.view else None), front.sight
        if key is None or sight is None:
            return
        front.poller.watch(key)
        running = self._applying.get(key)
        front.go(SideloadScreen(sight, key, self._begin, running if running and not running.over else None))

    def _begin(self, key: Key, entry: DeviceEntry, plan: SideloadPlan, words: Words) -> Applying:
        """The steps of a confirmed plan. They belong to no screen, so leaving one stops nothing."""
        from fieldops.tui.applying import Applying

        applying = self._applying[key] = Applying(self._front, entry, plan, words)
        applying.go_on()
        return applying

    # --- rollback --------------------------------------------------------------------------------------------------------

    def do_rollback(self, argument: str = "") -> None:
        front, sight = self._front, self._front.sight
        if sight is None:
            return
        target = _target(front, sight, argument)
        if target is None:
            front.tell("name the model: `:rollback MODEL`, or select it under Models (3)", "warning")
            return
        site, entry = front.site, sight.entry
        model, version = target

        def work(job: Job[tuple[RollbackPlan, Decision]]) -> tuple[RollbackPlan, Decision]:
            planned = site.plan_rollback(entry, model, version, site.deadline(PLAN_S, job.cancel))
            return planned, site.decide(planned.step)

        def planned(result: tuple[RollbackPlan, Decision]) -> None:
            plan, decision = result
            impact = f"{_impact(sight, model)}; the version that goes back is checked first"
            question = asking.rollback_question(plan, impact, decision, front.glyphs)
            front.ask(question, lambda answer: self._roll_back(entry, plan, answer))

        front.jobs.start(Job(f"planning the rollback of {entry.name}"), work, planned, front.tell_error)

    def _roll_back(self, entry: DeviceEntry, plan: RollbackPlan, answer: Answer | None) -> None:
        site = self._front.site
        if answer is None:
            self._front.tell(f"rollback of {entry.name} cancelled; nothing was sent")
            return
        words = Words(reason=answer.reason)
        self._perform(
            entry,
            f"Rolling back {plan.model} on {entry.name}",
            lambda job: site.rollback(entry, plan, words, site.deadline(CHANGE_S, job.cancel), job.report),
        )

    # --- the model on trial, or armed --------------------------------------------------------------------------------------

    def do_commit(self, _argument: str = "") -> None:
        from fieldops.steps import Commit

        front, sight = self._front, self._front.sight
        slot = _slot(sight, lambda each: each.state == "trial" and each.candidate is not None)
        if sight is None or slot is None or slot.candidate is None:
            front.tell("no model is on trial here", "warning")
            return
        site, entry, model, version = front.site, sight.entry, slot.model, slot.candidate

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                words = Words(reason=answer.reason)
                self._perform(
                    entry,
                    f"Committing {model} {version} on {entry.name}",
                    lambda job: site.commit(entry, model, version, words, site.deadline(CHANGE_S, job.cancel)),
                )

        front.ask(asking.commit_question(entry.name, slot, Commit(model=model, version=version), front.glyphs), answered)

    def do_disarm(self, _argument: str = "") -> None:
        from fieldops.steps import Disarm

        sight = self._front.sight
        slot = _slot(sight, lambda each: each.armed_until is not None)
        if sight is None or slot is None:
            self._front.tell("no version is armed here", "warning")
            return
        self._step(sight.entry, slot, Disarm(model=slot.model), "Disarm", "the armed version is not tried; what answers goes on")

    def _step(self, entry: DeviceEntry, slot: SlotStatus, step: Step, verb: str, impact: str) -> None:
        """One step through the gate, after the dialog that every change has."""
        front, site = self._front, self._front.site

        def decided(decision: Decision) -> None:
            front.ask(asking.step_question(entry.name, step, verb, impact, decision, slot.active), answered)

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                words = Words(reason=answer.reason)
                self._perform(
                    entry,
                    f"{verb} {slot.model} on {entry.name}",
                    lambda job: site.perform(entry, step, words, site.deadline(CHANGE_S, job.cancel), job.report),
                )

        front.jobs.start(Job(""), lambda _job: site.decide(step), decided, front.tell_error)

    # --- benchmark -----------------------------------------------------------------------------------------------------------

    def do_bench(self, argument: str = "") -> None:
        self._bench(argument, save=False)

    def do_baseline(self, argument: str = "") -> None:
        self._bench(argument, save=True)

    def _bench(self, argument: str, *, save: bool) -> None:
        from fieldops.steps import Bench

        front, sight = self._front, self._front.sight
        target = _target(front, sight, argument) if sight is not None else None
        if sight is None or target is None:
            front.tell("name the model: `:bench MODEL`, or select it under Models (3)", "warning")
            return
        site, entry, model = front.site, sight.entry, target[0]
        step = Bench(model=model, save_baseline=save)

        def decided(decision: Decision) -> None:
            front.ask(asking.bench_question(entry.name, step, _impact(sight, model), decision), answered)

        def answered(answer: Answer | None) -> None:
            if answer is None:
                return
            typed = answer.fields["samples"]
            if not typed.isdigit():
                front.tell_error(UsageFault(f"{typed!r} samples", reason="bad_samples", next_step="type a number, 64 to 100000"))
                return
            words, title = Words(reason=answer.reason), f"Benchmark {model} on {entry.name}"

            def work(job: Job[BenchResult]) -> BenchResult:
                deadline = site.deadline(BENCH_S, job.cancel)
                return site.bench(entry, model, int(typed), words, deadline, job.report, save=save)

            def measured(result: BenchResult) -> None:
                from fieldops.tui.panels.bench import bench_text

                front.after_change(entry)
                front.history.append((site.now(), "information", f"{title}: done"))
                front.read_text(title.upper(), lambda width: bench_text(result, width, kept=save))

            front.jobs.start(Job(title, changes=True), work, measured, lambda error: self._show_fault(entry, title, error))

        front.jobs.start(Job(""), lambda _job: site.decide(step), decided, front.tell_error)

    # --- outcomes --------------------------------------------------------------------------------------------------------------

    def _perform(self, entry: DeviceEntry, title: str, work: Callable[[Job[StepRecord]], StepRecord]) -> None:
        front = self._front

        def done(record: StepRecord) -> None:
            front.after_change(entry)
            versions = panel.versions(record, front.glyphs)
            front.history.append((front.site.now(), "information", f"{title}: done, {versions}"))
            front.read_text(title, lambda width: panel.outcome(record, width, front.glyphs))

        front.jobs.start(Job(title, changes=True), work, done, lambda error: self._show_fault(entry, title, error))

    def _show_fault(self, entry: DeviceEntry, title: str, error: FieldopsError) -> None:
        self._front.after_change(entry)
        self._front.remember(error)
        self._front.read_text(title, lambda width: page(panel.refusal(error, width)))


def _target(front: Front, sight: Sight, argument: str) -> tuple[str, str | None] | None:
    """(model, version or None for last-good) from what was typed, the selected row, or the only model; None: must be named."""
    if argument:
        model, _, version = argument.replace("@", " ").partition(" ")
        return model, version.strip() or None
    row = front.view.selected_version if front.view else None
    if row is not None:
        slot, info = row
        return slot.model, info.version if info is not None and info.role == "stored" else None
    snapshot = sight.snapshot
    models = [slot.model for slot in snapshot.models.slots] if snapshot and snapshot.models else []
    return (models[0], None) if len(models) == 1 else None


def _slot(sight: Sight | None, wanted: Callable[[SlotStatus], bool]) -> SlotStatus | None:
    """The first model of the device that is so."""
    snapshot = sight.snapshot if sight else None
    return next((slot for slot in (snapshot.models.slots if snapshot and snapshot.models else ()) if wanted(slot)), None)


def _impact(sight: Sight, model: str) -> str:
    hardware = sight.snapshot.resources if sight.snapshot else None
    rates = [each.rate_per_s for each in hardware.serving if each.model == model] if hardware else []
    asked = f"; {rates[0]:.1f} requests a second now" if rates else ""
    return f"1 device, no reboot{asked}"

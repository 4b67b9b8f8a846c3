"""The steps of one sideload as they run. It belongs to the app, not to a screen, so leaving the screen stops nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fieldops.steps import Arm, Commit
from fieldops.tui.jobs import Job
from fieldops.tui.panels.change import StepView

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.gate import Words
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.tui.front import Front
    from fieldops.wire import StepRecord

STEP_S = 1800.0


class Applying:
    """Runs the plan step by step; a Commit is held until the person asks for it, while the model is on trial."""

    def __init__(self, front: Front, entry: DeviceEntry, plan: SideloadPlan, words: Words) -> None:
        self._front = front
        self.entry = entry
        self.plan = plan
        self._words = words
        self.views = tuple(StepView(each.step, "hold" if isinstance(each.step, Commit) else "wait") for each in plan.steps)
        self.job: Job[Any] | None = None
        self.fault: FieldopsError | None = None
        self.began = 0.0
        self.step_ended = 0.0  # Unix seconds; what was seen of the device before this says nothing of the trial

    @property
    def can_commit(self) -> bool:
        """All that comes before the commit is done; the commit waits for the person, or may be asked again."""
        states = [view.state for view in self.views]
        return self.job is None and states[-1:] in (["hold"], ["retry"]) and all(state == "ok" for state in states[:-1])

    @property
    def done(self) -> bool:
        return all(view.state == "ok" for view in self.views)

    @property
    def over(self) -> bool:
        """Nothing runs and nothing more can be done from here."""
        return self.job is None and not self.can_commit

    def go_on(self) -> None:
        """The first step that waits."""
        index = next((n for n, view in enumerate(self.views) if view.state == "wait"), None)
        if index is not None:
            self._run(index)

    def commit(self) -> None:
        if self.can_commit:
            self._run(len(self.views) - 1)

    def _run(self, index: int) -> None:
        site, plan, entry, words = self._front.site, self.plan, self.entry, self._words
        planned = plan.steps[index]
        self.fault = None
        self._mark(index, StepView(planned.step, "run"))
        self.began = site.monotonic()

        def work(job: Job[StepRecord]) -> StepRecord:
            return site.apply(entry, plan, planned, words, site.deadline(STEP_S, job.cancel), job.report)

        def done(record: StepRecord) -> None:
            self.job = None
            self._mark(index, StepView(planned.step, "ok", record, site.monotonic() - self.began))
            self.step_ended = site.now()
            self._front.after_change(self.entry)
            self.go_on()
            if self.can_commit or self.done:
                self._news()

        def failed(error: FieldopsError) -> None:
            self.job, self.fault = None, error
            # A commit that failed may be asked for again while the trial lasts; any other step ends the plan.
            self._mark(index, StepView(planned.step, "retry" if isinstance(planned.step, Commit) else "FAIL"))
            self.views = tuple(replace(view, state="skip") if view.state in {"wait", "hold"} else view for view in self.views)
            self._front.after_change(self.entry)
            self._front.remember(error)
            self._news()

        title = f"{type(planned.step).__name__} {plan.model} on {entry.name}"
        self.job = self._front.jobs.start(Job(title, changes=True), work, done, failed)

    def _news(self) -> None:
        """Told only to those who went elsewhere; the sideload screen itself shows it."""
        front, what = self._front, f"{self.plan.model} {self.plan.to_version} on {self.entry.name}"
        if front.view is None or front.view.scope == "sideload":
            return
        if self.fault is not None:
            front.tell(f"{what}: {self.fault}", "error")
        elif not self.done:
            front.tell(f"{what}: on trial, waits for your commit (S on the device)", "warning")
        else:
            armed = isinstance(self.plan.steps[-1].step, Arm)
            front.tell(f"{what}: {'armed' if armed else 'committed'}")

    def _mark(self, index: int, view: StepView) -> None:
        self.views = tuple(view if n == index else old for n, old in enumerate(self.views))

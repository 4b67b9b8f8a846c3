"""Rollback and commit as the console leads to them: plan in a thread, ask, perform in a thread, show the outcome.

What may be done and what it does is said by operations and policy; this only carries questions and answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldops.operations.gate import Words
from fieldops.tui.jobs import Job
from fieldops.tui.panels import change as panel
from fieldops.tui.panels.device import checks
from fieldops.tui.panels.ink import line, page

if TYPE_CHECKING:
    from textual.content import Content

    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.rollback import RollbackPlan
    from fieldops.policy import Decision
    from fieldops.tui.app import Console
    from fieldops.tui.screens.confirm import Answer
    from fieldops.tui.snapshots import Sight
    from fieldops.wire import StepRecord

PLAN_S = 15.0
CHANGE_S = 900.0


def _sight(app: Console) -> Sight | None:
    screen = app.view
    key = screen.selected if screen else None
    return app.store.get(key) if key else None


def _target(app: Console, sight: Sight, argument: str) -> tuple[str, str | None] | None:
    """(model, version or None for last-good) from what was typed, the selected row, or the only model; None: must be named."""
    from fieldops.tui.screens.device import DeviceScreen

    if argument:
        model, _, version = argument.replace("@", " ").partition(" ")
        return model, version.strip() or None
    screen = app.view
    row = screen.selected_version if isinstance(screen, DeviceScreen) else None
    if row is not None:
        slot, info = row
        return slot.model, info.version if info is not None and info.role == "stored" else None
    snapshot = sight.snapshot
    models = [slot.model for slot in snapshot.models.slots] if snapshot and snapshot.models else []
    return (models[0], None) if len(models) == 1 else None


def begin_rollback(app: Console, argument: str) -> None:
    sight = _sight(app)
    if sight is None:
        return
    target = _target(app, sight, argument)
    if target is None:
        app.tell("name the model: `:rollback MODEL`, or select it under Models (3)", "warning")
        return
    site, entry = app.site, sight.entry
    model, version = target

    def work(job: Job[tuple[RollbackPlan, Decision]]) -> tuple[RollbackPlan, Decision]:
        planned = site.plan_rollback(entry, model, version, site.deadline(PLAN_S, job.cancel))
        return planned, site.decide(planned.step)

    def planned(result: tuple[RollbackPlan, Decision]) -> None:
        plan, decision = result
        question = panel.rollback_question(plan, _impact(sight, model), decision, app.glyphs)
        app.ask(question, lambda answer: _roll_back(app, entry, plan, answer))

    app.jobs.start(Job(f"planning the rollback of {entry.name}"), work, planned, app.tell_error)


def _impact(sight: Sight, model: str) -> str:
    hardware = sight.snapshot.resources if sight.snapshot else None
    rates = [each.rate_per_s for each in hardware.serving if each.model == model] if hardware else []
    asked = f"; {rates[0]:.1f} requests a second now" if rates else ""
    return f"1 device, no reboot; the version that goes back is checked first{asked}"


def _roll_back(app: Console, entry: DeviceEntry, plan: RollbackPlan, answer: Answer | None) -> None:
    if answer is None:
        app.tell(f"rollback of {entry.name} cancelled; nothing was sent")
        return
    site, words = app.site, Words(reason=answer.reason)

    def work(job: Job[StepRecord]) -> StepRecord:
        return site.rollback(entry, plan, words, site.deadline(CHANGE_S, job.cancel), job.report)

    title = f"Rolling back {plan.model} on {entry.name}"
    app.jobs.start(
        Job(title, changes=True),
        work,
        lambda record: _show_outcome(app, entry, title, record),
        lambda error: _show_fault(app, title, error),
    )


def begin_commit(app: Console) -> None:
    """Of the model on trial, from the device's own screen."""
    from fieldops.steps import Commit, describe, undo_of
    from fieldops.tui.screens.device import DeviceScreen

    screen, sight = app.view, _sight(app)
    slot = screen.on_trial if isinstance(screen, DeviceScreen) else None
    if sight is None or slot is None or slot.candidate is None:
        app.tell("no model is on trial here", "warning")
        return
    site, entry, model, version = app.site, sight.entry, slot.model, slot.candidate
    step = Commit(model=model, version=version)
    question = panel.Question(
        title=f"COMMIT on {entry.name}",
        verb="Commit",
        unlock=entry.name,
        rows=(
            ("model", f"{model}   {slot.active or 'nothing'} {app.glyphs.arrow} {version}"),
            ("does", describe(step)),
            ("impact", "the trial ends; the device no longer goes back by itself"),
            ("undo", undo_of(step, previous=slot.active)),
        ),
    )

    def answered(answer: Answer | None) -> None:
        if answer is None:
            return
        words = Words(reason=answer.reason)
        title = f"Committing {model} {version} on {entry.name}"
        app.jobs.start(
            Job(title, changes=True),
            lambda job: site.commit(entry, model, version, words, site.deadline(CHANGE_S, job.cancel)),
            lambda record: _show_outcome(app, entry, title, record),
            lambda error: _show_fault(app, title, error),
        )

    app.ask(question, answered)


def _show_outcome(app: Console, entry: DeviceEntry, title: str, record: StepRecord) -> None:
    app.after_change(entry)
    versions = f"{record.previous or 'nothing'} {app.glyphs.arrow} {record.version or 'nothing'}"
    app.history.append((app.site.now(), "information", f"{title}: done, {versions}"))

    def draw(width: int) -> Content:
        lines = [line(("DONE  ", "ok"), f"{record.kind}   {versions}"), line(("step  ", "muted"), record.step_id[-24:])]
        if record.checks:
            lines += [line(), *checks(record.checks, width, app.glyphs)]
        return page(lines)

    app.read_text(title, draw)


def _show_fault(app: Console, title: str, error: FieldopsError) -> None:
    app.remember(error)
    app.read_text(title, lambda width: page(panel.refusal(error, width)))

"""A signed bundle onto one device: pick -> verify -> plan -> apply -> trial. Each stage shows what the next rests on.

Metadata that is only too old can be used by breaking glass: approvals of two people, judged here and again by the device.

Leaving while steps run leaves the work running: the strip shows it, and `S` on the same device comes back here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static

from fieldops.errors import FieldopsError
from fieldops.operations.gate import Words
from fieldops.steps import Activate
from fieldops.tui import figures
from fieldops.tui.commands import bindings
from fieldops.tui.jobs import Job
from fieldops.tui.page import Page
from fieldops.tui.panels import asking, top
from fieldops.tui.panels import change as panel
from fieldops.tui.panels.columns import Cell
from fieldops.tui.panels.ink import Part, heading, line, page
from fieldops.tui.panels.progress import progress_bar
from fieldops.tui.running import stop
from fieldops.tui.screens.view import Line, View
from fieldops.tui.site import Glass
from fieldops.tui.snapshots import Key, Sight
from fieldops.tui.table import LineTable

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.sideload import SideloadPlan
    from fieldops.policy import Decision
    from fieldops.ports import Candidate, TrustedBundle
    from fieldops.tui.applying import Applying
    from fieldops.tui.panels.asking import Answer
    from fieldops.wire import SlotStatus

SCAN_S = 30.0
VERIFY_S = 600.0
PLAN_S = 60.0
STATEMENT_S = 60.0
Planning = tuple["TrustedBundle", "SideloadPlan", "tuple[Decision, ...]"]
Begin = Callable[[Key, "DeviceEntry", "SideloadPlan", Words], "Applying"]


class SideloadScreen(View):
    scope = "sideload"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("sideload"))

    def __init__(self, sight: Sight, key: Key, begin: Begin, applying: Applying | None = None) -> None:
        """begin: the steps of a confirmed plan. applying: steps that run already, to come back to."""
        super().__init__()
        self._begin_steps = begin
        self._bundle: TrustedBundle | None = None
        self._glass: Glass | None = None
        self._arm = ""
        self._key = key
        self._sight = sight
        self._stage = "pick"
        self._candidates: dict[str, Candidate] = {}
        self._chosen: Candidate | None = None
        self._plan: SideloadPlan | None = None
        self._decisions: tuple[Decision, ...] = ()
        self._job: Job[Any] | None = None
        self._began = 0.0
        self._fault: FieldopsError | None = None
        self._applying = applying

    def body(self) -> ComposeResult:
        yield Line(id="stages")
        yield LineTable(
            panel.CANDIDATE_COLUMNS, self._cells, self.console_app.glyphs, empty="looking for a stick ...", id="candidates"
        )
        with Page(id="work", can_focus=True):
            yield Static(id="work-text", markup=False)

    def on_mount(self) -> None:
        self._enter("apply" if self._applying else "pick")
        if self._applying is None:
            self.do_rescan()

    @property
    def table(self) -> LineTable:
        return self.query_one("#candidates", LineTable)

    @property
    def selected(self) -> Key:
        return self._key

    @property
    def text_to_copy(self) -> str:
        if self._stage == "pick":
            key = self.table.cursor
            return "  ".join(cell.text for cell in self._cells(key)) if key is not None else ""
        return str(self.query_one("#work-text", Static).content)

    @property
    def stage(self) -> str:
        applying = self._applying
        if self._stage == "apply" and applying is not None and (applying.done or applying.can_commit):
            return "trial"  # also when the device is armed: the trial is then its own
        return self._stage

    def _cells(self, key: str) -> tuple[Cell, ...]:
        return panel.candidate_cells(self._candidates[key])

    def _enter(self, stage: str) -> None:
        self._stage = stage
        picking = stage == "pick"
        self.table.display = picking
        self.query_one("#work").display = not picking
        (self.table if picking else self.query_one("#work")).focus()
        self.refresh_bindings()
        self.tick()

    # --- drawing -----------------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        self._sight = self.console_app.store.get(self._key) or self._sight

    def draw(self) -> None:
        self.query_one("#stages", Line).show(panel.stages(self.stage, self.size.width, self.console_app.glyphs))
        if self._stage != "pick":
            text = self.query_one("#work-text", Static)
            content = self._content(min(self.size.width - 5, 110))
            if content != text.content:
                text.update(content)

    def draw_strip(self) -> None:
        """The stage itself shows the progress of its own job."""
        if self._stage == "pick":
            super().draw_strip()
        else:
            self.query_one("#strip").display = False

    def _content(self, width: int) -> Content:
        lines = self._chosen_lines()
        glyphs = self.console_app.glyphs
        if self._stage == "verify" and self._fault is None:
            elapsed = self.console_app.site.monotonic() - self._began
            progress = self._job.progress if self._job else None
            lines += [
                heading("VERIFY", width, glyphs.rule, "every byte against the signed metadata"),
                progress_bar(progress, width, glyphs, elapsed),
            ]
        elif self._stage == "plan" and self._plan is not None:
            lines.append(line(("verified ", "muted"), ("ok", "ok"), "   signatures, expiry and digests; copied to this laptop"))
            lines.append(panel.plan(self._sight.entry.name, self._plan, self._decisions, width, glyphs))
        elif self._applying is not None:
            lines += self._steps(self._applying, width)
        if self._fault is not None:
            lines += panel.refusal(self._fault, width)
            if self._may_break_glass:
                lines += [Content(""), *panel.glass_offer(width)]
        return page(lines)

    def _chosen_lines(self) -> list[Content]:
        chosen = self._chosen
        if chosen is None:
            return []
        what: list[Part] = [
            (figures.clean(chosen.ref), "strong"),
            f"   {figures.size(chosen.size_bytes)}   {figures.clean(chosen.channel)}",
        ]
        return [line(("bundle   ", "muted"), *what), line(("source   ", "muted"), figures.clean(chosen.source)), Content("")]

    def _steps(self, applying: Applying, width: int) -> list[Content]:
        glyphs = self.console_app.glyphs
        elapsed = self.console_app.site.monotonic() - applying.began
        progress = applying.job.progress if applying.job else None
        lines = panel.steps(applying.views, width, glyphs, progress, elapsed)
        if applying.can_commit:
            lines += [Content(""), *self._trial(width)]
        if applying.done:
            lines += [Content(""), panel.sideload_done(applying.plan)]
        if applying.fault is not None:
            lines += [Content(""), *panel.refusal(applying.fault, width)]
        return lines

    def _trial(self, width: int) -> list[Content]:
        now = self.console_app.site.now()
        applying = self._applying
        views = applying.views if applying else ()
        activate = next((view.step for view in views if isinstance(view.step, Activate)), None)
        total = float(activate.trial_s) if activate else 0.0
        slot = self._slot
        if slot is not None and self._trial_over:
            return panel.trial_over(slot, width)
        lines = panel.trial(slot, total, self._sight.age(now) or 0.0, width, self.console_app.glyphs)
        keys = line(("         C", "accent"), " commits it.  ", ("B", "accent"), " goes back at once.  Else the time runs out.")
        return [*lines, Content(""), keys]

    @property
    def _trial_over(self) -> bool:
        """The device was seen since the last step, and it is not on trial: it went back, or somebody else committed."""
        applying, snapshot, slot = self._applying, self._sight.snapshot, self._slot
        if applying is None or snapshot is None or slot is None or snapshot.seen_at is None:
            return False
        return snapshot.seen_at > applying.step_ended and slot.state != "trial"

    @property
    def _slot(self) -> SlotStatus | None:
        snapshot = self._sight.snapshot
        slots = snapshot.models.slots if snapshot and snapshot.models else []
        return next((slot for slot in slots if self._applying and slot.model == self._applying.plan.model), None)

    def top(self, width: int) -> Content:
        app = self.console_app
        now = app.site.now()
        from fieldops.tui.panels.device import title_parts

        parts: list[Part] = [(self._sight.entry.name, "strong"), *title_parts(self._sight, now, width)]
        return top.titled("Sideload", parts, [], now, width, app.glyphs)

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        message.stop()

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        self.do_pick()

    # --- pick, verify, plan --------------------------------------------------------------------------------------------------------

    def do_rescan(self, _argument: str = "") -> None:
        site = self.console_app.site

        def found(candidates: list[Candidate]) -> None:
            self._candidates = {panel.candidate_key(each): each for each in candidates}
            usable_first = sorted(self._candidates, key=lambda key: panel.candidate_order(self._candidates[key]))
            self.table.set_empty("no stick with signed bundles found; plug one in, then press r")
            self.table.set_rows(usable_first)
            self.table.redraw_changed()

        def failed(error: FieldopsError) -> None:
            self.table.set_empty(f"{error.message} - {error.next_step}")
            self.console_app.tell_error(error)

        self.start("looking for bundles", lambda job: site.candidates(site.deadline(SCAN_S, job.cancel)), found, failed)

    def do_pick(self, _argument: str = "") -> None:
        """Enter: the next stage, whichever this is."""
        if self._stage == "pick" and self.table.cursor is not None:
            self._verify(self._candidates[self.table.cursor], None)
        elif self._stage == "plan" and self._plan is not None and self._plan.steps and self._fault is None:
            decisions = [decision for decision in self._decisions if not decision.allowed]
            glyphs = self.console_app.glyphs
            question = asking.sideload_question(
                self._plan, decisions[0] if decisions else None, glyphs, broken=self._glass is not None
            )
            self.console_app.ask(question, self._confirmed)

    def _verify(self, candidate: Candidate, glass: Glass | None) -> None:
        site, entry = self.console_app.site, self._sight.entry
        self._chosen, self._glass, self._arm = candidate, glass, ""
        self._forget_plan()

        def work(job: Job[Planning]) -> Planning:
            bundle = site.fetch(candidate, entry, site.deadline(VERIFY_S, job.cancel), job.report, glass)
            return self._planning(job, bundle, "")

        self._job = self.start(f"verifying {candidate.ref}", work, self._planned, self._refused)
        self._enter("verify")

    def _forget_plan(self) -> None:
        self._fault, self._plan = None, None
        self._began = self.console_app.site.monotonic()

    def _planning(self, job: Job[Planning], bundle: TrustedBundle, arm: str) -> Planning:
        """In a thread: the steps for the device as it is now, and what the policy says of each."""
        site, glass = self.console_app.site, self._glass
        approvals = site.approvals(glass.approvals) if glass is not None else ()
        deadline = site.deadline(PLAN_S, job.cancel)
        planned = site.plan_sideload(self._sight.entry, bundle, deadline, arm=arm, approvals=approvals)
        return bundle, planned, tuple(site.decide(each.step) for each in planned.steps)

    def _planned(self, result: Planning) -> None:
        self._job = None
        self._bundle, self._plan, self._decisions = result
        self._enter("plan")

    def _refused(self, error: FieldopsError) -> None:
        self._job = None
        self._fault = error
        self.console_app.remember(error)
        self._enter(self._stage)

    # --- arm, break glass ----------------------------------------------------------------------------------------------------

    def do_arm(self, argument: str = "") -> None:
        """Plan again: staged now, tried by the device alone inside a window. argument: the window."""

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                self._replan(answer.fields["window"])

        if argument:
            self._replan(argument)
        else:
            self.console_app.ask(asking.arm_question(self._sight.entry.name, self._arm), answered)

    def _replan(self, window: str) -> None:
        bundle = self._bundle
        if bundle is None:
            return
        self._forget_plan()
        self._arm = window
        self._job = self.start(
            f"planning for {self._sight.entry.name}",
            lambda job: self._planning(job, bundle, window),
            self._planned,
            self._refused,
        )
        self._enter("verify")

    @property
    def _may_break_glass(self) -> bool:
        """Only for what is refused for its age alone; whether the approvals are good is judged by those who verify."""
        return self._chosen is not None and self._fault is not None and self._fault.reason == "expired"

    def do_break_glass(self, _argument: str = "") -> None:
        chosen = self._chosen
        if chosen is not None:
            place = f"~/statement-{chosen.model}-{chosen.version}.json"
            self.console_app.ask(asking.glass_question(self._sight.entry.name, chosen, place), self._glass_answered)

    def _glass_answered(self, answer: Answer | None) -> None:
        app, site, chosen, entry = self.console_app, self.console_app.site, self._chosen, self._sight.entry
        if answer is None or chosen is None:
            return
        if not answer.third:
            files = tuple(answer.fields[name] for name in ("first", "second") if answer.fields[name])
            self._verify(chosen, Glass(files))
            return
        place, reason = answer.fields["statement"], answer.fields["why"]
        self.start(
            "writing the statement",
            lambda job: site.write_statement(chosen, entry, place, reason, site.deadline(STATEMENT_S, job.cancel)),
            lambda file: app.tell(f"{file}: have two people sign it with `fieldops approve`, then X again with their files"),
            app.tell_error,
        )

    # --- apply, trial ----------------------------------------------------------------------------------------------------

    def _confirmed(self, answer: Answer | None) -> None:
        if answer is None or self._plan is None:
            return
        self._applying = self._begin_steps(self._key, self._sight.entry, self._plan, Words(reason=answer.reason))
        self._enter("apply")

    def do_commit(self, _argument: str = "") -> None:
        if self._applying is not None and not self._trial_over:
            self._applying.commit()
            self.tick()

    @property
    def applying(self) -> Applying | None:
        """The steps as they run; None before they began."""
        return self._applying

    def may(self, command_id: str) -> bool:
        stage, applying = self.stage, self._applying
        if command_id == "device.commit":
            return stage == "trial" and applying is not None and applying.can_commit and not self._trial_over
        if command_id == "device.rollback":
            return stage == "trial" and not self._trial_over
        if command_id == "sideload.rescan":
            return stage == "pick"
        if command_id == "sideload.arm":
            return stage == "plan" and self._bundle is not None and self._fault is None
        if command_id == "sideload.break_glass":
            return stage == "verify" and self._may_break_glass
        if command_id == "sideload.pick":
            return stage == "pick" or (stage == "plan" and bool(self._plan and self._plan.steps))
        return True

    def do_back(self, _argument: str = "") -> None:
        """Before anything was sent: one stage back, stopping what runs. While a step runs on the device: ask. Else leave."""
        if self.stage in {"verify", "plan"}:
            if self._job is not None:
                self._job.cancel.cancel()
                self._job = None
            self._fault = None
            self._enter("pick")
            return
        applying = self._applying
        if applying is None or applying.job is None:
            self.console_app.leave()
            return
        question = asking.stop_question(f"STEP RUNS on {applying.entry.name}", applying.job.title)
        self.console_app.ask(question, self._stop_or_leave)

    def do_stop(self, _argument: str = "") -> None:
        """The work of this screen, before any other."""
        app, applying = self.console_app, self._applying
        mine = applying.job if applying is not None else self._job
        if mine is not None or app.jobs.shown:
            stop(app, mine or app.jobs.shown[-1])

    def _stop_or_leave(self, answer: Answer | None) -> None:
        applying = self._applying
        if answer is None or applying is None:
            return
        if not answer.third and applying.job is not None:
            applying.job.cancel.cancel()
            return
        if self.console_app.view is self:
            self.console_app.leave()

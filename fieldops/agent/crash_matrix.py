"""Every crash of the played plans on one file system, and what the device is after it: the rows of the matrix.

Each row visits its points spread out over all of them, so that a row cut short by the time it may take has still seen the
whole plan. A row that is `whole` visited every point there is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import Struct

from fieldops.agent.crash_plans import PLANS, Plan, slot_of
from fieldops.agent.crash_scene import BOOT, NEXT_BOOT, started, stub_judge
from fieldops.agent.crash_states import CrashState, Disk, Done, Recorder, at_rest, kills, power_cuts, torn_logs
from fieldops.agent.crash_survey import Bounds, answer_faults, bounds, survey
from fieldops.agent.home import AgentHome
from fieldops.agent.judged import Judge
from fieldops.edges.disk import witnessed
from fieldops.edges.faults import Full
from fieldops.edges.operation import FAULTS
from fieldops.errors import FieldopsError
from fieldops.slots import RESTING, TABLE, Event, Slot
from fieldops.wire import SlotState

AFTER_THE_CUT: Final = "after-the-cut"
_CHILD_S = 60.0
_MOST_FAULTS = 5  # told of one row; the rest is counted
_GOLDEN = 0.6180339887498949


class Row(Struct, frozen=True, kw_only=True):
    """tried of `points`. old, new, trial: how often the device came back so; the rest are faults."""

    crash: str
    plan: str
    points: int
    tried: int
    old: int
    new: int
    trial: int
    failed: int
    faults: list[str]

    @property
    def whole(self) -> bool:
        return self.tried == self.points


@dataclass(frozen=True, slots=True)
class Played:
    """A plan that ran to its end without a crash. root: the home as it was before."""

    plan: Plan
    root: Path
    done: list[Done]
    limits: Bounds

    def disk(self) -> Disk:
        """As it was before, for one run through the operations."""
        return Disk(self.root, at_rest(AgentHome(self.root).registry))

    @property
    def slots(self) -> list[Slot]:
        """As each commit left the slot, the first before any."""
        found = [self.limits.before]
        for each in self.done:
            if each.database is not None and (slot := slot_of(each.database)) != found[-1]:
                found.append(slot)
        return found

    def takes(self, state: SlotState, event: Event) -> bool:
        """Did it take this row of the transition table."""
        to = TABLE[(state, event)]
        ends = RESTING if to is None else (to,)
        return any(one.state == state and other.state in ends for one, other in zip(self.slots, self.slots[1:], strict=False))


def spread(count: int) -> list[int]:
    """0..count-1, each once, any first part of it spread over all."""
    return sorted(range(count), key=lambda at: (at * _GOLDEN) % 1.0)


Case = tuple[str, Callable[[], tuple[Path, int]]]  # what crashed where; makes (the home it leaves, entries on disk)


class Matrix:
    """folder: on the file system to be tried; everything below it is the caller's to remove."""

    def __init__(self, folder: Path, *, judge: Judge = stub_judge) -> None:
        self._folder = folder
        self._judge = judge
        self._count = 0
        self._played: dict[str, Played] = {}

    def _place(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        self._count += 1
        return self._folder / f"h{self._count}"

    def played(self, name: str) -> Played:
        """Raises RuntimeError when the plan itself fails."""
        if name not in self._played:
            plan, root = PLANS[name], self._place()
            plan.before(root)
            before, first = self._place(), at_rest(AgentHome(root).registry)
            shutil.copytree(root, before, symlinks=True)
            recorder = Recorder(root)
            with witnessed(recorder):
                ended = plan.play(root, self._judge)
            if ended is not None and ended.reason not in plan.ends:
                raise RuntimeError(f"the plan itself failed: {name}: {ended.reason} {ended.message}")
            limits = bounds(plan, root, slot_of(first))
            shutil.rmtree(root)
            before.rename(root)  # what was recorded names this place
            self._played[name] = Played(plan, root, recorder.done, limits)
        return self._played[name]

    # --- rows ------------------------------------------------------------------------------------------------------------

    def kill(self, name: str, until: float, *, commits: bool = False) -> Row:
        """A child process that plays the plan and kills itself after the n-th operation, for all n. commits: only after those."""
        played = self.played(name)
        points = [at for at, each in enumerate(played.done, 1) if each.database is not None or not commits]

        def cases() -> Iterator[Case]:
            for at in spread(len(points)):
                yield f"after operation {points[at]}", lambda at=at: (self._killed(played, points[at]), 0)  # type: ignore[misc]

        return self._row("kill -9", played, len(points), cases(), played.plan.boot or BOOT, until)

    def _killed(self, played: Played, at: int) -> Path:
        root = self._copy(played)
        words = [sys.executable, "-m", "fieldops.agent", "selftest", "crash", "--dir", str(root), "--play", played.plan.name]
        env = {**os.environ, FAULTS: f"selftest kill {at}"}
        subprocess.run(words, env=env, stdout=subprocess.DEVNULL, timeout=_CHILD_S, check=False)
        return root

    def states(self, crash: str, name: str, until: float, *, thorough: bool, commits: bool = False) -> Row:
        """crash: `process gone`, `full at start`, `power cut` or `torn commit`. commits: only what is left right after those."""
        played = self.played(name)
        found: list[CrashState] = []
        match crash:
            case "process gone" | "full at start":
                found = list(kills(played.disk(), played.done))
            case "power cut":
                found = list(power_cuts(played.disk(), played.done, thorough=thorough))
            case _:
                found = list(torn_logs(played.disk(), played.done))
        if commits:
            found = [state for state in found if state.after and played.done[state.after - 1].database is not None]

        def cases() -> Iterator[Case]:
            for at in spread(len(found)):
                said = f"after operation {found[at].after}"
                yield said, lambda at=at: (self._put(found[at]), found[at].entries)  # type: ignore[misc]

        same = played.plan.boot or NEXT_BOOT
        boot = same if crash in {"process gone", "full at start"} else AFTER_THE_CUT
        return self._row(crash, played, len(found), cases(), boot, until, full=crash == "full at start")

    def _put(self, state: CrashState) -> Path:
        root = self._place()
        state.put(root)
        return root

    def _copy(self, played: Played) -> Path:
        root = self._place()
        shutil.copytree(played.root, root, symlinks=True)
        return root

    def full(self, name: str, until: float, *, once: bool) -> Row:
        """No space from the n-th growing operation on, or for that one alone; then the agent starts on a disk with space."""
        played, counted = self.played(name), Full(1 << 30)
        root = self._copy(played)
        with witnessed(counted):
            played.plan.play(root, self._judge)
        shutil.rmtree(root)

        def cases() -> Iterator[Case]:
            for at in spread(counted.seen):
                yield f"at write {at + 1}", lambda at=at: (self._filled(played, at + 1, once=once), 0)  # type: ignore[misc]

        crash = "disk full once" if once else "disk full"
        return self._row(crash, played, counted.seen, cases(), played.plan.boot or NEXT_BOOT, until)

    def _filled(self, played: Played, at: int, *, once: bool) -> Path:
        root = self._copy(played)
        disk = Full(at, once=once)
        if played.plan.factory is not None:
            with suppress(FieldopsError, OSError), witnessed(disk):
                played.plan.play(root, self._judge)
            return root
        with witnessed(disk), started(root, played.plan.boot, self._judge) as running:
            with suppress(FieldopsError, OSError):  # what whoever asked is told; the device goes on
                running.play(played.plan.acts)
            found = answer_faults(running, played.limits, short=True)
            disk.free()
            running.look()
            found += answer_faults(running, played.limits)
            if found or running.bugs:
                raise RuntimeError((found + running.bugs)[0])
        return root

    # --- one row -----------------------------------------------------------------------------------------------------------

    def _row(
        self, crash: str, played: Played, points: int, cases: Iterator[Case], boot_id: str, until: float, *, full: bool = False
    ) -> Row:
        sides: Counter[str] = Counter()
        told: list[str] = []
        failed = 0
        for said, make in cases:
            if monotonic() > until and sides:
                break
            side, faults, root = "none", list[str](), None
            try:
                root, entries = make()
                side, faults = survey(
                    root, played.plan, played.limits, entries=entries, boot_id=boot_id, judge=self._judge, full=full
                )
            except RuntimeError as error:
                faults = [str(error)]
            sides[side] += 1
            if faults:
                failed += 1
                told += [f"{said}: {fault}" for fault in faults][: max(0, _MOST_FAULTS - len(told))]
            if root is not None:
                shutil.rmtree(root, ignore_errors=True)
        return Row(
            crash=crash,
            plan=played.plan.name,
            points=points,
            tried=sides.total(),
            old=sides["old"],
            new=sides["new"],
            trial=sides["trial"],
            failed=failed,
            faults=told,
        )


# Share of the time that is left, of those that are still to come; and only the stories take their part of a short run.
_SHARES: Final = {
    "kill -9": 0.25,
    "process gone": 0.1,
    "power cut": 0.25,
    "torn commit": 0.15,
    "disk full": 0.1,
    "disk full once": 0.1,
    "full at start": 0.05,
}
SHORT: Final = ("install", "revert")
MOVES: Final = "each move"


def rows(matrix: Matrix, *, full: bool, seconds: float) -> Iterator[Row]:
    """Within about so many seconds, unless full: then every plan, those of the table's rows told as one."""
    end, left = monotonic() + seconds, sum(_SHARES.values())
    for crash, share in _SHARES.items():
        for at, name in enumerate(SHORT):
            part = share * (len(SHORT) - at) / len(SHORT)
            until = float("inf") if full else monotonic() + (end - monotonic()) * part / left / (len(SHORT) - at)
            left -= share / len(SHORT)
            yield row(matrix, crash, name, until, thorough=full)
        if full:
            others = [name for name in PLANS if name not in SHORT]
            yield _as_one([row(matrix, crash, name, float("inf"), thorough=True) for name in others])


def row(matrix: Matrix, crash: str, name: str, until: float = float("inf"), *, thorough: bool = True) -> Row:
    """One crash of one plan. Of a single move a child is killed after its commits alone; between them it changes nothing more."""
    match crash:
        case "kill -9":
            return matrix.kill(name, until, commits=name not in SHORT)
        case "disk full" | "disk full once":
            return matrix.full(name, until, once=crash == "disk full once")
        case _:
            return matrix.states(crash, name, until, thorough=thorough)


def _as_one(found: Sequence[Row]) -> Row:
    faults = [f"{each.plan}: {fault}" for each in found for fault in each.faults]
    return Row(
        crash=found[0].crash,
        plan=MOVES,
        points=sum(each.points for each in found),
        tried=sum(each.tried for each in found),
        old=sum(each.old for each in found),
        new=sum(each.new for each in found),
        trial=sum(each.trial for each in found),
        failed=sum(each.failed for each in found),
        faults=faults[:_MOST_FAULTS],
    )


def play(root: Path, name: str) -> int:
    """What the child does: to the end, unless a fault on order ends it."""
    ended = PLANS[name].play(root)
    return 0 if ended is None or ended.reason in PLANS[name].ends else 6

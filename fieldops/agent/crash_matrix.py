"""Every crash of the played transaction on one file system, and what the device is after it: the rows of the matrix.

Each row visits its points spread out over all of them, so that a row cut short by the time it may take has still seen the
whole transaction. A row that is `whole` visited every point there is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import Struct

from fieldops.agent.crash_scene import BOOT, INSTALL, NEXT_BOOT, REVERT, flash, started, stub_judge, survey
from fieldops.agent.crash_states import CrashState, Disk, Done, Recorder, at_rest, kills, power_cuts, torn_logs
from fieldops.agent.home import AgentHome
from fieldops.agent.judged import Judge
from fieldops.edges.disk import witnessed
from fieldops.edges.faults import Full
from fieldops.edges.operation import FAULTS
from fieldops.errors import FieldopsError
from fieldops.steps import Step

PLANS: Final[dict[str, tuple[Step, ...]]] = {"install": INSTALL, "revert": REVERT}
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


def spread(count: int) -> list[int]:
    """0..count-1, each once, any first part of it spread over all."""
    return sorted(range(count), key=lambda at: (at * _GOLDEN) % 1.0)


class Matrix:
    """folder: on the file system to be tried; everything below it is the caller's to remove."""

    def __init__(self, folder: Path, *, judge: Judge = stub_judge) -> None:
        self._folder = folder
        self._judge = judge
        self._count = 0

    def _place(self) -> Path:
        self._count += 1
        return self._folder / f"h{self._count}"

    def home(self, plan: str) -> Path:
        """A device before the plan: OLD settled, or for a revert NEW committed."""
        made = self._folder / f"before-{plan}"
        if not made.exists():
            flash(made)
            if plan == "revert":
                with started(made, BOOT) as running:
                    ended = running.play(INSTALL)
                    if ended is not None:
                        raise RuntimeError(f"the transaction itself failed: {ended.reason} {ended.message}")
        return made

    # --- rows ------------------------------------------------------------------------------------------------------------

    def kill(self, plan: str, until: float) -> Row:
        """A child process that plays the plan and kills itself after the n-th operation, for all n."""
        points = len(self.record(plan)[1])

        def cases() -> Iterator[tuple[str, Callable[[], tuple[Path, int]]]]:
            for at in spread(points):
                yield f"after operation {at + 1}", lambda at=at: (self._killed(plan, at + 1), 0)  # type: ignore[misc]

        return self._row("kill -9", plan, points, cases(), BOOT, until)

    def _killed(self, plan: str, at: int) -> Path:
        root = self._place()
        shutil.copytree(self.home(plan), root, symlinks=True)
        words = [sys.executable, "-m", "fieldops.agent", "selftest", "crash", "--dir", str(root), "--play", plan]
        env = {**os.environ, FAULTS: f"selftest kill {at}"}
        subprocess.run(words, env=env, stdout=subprocess.DEVNULL, timeout=_CHILD_S, check=False)
        return root

    def states(self, crash: str, plan: str, until: float, *, thorough: bool) -> Row:
        """crash: `process gone`, `power cut` or `torn commit`."""
        root, done = self.record(plan)
        disk = Disk(root, at_rest(AgentHome(root).registry))
        found: list[CrashState] = []
        match crash:
            case "process gone":
                found = list(kills(disk, done))
            case "power cut":
                found = list(power_cuts(disk, done, thorough=thorough))
            case _:
                found = list(torn_logs(disk, done))

        def cases() -> Iterator[tuple[str, Callable[[], tuple[Path, int]]]]:
            for at in spread(len(found)):
                said = f"after operation {found[at].after}"
                yield said, lambda at=at: (self._put(found[at]), found[at].entries)  # type: ignore[misc]

        return self._row(crash, plan, len(found), cases(), BOOT if crash == "process gone" else NEXT_BOOT, until)

    def _put(self, state: CrashState) -> Path:
        root = self._place()
        state.put(root)
        return root

    def full(self, plan: str, until: float, *, once: bool) -> Row:
        """No space from the n-th growing operation on, or for that one alone; then the agent starts on a disk with space."""
        counted = Full(1 << 30)
        root = self._place()
        shutil.copytree(self.home(plan), root, symlinks=True)
        with started(root, BOOT, self._judge) as running, witnessed(counted):
            running.play(PLANS[plan])
        shutil.rmtree(root)

        def cases() -> Iterator[tuple[str, Callable[[], tuple[Path, int]]]]:
            for at in spread(counted.seen):
                yield f"at write {at + 1}", lambda at=at: (self._filled(plan, at + 1, once=once), 0)  # type: ignore[misc]

        name = "disk full once" if once else "disk full"
        return self._row(name, plan, counted.seen, cases(), BOOT, until)

    def _filled(self, plan: str, at: int, *, once: bool) -> Path:
        root = self._place()
        shutil.copytree(self.home(plan), root, symlinks=True)
        with started(root, BOOT, self._judge) as running:
            try:
                with witnessed(Full(at, once=once)):
                    running.play(PLANS[plan])
            except (FieldopsError, OSError):
                pass  # what the laptop is told; the device goes on
            found = running.answers()
            running.look()
            found += running.answers()
            if found or running.bugs:
                raise RuntimeError((found + running.bugs)[0])
        return root

    # --- one row -----------------------------------------------------------------------------------------------------------

    def record(self, plan: str) -> tuple[Path, list[Done]]:
        """(the home as it was, the operations of the plan played there)."""
        base = self.home(plan)
        root = self._folder / f"play-{plan}"
        if root.exists():
            shutil.rmtree(root)
        shutil.copytree(base, root, symlinks=True)
        recorder = Recorder(root)
        with witnessed(recorder), started(root, BOOT, self._judge) as running:
            ended = running.play(PLANS[plan])
            if ended is not None:
                raise RuntimeError(f"the transaction itself failed: {ended.reason} {ended.message}")
        shutil.rmtree(root)
        shutil.copytree(base, root, symlinks=True)
        return root, recorder.done

    def _row(
        self,
        crash: str,
        plan: str,
        points: int,
        cases: Iterator[tuple[str, Callable[[], tuple[Path, int]]]],
        boot_id: str,
        until: float,
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
                side, faults = survey(root, entries=entries, boot_id=boot_id, then=PLANS[plan], judge=self._judge)
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
            plan=plan,
            points=points,
            tried=sides.total(),
            old=sides["old"],
            new=sides["new"],
            trial=sides["trial"],
            failed=failed,
            faults=told,
        )


def rows(matrix: Matrix, *, full: bool, seconds: float, plans: Sequence[str] = tuple(PLANS)) -> Iterator[Row]:
    """Within about so many seconds, unless full."""
    shares = (
        ("kill -9", 0.2),
        ("process gone", 0.1),
        ("power cut", 0.35),
        ("torn commit", 0.1),
        ("disk full", 0.15),
        ("disk full once", 0.1),
    )
    for crash, share in shares:
        for plan in plans:
            until = float("inf") if full else monotonic() + seconds * share / len(plans)
            if crash == "kill -9":
                yield matrix.kill(plan, until)
            elif crash.startswith("disk full"):
                yield matrix.full(plan, until, once=crash.endswith("once"))
            else:
                yield matrix.states(crash, plan, until, thorough=full)


def play(root: Path, plan: str) -> int:
    """What the child does: to the end, unless a fault on order ends it."""
    with started(root, BOOT) as running:
        return 0 if running.play(PLANS[plan]) is None else 6

"""What the crash test plays: a change and a revert from end to end, and one plan for every row of the transition table.

The plans of the rows are made from the table, so a new row without a way to its state, or without an act that takes it,
is an error here and not a gap in the matrix.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fieldops.agent.crash_scene import (
    BOOT,
    FORMER,
    FURTHER,
    INSTALL,
    LATER,
    MODEL,
    NEW,
    NEXT_BOOT,
    OLD,
    OTHER,
    REVERT,
    Act,
    Bundle,
    Running,
    flash,
    started,
    stub_judge,
)
from fieldops.agent.crash_states import CrashState, Database, Disk, Recorder, at_rest, kills
from fieldops.agent.home import AgentHome
from fieldops.agent.judged import Judge
from fieldops.decoding import decoder
from fieldops.edges.disk import witnessed
from fieldops.slots import TABLE, Event, Slot
from fieldops.steps import Activate, Commit, Prune, Revert
from fieldops.wire import SlotState, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """before: makes the home in an empty place. boot: in which the agent starts on it, or "": only the factory is at work.

    acts: then. ends: the reasons for which its last step may end otherwise than done. factory: what is put there instead.
    """

    name: str
    before: Callable[[Path], None]
    boot: str = BOOT
    acts: tuple[Act, ...] = ()
    ends: frozenset[str] = frozenset()
    factory: Bundle | None = None

    @property
    def goes_back(self) -> bool:
        """Does somebody ask for the way back, wherever that leads by then."""
        return any(isinstance(act, Revert) or act is _overtaken for act in self.acts)

    def play(self, root: Path, judge: Judge = stub_judge) -> StepRecord | None:
        """To its end, from the agent's start on: the record of a step that did not end well."""
        if self.factory is not None:
            flash(root, self.factory)
            return None
        with started(root, self.boot, judge) as running:
            return running.play(self.acts)


# --- acts that are no steps ------------------------------------------------------------------------------------------------


def _leave(running: Running) -> None:
    """A laptop that goes away in the middle of a Stage."""
    step_id = running.begin(FURTHER.step)
    running.transaction.keep_house().result()
    running.transaction.metadata_came(step_id, running.metadata()).result()


def _settle(running: Running) -> None:
    running.transaction.settle(MODEL).result()


def _give_up(running: Running) -> None:
    running.give_up()


def _overtaken(running: Running) -> StepRecord | None:
    """An activation that a revert comes to overtake while it is validating."""
    running.answering.waits = True
    try:
        running.begin(_VALIDATE)
        return running.step(Revert(model=MODEL))
    finally:
        running.answering.waits = False


# --- ways to each state ----------------------------------------------------------------------------------------------------


def _made(*acts: Act, first: Bundle = FORMER, install: bool = True) -> Callable[[Path], None]:
    def before(root: Path) -> None:
        flash(root, first, install=install)
        with started(root, BOOT) as running:
            ended = running.play(acts)
            if ended is not None and ended.state == "failed":
                raise RuntimeError(f"the way there failed: {ended.reason} {ended.message}")

    return before


def _damaged(way: Callable[[Path], None], made: Bundle, *acts: Act) -> Callable[[Path], None]:
    """Then a file of that version is changed behind the agent's back, then the acts."""

    def before(root: Path) -> None:
        way(root)
        (AgentHome(root).bundles / made.digest / "core.bin").write_bytes(b"damaged")
        if acts:
            with started(root, BOOT) as running:
                running.play(acts)

    return before


def _cut(way: Callable[[Path], None], state: SlotState, *acts: Act) -> Callable[[Path], None]:
    """The power went right after the commit that brought the slot into this state."""

    def before(root: Path) -> None:
        whole = root.with_name(root.name + "-whole")
        way(whole)
        disk, recorder = Disk(whole, at_rest(AgentHome(whole).registry)), Recorder(whole)
        with witnessed(recorder), started(whole, BOOT) as running:
            running.play(acts)
        found: CrashState | None = None
        for crash in kills(disk, recorder.done):
            if crash.database is not None and slot_of(crash.database).state == state:
                found = crash
                break
        shutil.rmtree(whole)
        if found is None:
            raise RuntimeError(f"no {state} on the way")
        found.put(root)

    return before


def slot_of(database: Database) -> Slot:
    """The one slot there is."""
    return decoder(Slot).decode(database.slots[0])


_SETTLED = _made(*INSTALL, _settle)
_COMMITTED = _made(*INSTALL)
_LOST = _damaged(_COMMITTED, FORMER, *REVERT)
_STAGED = _made(*INSTALL, _settle, FURTHER.step)
_VALIDATE = Activate(model=MODEL, version=OTHER, trial_s=300, attempts=3)

WAYS: Final[Mapping[SlotState, Callable[[Path], None]]] = {
    "idle": _made(first=LATER, install=False),
    "staging": _made(*INSTALL, _settle, _leave),
    "staged": _STAGED,
    "validating": _cut(_STAGED, "validating", _VALIDATE),
    "trial": _made(*INSTALL, _settle, FURTHER.step, _VALIDATE),
    "committed": _COMMITTED,
    "settled": _SETTLED,
    "reverting": _cut(_COMMITTED, "reverting", *REVERT),
    "reverted": _made(*INSTALL, *REVERT),
    "needs_human": _LOST,
}
_ACTIVATED: Final[Mapping[SlotState, str]] = {"staged": OTHER, "settled": OLD, "committed": OLD}  # the others: NEW
_LISTED: Final[Mapping[SlotState, str]] = {"idle": NEW, "needs_human": NEW}  # where no last-good is whole


# --- one plan a row --------------------------------------------------------------------------------------------------------


def of_row(state: SlotState, event: Event) -> Plan:
    """Raises KeyError for a state nobody gets to and an event that nothing takes."""
    return _TAKEN[event](f"{state} {event}", state)


def _by(
    *acts: Act, boot: str = BOOT, before: Callable[[Path], None] | None = None, ends: str = ""
) -> Callable[[str, SlotState], Plan]:
    return lambda name, state: Plan(name=name, before=before or WAYS[state], boot=boot, acts=acts, ends=frozenset(ends.split()))


def _activate(name: str, state: SlotState) -> Plan:
    step = Activate(model=MODEL, version=_ACTIVATED.get(state, NEW), trial_s=300, attempts=3)
    return Plan(name=name, before=WAYS[state], acts=(step,))


def _discard(name: str, state: SlotState) -> Plan:
    act: Act = _give_up if state == "staging" else Prune(model=MODEL, versions=[OTHER])
    return Plan(name=name, before=WAYS[state], acts=(act,))


def _revert(name: str, state: SlotState) -> Plan:
    match state:
        case "validating":
            return Plan(name=name, before=_STAGED, acts=(_overtaken,))
        case "reverting":  # begun again at the start
            return Plan(name=name, before=WAYS[state], boot=NEXT_BOOT)
        case _:
            return Plan(name=name, before=WAYS[state], acts=(Revert(model=MODEL, to=_LISTED.get(state)),))


_TAKEN: Final[Mapping[Event, Callable[[str, SlotState], Plan]]] = {
    "install": lambda name, state: Plan(name=name, before=WAYS[state], boot="", factory=FURTHER),
    "stage": _by(FURTHER.step),
    "staged": _by(_give_up, FURTHER.step),  # the same again, by a laptop that was away
    "discard": _discard,
    "activate": _activate,
    "passed": _by(_VALIDATE, before=_STAGED),
    "failed": _by(),
    "resume": _by(),
    "commit": _by(Commit(model=MODEL, version=OTHER)),
    "settle": _by(_settle),
    "revert": _revert,
    "restored": _by(boot=NEXT_BOOT),
    "kept": _by(Revert(model=MODEL, to=OTHER), before=_damaged(_STAGED, FURTHER), ends="validation_failed"),
    "lost": _by(*REVERT, before=_damaged(_COMMITTED, FORMER), ends="last_good_failed"),
}
STORIES: Final[Mapping[str, Plan]] = {
    "install": Plan(name="install", before=_made(), acts=INSTALL),
    "revert": Plan(name="revert", before=_COMMITTED, acts=REVERT),
    "refused": Plan(  # by its checks
        name="refused", before=_damaged(_STAGED, FURTHER), acts=(_VALIDATE,), ends=frozenset({"validation_failed"})
    ),
    "reboot": Plan(name="reboot", before=WAYS["trial"], boot=NEXT_BOOT),  # a trial ends with its boot
}
PLANS: Final[Mapping[str, Plan]] = {**STORIES, **{f"{state} {event}": of_row(state, event) for state, event in TABLE}}

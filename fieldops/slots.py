"""The device's transaction on one model: every way from state to state is a row of one table.

A slot rests in idle, committed, settled, reverted or needs_human. Whatever is under way keeps the old model answering
until a candidate has passed its checks, and every doubt ends in `revert`. Pure: the caller gives the time, the boot and
the reason, writes the result down durably, and only then acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from fieldops.errors import DeviceCannot
from fieldops.wire import SlotState

Event = Literal[
    "install",  # put there without a laptop, at the factory or as a foreign model
    "stage",
    "staged",
    "discard",
    "activate",
    "passed",
    "failed",
    "resume",  # the agent started again in the middle of a trial
    "commit",
    "settle",
    "revert",
    "restored",
    "kept",  # the version asked for failed its checks; what was active stays
    "lost",  # last-good failed its checks
]

STATES: Final[tuple[SlotState, ...]] = get_args(SlotState)
RESTING: Final[tuple[SlotState, ...]] = ("idle", "committed", "settled", "reverted", "needs_human")
MOST_TRANSITIONS = 28  # of one transaction, as Mender caps it: a loop ends with a person, not never

# None: back to where the slot rested before.
TABLE: Final[Mapping[tuple[SlotState, Event], SlotState | None]] = {
    **{(state, "install"): "settled" for state in RESTING},
    **{(state, "stage"): "staging" for state in (*RESTING, "staged")},
    ("staging", "staged"): "staged",
    ("staging", "discard"): None,
    ("staged", "discard"): None,
    **{(state, "activate"): "validating" for state in (*RESTING, "staged")},
    ("validating", "passed"): "trial",
    ("validating", "failed"): "reverted",
    ("trial", "resume"): "trial",
    ("trial", "commit"): "committed",
    ("committed", "settle"): "settled",
    # From everywhere, itself included: a revert cut off by a power cut is begun again.
    **{(state, "revert"): "reverting" for state in STATES},
    ("reverting", "restored"): "reverted",
    ("reverting", "kept"): None,
    ("reverting", "lost"): "needs_human",
}


class Trial(Struct, frozen=True, kw_only=True):
    """deadline: seconds of the monotonic clock of that boot. attempts: starts left, this one included."""

    boot_id: str
    deadline: float
    attempts: int


class Slot(Struct, frozen=True, kw_only=True):
    """One model. Versions are named by their version text; the registry knows their digests.

    During a trial `active` is still the former version, to which the slot goes back without `commit`.
    """

    model: str
    task: str
    state: SlotState = "idle"
    rest: SlotState = "idle"
    active: str | None = None
    last_good: str | None = None
    candidate: str | None = None
    target: str | None = None  # what a revert under way goes back to
    floor: int = 0
    trial: Trial | None = None
    probation: Trial | None = None  # after commit: until then health may still revert it
    reason: str = ""
    since: float = 0.0
    hops: int = 0

    @property
    def answering(self) -> str | None:
        """The version that should answer; None: the rule of the active version's manifest.

        Where a person is needed, staging or checking another version changes nothing: only one that passed its checks does.
        """
        if self.state == "trial":
            return self.candidate
        if self.rest == "needs_human":
            return None
        return self.active

    @property
    def kept(self) -> frozenset[str]:
        """Versions whose files must never be collected."""
        return frozenset(v for v in (self.active, self.last_good, self.candidate, self.target) if v is not None)


def advance(
    slot: Slot,
    event: Event,
    *,
    now: float,
    reason: str,
    version: str | None = None,
    trial: Trial | None = None,
    floor: int = 0,
) -> Slot:
    """The slot after `event`. Raises DeviceCannot (wrong_state) when the table has no such row.

    version: the candidate of stage, activate and install, or where revert goes. trial: of passed and resume, and the
    probation of commit. floor: the counter below which nothing may be staged from now on; it never falls.
    """
    if (slot.state, event) not in TABLE:
        raise DeviceCannot(
            f"{slot.model} is {slot.state}: {event} is not possible now",
            reason="wrong_state",
            next_step=f"look at `fieldops models` and finish or revert what is under way for {slot.model}",
        )
    to = TABLE[(slot.state, event)] or slot.rest
    if event == "failed" and slot.rest == "needs_human":
        to = slot.rest  # nothing is mended by a version that failed
    if slot.hops >= MOST_TRANSITIONS and to not in RESTING:
        return replace(
            slot, state="needs_human", rest="needs_human", trial=None, reason="too_many_transitions", since=now, hops=0
        )
    moved = replace(
        slot,
        state=to,
        rest=to if to in RESTING else slot.rest,
        reason=reason,
        since=now,
        hops=0 if to in RESTING else slot.hops + 1,
        floor=max(slot.floor, floor),
    )
    return _with_versions(moved, event, version, trial)


def _with_versions(slot: Slot, event: Event, version: str | None, trial: Trial | None) -> Slot:
    match event:
        case "install":
            return replace(slot, active=version, last_good=slot.active or slot.last_good, candidate=None, probation=None)
        case "stage" | "activate":
            return replace(slot, candidate=version)
        case "passed" | "resume":
            return replace(slot, trial=trial)
        case "commit":
            # An active version committed again keeps its last-good: it is no way back from itself.
            last_good = slot.last_good if slot.active in {None, slot.candidate} else slot.active
            return replace(slot, active=slot.candidate, last_good=last_good, candidate=None, trial=None, probation=trial)
        case "settle":
            return replace(slot, probation=None)
        case "revert":
            return replace(slot, target=version, trial=None)
        case "restored":
            return replace(slot, active=slot.target, candidate=None, target=None, probation=None)
        case "discard" | "failed" | "kept" | "lost":
            probation = None if event == "lost" else slot.probation
            return replace(slot, candidate=None, target=None, trial=None, probation=probation)
        case _:
            return slot


def way_back(slot: Slot) -> str | None:
    """Where `Revert` without a version goes: out of a trial or an attempt to the active one, else to last-good."""
    if slot.state in {"trial", "validating"}:
        return slot.active
    if slot.state == "reverting":
        return slot.target
    return slot.last_good


def expired(trial: Trial, boot_id: str, monotonic: float) -> bool:
    """Of another boot the monotonic clock says nothing, so it counts as passed: in doubt, revert."""
    return trial.boot_id != boot_id or monotonic >= trial.deadline


def on_start(slot: Slot, boot_id: str, monotonic: float) -> tuple[Event, str] | None:
    """What the agent must do with a slot it finds at its start, and why; None: nothing is under way that it must end."""
    match slot.state:
        case "validating":
            return "failed", "interrupted"
        case "reverting":
            return "revert", slot.reason
        case "trial":
            if slot.trial is None or expired(slot.trial, boot_id, monotonic):
                return "revert", "trial_deadline"
            if slot.trial.attempts <= 1:
                return "revert", "trial_attempts"
            return "resume", "restarted"
        case _:
            return None


def diagram() -> str:
    """The table as a mermaid state diagram; docs/device-states.md holds it."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    ways: dict[tuple[str, str], list[str]] = {}
    for (state, event), to in TABLE.items():
        ways.setdefault((state, to or "rest"), []).append(event)
    everywhere = all(TABLE.get((state, "revert")) == "reverting" for state in STATES)
    for (start, end), events in ways.items():
        told = [event for event in events if not (everywhere and event == "revert")]
        if told and end == "rest":
            lines += [f"    {start} --> where_it_rested: {event}" for event in told]
        elif told:
            lines.append(f"    {start} --> {end}: {', '.join(told)}")
    if everywhere:
        lines.append("    from_any_state --> reverting: revert")
    lines.append(f"    from_any_state --> needs_human: more than {MOST_TRANSITIONS} transitions without rest")
    return "\n".join(lines)


_WHY: Final[Mapping[str, str]] = {
    "provisioned": "it came with the device",
    "foreign": "it ran here before, unsigned",
    "adopted": "it ran here before, unsigned, and was taken over as it was",
    "stage": "a version is being copied",
    "verified": "a version is here, verified",
    "activate": "a version is being checked",
    "validated": "it passed its checks",
    "commit": "its trial was ended well",
    "probation_over": "it stayed healthy",
    "pruned": "a version was removed",
    "superseded": "another version came after it",
    "trial_deadline": "nobody ended its trial in time",
    "worker_crashes": "its process crashed",
    "validation_failed": "it failed its checks",
    "last_good_failed": "last-good failed its checks as well",
    "golden_failed": "it failed the golden set",
    "error_rate": "too many requests failed",
    "interrupted": "the device was cut off in the middle",
    "too_many_transitions": "it went round in circles",
}


def why(reason: str) -> str:
    """The reason of a slot's state in a technician's words; one that is not known here as it is."""
    return _WHY.get(reason, reason.replace("_", " "))

"""Put a signed version on a device: verify on the laptop, plan, stage, validate, trial, commit.

The laptop sends only its own verified copy. The device decides again by its own root, policy and golden set; what it
answers is the outcome.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.approvals import Matter, encode_statement, statement_of
from fieldops.bundles.kit import is_agent
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, TrustRefused, UsageFault
from fieldops.operations.gate import Gate, Words
from fieldops.operations.plans import Planned, run
from fieldops.ports import BreakGlass, Broken, Candidate, Device, OnProgress, Source, Trust, TrustedBundle
from fieldops.steps import Activate, Approval, Arm, Commit, RotateTrust, Stage
from fieldops.wire import SlotStatus, StepRecord

__all__ = [
    "Planned",
    "SideloadPlan",
    "Window",
    "candidates",
    "commit",
    "fetch",
    "fetch_newest",
    "plan",
    "run",
    "statement",
    "window_of",
]

DEFAULT_TRIAL_S = 300


@dataclass(frozen=True, slots=True)
class SideloadPlan:
    """What will be done to one device. from_version None: the model is new there. No steps: it already runs the version."""

    device: str
    model: str
    from_version: str | None
    to_version: str
    steps: tuple[Planned, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """When an armed device may try. start, end: Unix seconds. None: no such limit."""

    start: float
    end: float
    load: float | None = None
    hottest_c: float | None = None
    battery_pct: float | None = None


def window_of(text: str, now: float) -> Window:
    """`22:00-04:00` by this laptop's time of day (the next one, or the one that runs), or `+8h`: from now on. Raises UsageFault."""
    if match := re.fullmatch(r"\+(\d{1,3})(m|h)", text):
        return Window(now, now + int(match[1]) * (60 if match[2] == "m" else 3600))
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)", text)
    if not match or match.group(1, 2) == match.group(3, 4):
        raise UsageFault(f"--arm {text}", reason="usage", next_step="give a window such as 22:00-04:00, or +8h")
    here = dt.datetime.fromtimestamp(now).astimezone()
    first = here.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    last = here.replace(hour=int(match[3]), minute=int(match[4]), second=0, microsecond=0)
    if last <= first:
        last += dt.timedelta(days=1)
    if last - dt.timedelta(days=1) > here:  # yesterday's runs past midnight until today
        first, last = first - dt.timedelta(days=1), last - dt.timedelta(days=1)
    elif last <= here:
        first, last = first + dt.timedelta(days=1), last + dt.timedelta(days=1)
    return Window(first.timestamp(), last.timestamp())


def candidates(trust: Trust, sources: Iterable[Source], deadline: Deadline) -> list[Candidate]:
    """Every bundle that every source offers, each with the reason why it is not usable. Agents are none: see operations/upgrade."""
    offered = [candidate for source in sources for candidate in trust.candidates(source, deadline)]
    return [candidate for candidate in offered if not is_agent(candidate.model)]


def fetch(
    gate: Gate,
    trust: Trust,
    source: Source,
    ref: str,
    deadline: Deadline,
    *,
    channel: str | None = None,
    words: Words = Words(),
    progress: OnProgress | None = None,
    reread: bool = False,
    glass: BreakGlass | None = None,
) -> TrustedBundle:
    """The verified copy of MODEL@VERSION. A refusal is noted in the log, then rises as TrustRefused.

    reread: read every byte of the source, also of what this laptop holds a verified copy of. glass: metadata may be too old.
    """
    model, _, version = ref.partition("@")
    try:
        bundle = trust.fetch(source, ref, deadline, channel=channel, progress=progress, reread=reread, glass=glass)
    except TrustRefused as error:
        gate.note(
            "stick.verify",
            subject=Subject(kind="model", name=model, to=version),
            result=Result(status="refused", code=error.exit_code, reason=error.reason, detail=error.message),
            words=words,
        )
        raise
    gate.note(
        "stick.verify",
        subject=Subject(kind="model", name=model, to=version, digest=bundle.manifest_sha256),
        result=Result(status="done"),
        words=words,
    )
    if bundle.broken is not None:
        _note_break_glass(gate, bundle, bundle.broken, words)
    return bundle


def fetch_newest(
    gate: Gate,
    trust: Trust,
    sources: Sequence[Source],
    ref: str,
    deadline: Deadline,
    *,
    channel: str | None = None,
    words: Words = Words(),
    progress: OnProgress | None = None,
    glass: BreakGlass | None = None,
) -> TrustedBundle:
    """The same from several sources: the newest metadata of all, the payload from the first that has it whole.

    What one source began another goes on with. Raises the first one's TrustRefused when none of them serves.
    """
    refusals: list[TrustRefused] = []
    for source in sources if len(sources) > 1 else ():
        try:
            trust.refresh(source, deadline)
        except TrustRefused as error:  # an older or emptier source may still hold the payload; fetch judges that
            refusals.append(error)
    for source in sources:
        try:
            return fetch(gate, trust, source, ref, deadline, channel=channel, words=words, progress=progress, glass=glass)
        except TrustRefused as error:
            refusals.append(error)
    raise max(refusals, key=lambda error: error.reason != "missing")


def _note_break_glass(gate: Gate, bundle: TrustedBundle, broken: Broken, words: Words) -> None:
    """Stands out in the record: what the rules refuse was used."""
    day = dt.datetime.fromtimestamp(broken.since, dt.UTC).strftime("%Y-%m-%d")
    gate.note(
        "BREAK-GLASS",
        subject=Subject(kind="model", name=bundle.manifest.model, to=bundle.manifest.version, digest=bundle.manifest_sha256),
        result=Result(
            status="done",
            reason="expired",
            detail=f"signed metadata expired {day} was used; approved by {', '.join(broken.people)}",
        ),
        words=words,
    )


def statement(
    trust: Trust,
    source: Source,
    ref: str,
    devices: Sequence[str],
    deadline: Deadline,
    *,
    until: float,
    accept_expired: bool,
    channel: str | None = None,
    reason: str = "",
) -> str:
    """The text that approvers sign: for expired metadata, or (without accept_expired) for a version below the floor.

    devices: their ids. Everything but what it is about is verified first. Raises TrustRefused, UsageFault.
    """
    if accept_expired:
        matter = trust.expired_matter(source, ref, deadline, channel=channel)
    else:
        bundle = trust.fetch(source, ref, deadline, channel=channel)
        matter = Matter("below_floor", bundle.manifest.model, bundle.manifest.version, bundle.manifest_sha256, ())
    return encode_statement(statement_of(replace(matter, devices=tuple(devices)), until, reason))


def plan(
    trust: Trust,
    device: Device,
    bundle: TrustedBundle,
    deadline: Deadline,
    *,
    trial_s: int = DEFAULT_TRIAL_S,
    shadow_s: int = 0,
    commit: bool = True,
    approvals: Sequence[Approval] = (),
    window: Window | None = None,
) -> SideloadPlan:
    """The steps for this device as it is now. commit False: the trial is left to somebody else, or to its deadline.
    shadow_s: so long it sees copies of live requests before its trial; nothing by itself, so not with a window.

    approvals: for expired metadata, or for a version below the device's floor; the device judges them itself.
    window: the device is armed instead, and tries, commits or reverts by itself.

    Raises DeviceCannot when the device says already that it cannot take the model.
    """
    manifest = bundle.manifest
    slot = next((each for each in device.models(deadline).slots if each.model == manifest.model), None)
    active = slot.active if slot else None
    if slot is not None and slot.state in {"trial", "validating"}:
        raise DeviceCannot(
            f"{manifest.model} is {slot.state} ({slot.candidate})",
            reason="busy",
            next_step=f"wait for its end, or `fieldops rollback {device.entry.name} {manifest.model}`",
            device=device.entry.name,
        )
    if active == manifest.version and _digest_of(slot, active) == bundle.manifest_sha256:
        return SideloadPlan(device.entry.name, manifest.model, active, manifest.version, ())
    # Expired metadata brings a device no rules: it goes by those that it has.
    steps = [] if bundle.broken else [*trust_first(trust, device, deadline)]
    steps.append(
        Planned(
            Stage(
                channel=bundle.channel,
                model=manifest.model,
                version=manifest.version,
                manifest_sha256=bundle.manifest_sha256,
                accept_expired=bundle.broken is not None,
                approvals=list(approvals),
            ),
            bundle.payload,
        )
    )
    if window is not None and shadow_s:
        raise UsageFault(
            "a device that is armed tries a version by itself, without a shadow phase",
            reason="bad_option",
            next_step="use --shadow while you are there, or --arm",
        )
    if window is not None:
        armed = Arm(
            model=manifest.model,
            version=manifest.version,
            start=window.start,
            end=window.end,
            trial_s=trial_s,
            load=window.load,
            hottest_c=window.hottest_c,
            battery_pct=window.battery_pct or manifest.needs.battery_pct,
        )
        steps.append(Planned(armed))
    else:
        steps.append(Planned(Activate(model=manifest.model, version=manifest.version, trial_s=trial_s, shadow_s=shadow_s)))
    if commit and window is None:
        steps.append(Planned(Commit(model=manifest.model, version=manifest.version)))
    warnings = (*_warnings(slot, bundle), *_over_by_then(trust, bundle, window))
    return SideloadPlan(device.entry.name, manifest.model, active, manifest.version, tuple(steps), warnings)


def commit(gate: Gate, device: Device, model: str, version: str, deadline: Deadline, *, words: Words = Words()) -> StepRecord:
    """End a trial that somebody watched. Raises DeviceCannot when the device went back meanwhile."""
    return gate.perform(device, Commit(model=model, version=version), deadline, words=words)


def trust_first(trust: Trust, device: Device, deadline: Deadline) -> Iterable[Planned]:
    """New people, rules and golden sets reach the device before the model that needs them."""
    version, policy_sha256, payload = trust.policy_payload()
    known = device.trust(deadline)
    # A newer root also where the device has the higher timestamp: that one may be from a clock that was wrong.
    behind = known.timestamp_version < version or known.root_version < trust.facts().root_version
    if policy_sha256 and (known.policy_sha256 != policy_sha256 or behind):
        yield Planned(RotateTrust(timestamp_version=version), payload)


def _digest_of(slot: SlotStatus | None, version: str | None) -> str | None:
    if slot is None:
        return None
    return next((each.manifest_sha256 for each in slot.versions if each.version == version), None)


def _over_by_then(trust: Trust, bundle: TrustedBundle, window: Window | None) -> tuple[str, ...]:
    """A device asks again as it begins: what has expired by then is disarmed."""
    expires = trust.facts().expires
    if window is None or bundle.broken is not None or expires is None or expires >= window.end:
        return ()
    day = dt.datetime.fromtimestamp(expires, dt.UTC).strftime("%Y-%m-%d %H:%M")
    return (f"its signed metadata expires {day} UTC, before its window ends: from then on the device does not try it",)


def _warnings(slot: SlotStatus | None, bundle: TrustedBundle) -> tuple[str, ...]:
    manifest = bundle.manifest
    found: list[str] = []
    if bundle.broken is not None:
        found.append(f"its signed metadata expired {bundle.broken.age_s / 86400:.1f} days ago; used by approval")
    if slot is None:
        found.append(f"{manifest.model} is new on this device: there is no last-good to go back to")
        return tuple(found)
    if slot.state == "staging":  # another laptop that still copies holds the device's lease, and the device says so
        left = "is gone on with" if slot.candidate == manifest.version else "is given up"
        found.append(f"the copy of {slot.candidate} that broke off {left}")
    active = next((each for each in slot.versions if each.version == slot.active), None)
    if active is not None and active.counter > manifest.counter:
        found.append(f"{manifest.version} is older than {slot.active}")
    if manifest.counter < slot.floor:
        found.append(f"{manifest.version} is below the floor of this device (counter {manifest.counter} < {slot.floor})")
    if active is not None and not active.signed_by:
        found.append(f"{slot.active} is unsigned; it is kept as last-good")
    if any(each.role == "quarantined" and each.version == manifest.version for each in slot.versions):
        found.append(f"{manifest.version} failed on this device before")
    return tuple(found)

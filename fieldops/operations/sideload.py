"""Put a signed version on a device: verify on the laptop, plan, stage, validate, trial, commit.

The laptop sends only its own verified copy. The device decides again by its own root, policy and golden set; what it
answers is the outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fieldops.audit.entry import Result, Subject
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, TrustRefused
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Candidate, Device, OnProgress, Payload, Source, Trust, TrustedBundle
from fieldops.steps import Activate, Commit, RotateTrust, Stage, Step, describe
from fieldops.wire import SlotStatus, StepRecord

DEFAULT_TRIAL_S = 300


@dataclass(frozen=True, slots=True)
class Planned:
    """A step and the means it needs; payload None: none."""

    step: Step
    payload: Payload | None = None

    def __str__(self) -> str:
        return describe(self.step)


@dataclass(frozen=True, slots=True)
class SideloadPlan:
    """What will be done to one device. from_version None: the model is new there. No steps: it already runs the version."""

    device: str
    model: str
    from_version: str | None
    to_version: str
    steps: tuple[Planned, ...]
    warnings: tuple[str, ...] = ()


def candidates(trust: Trust, sources: Iterable[Source], deadline: Deadline) -> list[Candidate]:
    """Every bundle that every source offers, each with the reason why it is not usable."""
    return [candidate for source in sources for candidate in trust.candidates(source, deadline)]


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
) -> TrustedBundle:
    """The verified copy of MODEL@VERSION. A refusal is noted in the log, then rises as TrustRefused.

    reread: read every byte of the source, also of what this laptop holds a verified copy of.
    """
    model, _, version = ref.partition("@")
    try:
        bundle = trust.fetch(source, ref, deadline, channel=channel, progress=progress, reread=reread)
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
    return bundle


def plan(
    trust: Trust,
    device: Device,
    bundle: TrustedBundle,
    deadline: Deadline,
    *,
    trial_s: int = DEFAULT_TRIAL_S,
    commit: bool = True,
) -> SideloadPlan:
    """The steps for this device as it is now. commit False: the trial is left to somebody else, or to its deadline.

    Raises DeviceCannot when the device says already that it cannot take the model.
    """
    manifest = bundle.manifest
    slot = next((each for each in device.models(deadline).slots if each.model == manifest.model), None)
    active = slot.active if slot else None
    if slot is not None and slot.state in {"trial", "validating", "staging"}:
        raise DeviceCannot(
            f"{manifest.model} is {slot.state} ({slot.candidate})",
            reason="busy",
            next_step=f"wait for its end, or `fieldops rollback {device.entry.name} {manifest.model}`",
            device=device.entry.name,
        )
    if active == manifest.version and _digest_of(slot, active) == bundle.manifest_sha256:
        return SideloadPlan(device.entry.name, manifest.model, active, manifest.version, ())
    steps = [*_trust_first(trust, device, deadline)]
    steps.append(
        Planned(
            Stage(
                channel=bundle.channel,
                model=manifest.model,
                version=manifest.version,
                manifest_sha256=bundle.manifest_sha256,
            ),
            bundle.payload,
        )
    )
    steps.append(Planned(Activate(model=manifest.model, version=manifest.version, trial_s=trial_s)))
    if commit:
        steps.append(Planned(Commit(model=manifest.model, version=manifest.version)))
    return SideloadPlan(device.entry.name, manifest.model, active, manifest.version, tuple(steps), _warnings(slot, bundle))


def run(
    gate: Gate,
    device: Device,
    planned: SideloadPlan,
    deadline: Deadline,
    *,
    words: Words = Words(),
    progress: OnProgress | None = None,
) -> tuple[StepRecord, ...]:
    """Each step through the gate, in order. The first that fails ends it; the device has then kept or restored the old model."""
    return tuple(
        gate.perform(device, each.step, deadline, payload=each.payload, words=words, progress=progress) for each in planned.steps
    )


def _trust_first(trust: Trust, device: Device, deadline: Deadline) -> Iterable[Planned]:
    """New people, rules and golden sets reach the device before the model that needs them."""
    version, policy_sha256, payload = trust.policy_payload()
    known = device.trust(deadline)
    if policy_sha256 and (known.policy_sha256 != policy_sha256 or known.timestamp_version < version):
        yield Planned(RotateTrust(timestamp_version=version), payload)


def _digest_of(slot: SlotStatus | None, version: str | None) -> str | None:
    if slot is None:
        return None
    return next((each.manifest_sha256 for each in slot.versions if each.version == version), None)


def _warnings(slot: SlotStatus | None, bundle: TrustedBundle) -> tuple[str, ...]:
    manifest = bundle.manifest
    found: list[str] = []
    if slot is None:
        found.append(f"{manifest.model} is new on this device: there is no last-good to go back to")
        return tuple(found)
    active = next((each for each in slot.versions if each.version == slot.active), None)
    if active is not None and active.counter > manifest.counter:
        found.append(f"{manifest.version} is older than {slot.active}")
    if active is not None and not active.signed_by:
        found.append(f"{slot.active} is unsigned; it is kept as last-good")
    if any(each.role == "quarantined" and each.version == manifest.version for each in slot.versions):
        found.append(f"{manifest.version} failed on this device before")
    return tuple(found)

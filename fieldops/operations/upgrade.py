"""Give a device a newer agent, from a release: verify here, let the old agent verify and install it, see the new one, keep it.

The new agent is on trial from its first start. Only a laptop that reached it over a link of its own ends that; in every other
case, also when this laptop is gone, the old agent comes back by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.kit import agent_version, is_agent
from fieldops.bundles.trust import refuse
from fieldops.deadline import Deadline
from fieldops.errors import DeviceCannot, TrustRefused, UsageFault
from fieldops.fleet import DeviceEntry
from fieldops.operations.gate import Gate, Words
from fieldops.operations.plans import ChangePlan, Planned
from fieldops.operations.sideload import SideloadPlan, trust_first
from fieldops.ports import Candidate, Device, OnProgress, Source, Trust, TrustedAgent
from fieldops.steps import KeepAgent, Upgrade
from fieldops.wire import Hello, StepRecord

DEFAULT_TRIAL_S = 300
DEFAULT_ANSWER_S = 90

Connect = Callable[[DeviceEntry, Deadline], AbstractContextManager[Device]]


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
) -> TrustedAgent:
    """The verified copy of an agent's kit, as sideload.fetch of a bundle: a refusal is noted in the log, then rises."""
    name, _, version = ref.partition("@")
    try:
        agent = trust.fetch_agent(source, ref, deadline, channel=channel, progress=progress, reread=reread)
    except TrustRefused as error:
        gate.note(
            "stick.verify",
            subject=Subject(kind="agent", name=name, to=version),
            result=Result(status="refused", code=error.exit_code, reason=error.reason, detail=error.message),
            words=words,
        )
        raise
    subject = Subject(kind="agent", name=name, to=version, digest=agent.kit_sha256)
    gate.note("stick.verify", subject=subject, result=Result(status="done"), words=words)
    return agent


def plan(
    gate: Gate,
    trust: Trust,
    device: Device,
    sources: Sequence[Source],
    deadline: Deadline,
    *,
    words: Words = Words(),
    trial_s: int = DEFAULT_TRIAL_S,
    answer_s: int = DEFAULT_ANSWER_S,
    progress: OnProgress | None = None,
) -> SideloadPlan:
    """For the newest agent that the sources hold for this device. No steps: it runs that one already.

    Raises DeviceCannot (not_from_kit), UsageFault (unknown_agent), TrustRefused (also below_floor: all are older).
    """
    hello = device.hello(deadline)
    if not hello.software:
        raise DeviceCannot(
            "there is no agent there that could take a newer one" if hello.versions == (0, 0) else "its agent takes no upgrade",
            reason="not_from_kit",
            next_step=f"install one: fieldops device enrol {device.entry.name} --kit DIR",
            device=device.entry.name,
        )
    source, chosen = _newest(trust, sources, hello, device.entry.name, deadline)
    if chosen.version == hello.agent:
        return SideloadPlan(device.entry.name, chosen.model, hello.agent, chosen.version, ())
    if agent_version(chosen.version) < agent_version(hello.agent):
        error = refuse("below_floor", f"the newest agent on {source.name} is {chosen.version}, and {hello.agent} runs there")
        raise error.about(device.entry.name)
    agent = fetch(gate, trust, source, chosen.ref, deadline, channel=chosen.channel, words=words, progress=progress)
    upgrade, kept = Planned(step_of(agent, trial_s, answer_s), agent.payload), Planned(KeepAgent(version=agent.version))
    steps = [*trust_first(trust, device, deadline), upgrade, kept]
    return SideloadPlan(device.entry.name, agent.agent, hello.agent, agent.version, tuple(steps))


def step_of(agent: TrustedAgent, trial_s: int, answer_s: int = DEFAULT_ANSWER_S) -> Upgrade:
    return Upgrade(
        channel=agent.channel,
        agent=agent.agent,
        version=agent.version,
        kit_sha256=agent.kit_sha256,
        trial_s=trial_s,
        answer_s=answer_s,
    )


def _newest(trust: Trust, sources: Sequence[Source], hello: Hello, name: str, deadline: Deadline) -> tuple[Source, Candidate]:
    found: list[tuple[Source, Candidate]] = []
    refusals: list[TrustRefused] = []
    others: set[str] = set()
    for source in sources:
        try:
            offered = trust.candidates(source, deadline)
        except TrustRefused as error:
            refusals.append(error)
            continue
        others |= {each.ref for each in offered if is_agent(each.model)}
        found += [(source, each) for each in offered if each.model == hello.software]
    found.sort(key=lambda each: agent_version(each[1].version), reverse=True)
    for source, candidate in found:
        if not candidate.reason:
            return source, candidate
    if found:
        _, worst = found[0]
        raise refuse(worst.reason, worst.message).about(name)
    if refusals:
        raise refusals[0]
    raise UsageFault(
        f"no {hello.software} on {', '.join(source.name for source in sources) or 'any stick'}",
        reason="unknown_agent",
        next_step=f"agents there: {', '.join(sorted(others)) or 'none'}; `fieldops release add-agent` signs one",
        device=name,
    )


def run(
    gate: Gate,
    connect: Connect,
    entry: DeviceEntry,
    planned: ChangePlan,
    deadline: Deadline,
    *,
    words: Words = Words(),
    progress: OnProgress | None = None,
) -> tuple[StepRecord, ...]:
    """Each step through the gate; KeepAgent only over a second link, to an agent that serves the same models as the old one.

    connect: a new link each time. Raises DeviceCannot when the old agent came back, or is about to.
    """
    if not planned.steps:
        return ()
    *before, last = planned.steps
    with connect(entry, deadline) as device:
        served = _served(device, deadline)
        records = [
            gate.perform(device, each.step, deadline, payload=each.payload, words=words, progress=progress) for each in before
        ]
    with connect(entry, deadline) as device:
        _check(device, planned.to_version, served, deadline)
        return (*records, gate.perform(device, last.step, deadline, words=words, progress=progress))


def _served(device: Device, deadline: Deadline) -> dict[str, str | None]:
    return {slot.model: slot.active for slot in device.models(deadline).slots if slot.state != "needs_human"}


def _check(device: Device, version: str | None, served: dict[str, str | None], deadline: Deadline) -> None:
    hello = device.hello(deadline)
    now = _served(device, deadline)
    lost = [f"{model} {active}" for model, active in served.items() if now.get(model) != active]
    if hello.agent == version and not lost:
        return
    what = f"agent {hello.agent} answers" if hello.agent != version else f"agent {version} no longer serves {', '.join(lost)}"
    raise DeviceCannot(
        f"{what}; {version} was not kept, so the former agent comes back by itself",
        reason="not_kept",
        next_step=f"look again when its trial is over: fieldops device show {device.entry.name}",
        device=device.entry.name,
    )

"""What a runbook's action does. Each reads the device first, so repeating one whose outcome a dead laptop never wrote down
changes nothing twice. Every fault becomes a fact: the engine decides what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fieldops.deadline import Deadline
from fieldops.errors import Cancelled, DeviceCannot, FieldopsError
from fieldops.operations import benchmark, observe
from fieldops.operations.gate import Gate, Words
from fieldops.ports import Device
from fieldops.runbooks.engine import Action, Fact
from fieldops.runbooks.format import LAST_GOOD
from fieldops.steps import Activate, Commit, Revert
from fieldops.wire import SlotStatus

Connect = Callable[[Deadline], AbstractContextManager[Device]]

DEFAULT_TRIAL_S = 120


@dataclass(frozen=True, slots=True)
class Memory:
    """before: what this action found when it was begun, by a run that was cut off; None: it begins now. keep: durably."""

    before: dict[str, str] | None
    keep: Callable[[dict[str, str]], None]


def perform(gate: Gate, action: Action, connect: Connect, deadline: Deadline, words: Words, memory: Memory) -> Fact:
    """Never raises one of errors.py. A bug still rises, and the run stays resumable."""
    try:
        deadline.check(action.id)
        with connect(deadline) as device:
            if action.kind == "require":
                return _require(action, device, deadline)
            return _do(gate, action, device, deadline, words, memory)
    except Cancelled as error:
        return Fact(False, {}, "cancelled", str(error), error.exit_code)
    except FieldopsError as error:
        return Fact(False, {}, error.reason, str(error), error.exit_code)


def _require(action: Action, device: Device, deadline: Deadline) -> Fact:
    given = action.arguments
    match action.what:
        case "link.up":
            hello = device.hello(deadline)
            return Fact(True, {"device": hello.device})
        case "model.present":
            slot = _slot(device, given["model"], deadline)
            return _holds(slot.active is not None, f"{slot.model} answers with {slot.active}")
        case "model.last_good":
            slot = _slot(device, given["model"], deadline)
            return _holds(slot.last_good is not None, f"last-good of {slot.model} is {slot.last_good}")
        case "cause.is_not":
            found = observe.drift(device, deadline, given["model"])
            verdict = found[0].verdict if found else "unknown"
            return _holds(verdict != given["verdict"], f"the cause of drift is {verdict}")
        case _:
            return _measured(action.what, given, device, deadline)


def _measured(what: str, given: dict[str, str], device: Device, deadline: Deadline) -> Fact:
    """A limit on a reading. Not measurable is not a refusal: it is said, and the run goes on."""
    hardware = device.resources(deadline)
    match what:
        case "load.below":
            value, limit, below = hardware.cpu_pct, float(given["cpu_pct"]), True
        case "temperature.below":
            value, limit, below = hardware.soc_temp_c, float(given["celsius"]), True
        case _:
            value = hardware.disk_free_bytes / 2**20 if hardware.disk_free_bytes is not None else None
            limit, below = float(given["mib"]), False
    if value is None:
        return Fact(True, {"measured": "-"}, message=f"{what}: not measurable on this device")
    return _holds(value < limit if below else value >= limit, f"{what}: {value:.0f}, limit {limit:.0f}")


def _holds(ok: bool, message: str) -> Fact:
    return Fact(ok, {}, "" if ok else "requirement", message, 0 if ok else DeviceCannot.exit_code)


def _do(gate: Gate, action: Action, device: Device, deadline: Deadline, words: Words, memory: Memory) -> Fact:
    given = action.arguments
    match action.what:
        case "observe":
            hardware = device.resources(deadline)
            return Fact(True, {"temp_c": "-" if hardware.soc_temp_c is None else f"{hardware.soc_temp_c:.0f}"})
        case "bench.run":
            samples = int(given.get("samples", "256"))
            result = benchmark.on_device(gate, device, given["model"], deadline, samples=samples, words=words)
            return Fact(True, {"p50_ms": f"{result.p50_ms:.3f}", "version": result.version})
        case "model.revert":
            return _revert(gate, given, device, deadline, words, memory)
        case "model.activate":
            return _activate(gate, given, device, deadline, words, memory)
        case "model.commit":
            gate.perform(device, Commit(model=given["model"], version=given["version"]), deadline, words=words)
            return Fact(True, {"version": given["version"]})
        case _:
            return _health(given, device, deadline)


def _revert(gate: Gate, given: dict[str, str], device: Device, deadline: Deadline, words: Words, memory: Memory) -> Fact:
    slot = _slot(device, given["model"], deadline)
    wanted = given.get("to", LAST_GOOD)
    to = None if wanted == LAST_GOOD else wanted
    back = (slot.active if slot.state in {"trial", "validating"} else slot.last_good) or ""
    found = _found(memory, {"previous": _answering(slot), "version": to or back})
    if _answering(slot) == found["version"] and slot.state != "trial" and (to is not None or memory.before is not None):
        return Fact(True, found, message="already there")
    record = gate.perform(device, Revert(model=slot.model, to=to), deadline, words=words)
    return Fact(True, {"previous": found["previous"], "version": record.version or found["version"]})


def _activate(gate: Gate, given: dict[str, str], device: Device, deadline: Deadline, words: Words, memory: Memory) -> Fact:
    """Activate and, without a trial asked for, commit at once: an undo must not end in a trial nobody watches."""
    slot = _slot(device, given["model"], deadline)
    version, trial = given["version"], given.get("trial_s")
    found = _found(memory, {"previous": _answering(slot), "version": version})
    on_trial = slot.state == "trial"
    if _answering(slot) == version and (not on_trial or (trial is not None and memory.before is not None)):
        return Fact(True, found, message="already there")
    if not (on_trial and slot.candidate == version and memory.before is not None):
        step = Activate(model=slot.model, version=version, trial_s=int(trial or DEFAULT_TRIAL_S))
        gate.perform(device, step, deadline, words=words)
    if trial is None:
        gate.perform(device, Commit(model=slot.model, version=version), deadline, words=words)
    return Fact(True, found)


def _found(memory: Memory, now: dict[str, str]) -> dict[str, str]:
    """What was there before the change began: a device that made it while the laptop was dead no longer shows it."""
    if memory.before is not None:
        return memory.before
    memory.keep(now)
    return now


def _health(given: dict[str, str], device: Device, deadline: Deadline) -> Fact:
    slot = _slot(device, given["model"], deadline)
    wanted = given.get("version", "")
    answering = _answering(slot)
    if wanted and answering != wanted:
        return Fact(False, {}, "wrong_version", f"{slot.model} answers with {answering or 'nothing'}, not {wanted}", 6)
    if slot.state in {"needs_human", "reverting"}:
        return Fact(False, {}, "unhealthy", f"{slot.model} is {slot.state}: {slot.reason}", 6)
    serving = next((each for each in device.resources(deadline).serving if each.model == slot.model), None)
    failed = serving.failed if serving is not None else 0
    limit = given.get("max_failed")
    if limit is not None and failed > int(limit):
        return Fact(False, {"failed": str(failed)}, "unhealthy", f"{failed} failed requests, limit {limit}", 6)
    return Fact(True, {"version": answering, "failed": str(failed)})


def _slot(device: Device, model: str, deadline: Deadline) -> SlotStatus:
    for slot in device.models(deadline).slots:
        if slot.model == model:
            return slot
    raise DeviceCannot(f"no model {model!r}", reason="unknown_model", next_step="give another `model`", device=device.entry.name)


def _answering(slot: SlotStatus) -> str:
    return (slot.candidate if slot.state == "trial" else slot.active) or ""

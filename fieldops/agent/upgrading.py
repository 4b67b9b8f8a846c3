"""A signed agent, from its verified kit to its trial and its end. Runs on the transaction's thread.

The agent that runs verifies, unpacks, installs and tests the new one beside itself, then ends; who comes next stands guard
(guard.py). Until KeepAgent nothing that is started has moved.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from fieldops import __version__
from fieldops.agent.device import Device
from fieldops.agent.home import AgentHome
from fieldops.agent.judged import Judgement
from fieldops.agent.newcomer import (
    NewAgent,
    current,
    keep,
    on_trial,
    put_on_trial,
    running,
    told,
    trial_start,
    why_back,
)
from fieldops.agent.records import done, ended
from fieldops.agent.shelf import Shelf
from fieldops.bundles.kit import agent_version
from fieldops.edges.disk import make_folder, remove_tree, storage_faults, unlink
from fieldops.edges.install_script import INSTALL
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.slots import RESTING
from fieldops.steps import KeepAgent, Upgrade
from fieldops.wire import StepRecord

SPACE = 5  # a kit unpacked takes about four times its size
INSTALL_S = 600.0  # a slow card unpacks numpy for minutes
LOOK_S = 0.2
FLOOR = "agent_floor"


def floor(device: Device) -> str:
    """The highest version that this device has kept; what runs now is kept, or on trial."""
    kept = device.registry.fact(FLOOR, "")
    own = "" if trial_start() and on_trial(device.home) else __version__
    return max((version for version in (kept, own) if version), key=agent_version, default="0.0.0")


def check(device: Device, step: Upgrade) -> None:
    """What stands in the way before anything is brought. Raises DeviceCannot, UsageFault."""
    _check_resting(device)
    if not (5 <= step.trial_s <= 86_400 and 5 <= step.answer_s <= 600):
        raise UsageFault(
            f"a trial of {step.trial_s} s, {step.answer_s} s to answer",
            reason="usage",
            next_step="choose 5 to 86400 seconds, and 5 to 600 to answer",
        )
    if not running(device.home) or running(device.home) != current(device.home):
        raise DeviceCannot(
            "this agent was not installed from a kit, so no other can take its place",
            reason="not_from_kit",
            next_step="replace it the way it was put there, or enrol with --kit",
        )
    if on_trial(device.home) is not None:
        raise DeviceCannot("a new agent is on trial already", reason="busy", next_step="keep it, or wait until it is over")
    if device.config.service and not device.home.proof.exists():
        raise DeviceCannot(
            "nobody has seen this agent come back after a restart",
            reason="not_proved",
            next_step="enrol it again from its kit: `fieldops device enrol DEVICE --kit DIR`",
        )


def _check_resting(device: Device) -> None:
    moving = [f"{slot.model} is {slot.state}" for slot in device.registry.slots() if slot.state not in RESTING]
    if moving:
        raise DeviceCannot("; ".join(moving), reason="busy", next_step="commit or roll back first, then upgrade")


def check_room(device: Device, size: int, have: int) -> None:
    """Raises DeviceCannot (disk_full)."""
    needed, free = size * (1 + SPACE) - have, device.sensors.free_bytes()
    if free is not None and free < needed:
        raise DeviceCannot(
            f"an agent of {size} bytes takes about {needed} to install, and {free} are free",
            reason="disk_full",
            next_step="free space on the device: `fieldops models prune`",
        )


def upgrade(device: Device, record: StepRecord, step: Upgrade, verified: Callable[[Path], Judgement], actor: str) -> None:
    """verified: the kit unpacked into a folder, each byte compared by the verifier. Ends this process when all is ready."""
    home = device.home
    with storage_faults(home.root):
        remove_tree(home.root / "kit")
        make_folder(home.root / "kit")
    kit = verified(home.root / "kit").kit
    with storage_faults(home.root):
        _sweep(home.root / "software", keep={current(home), kit})
    unlink(Shelf(home).path(step.kit_sha256))  # the quota is for models
    device.save(record=replace(record, phase="installing"))
    _install(device, kit)
    _check_resting(device)
    note = device.entry(actor, "upgrade", "", step.version, "installed", kit)
    device.save(record=replace(record, phase="restarting", previous=__version__), note=note)
    new = NewAgent(
        step_id=record.step_id,
        version=step.version,
        software=kit,
        former=current(home),
        trial_s=step.trial_s,
        answer_s=step.answer_s,
    )
    put_on_trial(home, new)
    os.kill(os.getpid(), signal.SIGTERM)


def forget(home: AgentHome) -> None:
    """The kit of an upgrade that will not be."""
    with contextlib.suppress(OSError):  # the next one removes it first
        remove_tree(home.root / "kit")


def _sweep(folder: Path, *, keep: set[str]) -> None:
    """Software from before the last upgrade, and what one left that was cut off."""
    for old in folder.iterdir():
        if old.name not in keep:
            remove_tree(old)


def _install(device: Device, kit: str) -> None:
    """Raises DeviceCannot (install_failed)."""
    root = device.home.root
    with subprocess.Popen(
        ["sh", "-c", INSTALL, "sh", root, kit, sys.executable],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        said, why = _waited(process, device)
    if why is None and process.returncode == 0:
        return
    with storage_faults(root):
        _sweep(root / "software", keep={current(device.home)})
        remove_tree(root / "kit")
    clean = "".join(char if char.isprintable() else " " for char in said.decode("utf-8", "replace")).strip()[-400:]
    raise DeviceCannot(
        f"the installation {why or f'ended with {process.returncode}'}: {clean or 'it said nothing'}",
        reason="install_failed",
        next_step="the agent that runs goes on; try the kit of another release",
    )


def _waited(process: subprocess.Popen[bytes], device: Device) -> tuple[bytes, str | None]:
    """(what it said, why it did not end by itself)."""
    until = device.monotonic() + INSTALL_S
    while True:
        try:
            return process.communicate(timeout=LOOK_S)[0], None
        except subprocess.TimeoutExpired:
            if not device.stopping and device.monotonic() < until:
                continue
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], "was stopped" if device.stopping else f"took more than {INSTALL_S:g} s"


def keep_agent(device: Device, record: StepRecord, step: KeepAgent, actor: str) -> None:
    """Raises DeviceCannot: this agent is not the one on trial."""
    new = on_trial(device.home)
    if kept(device, step):
        device.save(record=done(record, device.now(), message=f"agent {step.version} was kept before"))
        return
    if new is None or not trial_start() or new.version != step.version or new.software != running(device.home):
        raise DeviceCannot(
            f"agent {step.version} is not on trial here; {__version__} answers",
            reason="not_on_trial",
            next_step="upgrade again: `fieldops device enrol --upgrade`",
        )
    keep(device.home, new)
    note = device.entry(actor, "keep_agent", "", step.version, "kept", new.software)
    device.save(
        record=done(record, device.now(), message=f"agent {step.version} is kept"),
        note=note,
        also=[lambda change: change.fact(FLOOR, step.version)],
    )


def kept(device: Device, step: KeepAgent) -> bool:
    """It is this very agent, and it is what is started."""
    here = running(device.home)
    return bool(here) and here == current(device.home) and __version__ == step.version and on_trial(device.home) is None


def recover(device: Device, record: StepRecord, step: Upgrade) -> bool:
    """At the start: what became of an upgrade under way; False: it was cut off before its trial."""
    new = on_trial(device.home)
    if new is None or new.step_id != record.step_id or not trial_start():
        return False
    if trial_start() == 2:
        message = f"agent {step.version} answers, also after a restart; on trial for {step.trial_s} s"
        device.save(record=done(record, device.now(), message=message, version=step.version))
    return True


def tell_return(device: Device) -> None:
    """At the start of the agent that came back: why, in the journal and the step's record."""
    over = None if trial_start() else why_back(device.home)
    if over is None:
        return
    record = device.registry.record(over.step_id)
    message = f"agent {over.version}: {over.message}; {__version__} answers again"
    end = None
    if record is not None and not record.ended:
        fault = DeviceCannot(message, reason=over.reason, next_step="look at `fieldops logs`; try the kit of another release")
        end = replace(ended(record, fault, device.now()), state="reverted", version=__version__)
    device.save(record=end, note=device.entry(device.actor, "agent_back", "", __version__, over.reason, over.message))
    told(device.home)


def remember_floor(device: Device) -> None:
    """Whatever runs and is not on trial was kept: by a step whose end a power cut took, or by an enrolment with a kit."""
    if floor(device) != device.registry.fact(FLOOR, ""):
        device.save(also=[lambda change: change.fact(FLOOR, floor(device))])

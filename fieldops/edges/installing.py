"""A device whose agent comes from a kit: putting it there is the means of Enrol, taking it away that of Unenrol.

Everything goes over SSH. What is done twice does no harm: software that is whole is not pushed again, and whatever is found
broken is put right. The agent must then be seen to answer over a new login, and as another process after its service was
restarted; only then the device holds the `proof` without which it puts nothing on trial.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from msgspec.structs import replace as with_

from fieldops.bundles.kit import agent_version
from fieldops.deadline import Deadline
from fieldops.edges import install_script
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.kit import KitFolder
from fieldops.edges.over_ssh import BareDevice
from fieldops.edges.ssh import SshLink, Sudo
from fieldops.errors import DeviceCannot, LinkFault, MalformedReply
from fieldops.fleet import DeviceEntry, DeviceId, Resources, key_id
from fieldops.ports import Grant, OnProgress, Payload, Progress
from fieldops.steps import Enrol, Step, Unenrol, kind_of
from fieldops.wire import DriftReports, Hello, JournalPage, ModelsReport, StepRecord, TrustStatus

INSTALL_S = 600.0  # a slow card unpacks numpy for minutes
QUICK_S = 30.0
RESTART_S = 150.0
SPACE = 5  # a kit unpacked takes about four times its size
HOW = {
    "system": "a systemd service",
    "user": "a systemd service of this login, which lingers",
    "supervised": "a supervisor of its own, since systemd does not serve this login",
}
_PLAIN = re.compile(r"/[A-Za-z0-9/._+-]{1,80}")  # unquoted in units and cron lines; room for a socket's name

Agents = AgentDevice | BareDevice


@dataclass(frozen=True, slots=True)
class Survey:
    """What an installation meets there. pythons: (command, version, C library, its version, bits)."""

    base: str
    mode: str
    machine: str
    free_bytes: int
    pythons: tuple[tuple[str, str, str, str, int], ...]
    software: str  # kit id of what is installed and whole; "" none
    cron: bool
    version: str = ""  # of the agent that is installed; "" none
    login: str = ""  # whose the agent is, where sudo makes its service; "" where no sudo is needed

    @property
    def words(self) -> list[str]:
        """The first arguments of every script."""
        return [self.base, self.mode, self.login]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What goes into a new agent.toml. lan: "host:port", "" none. foreign: (model, path on the device).

    sudo: a service of the system, which a login that is not root makes by sudo.
    """

    device_class: str = ""
    label: str = ""
    lan: str = ""
    foreign: tuple[str, str] | None = None
    sudo: bool = False


class InstallingDevice:
    """Implements ports.Device. dial: a new SSH link. agent: the device as any other call would find it over SSH.

    met: told the agent's hello before it first signs anything. kit None: nothing is installed, only taken away. password: of
    the login, where sudo asks for it; asked for once, and forgotten with this object. None: nobody may be asked.
    proof: what was seen, once Enrol is done; unproved: why not.
    """

    def __init__(
        self,
        entry: DeviceEntry,
        dial: Callable[[Deadline], SshLink],
        agent: Callable[[Deadline], Agents],
        met: Callable[[Hello], None],
        kit: KitFolder | None,
        wishes: Wishes = Wishes(),
        password: Callable[[SshLink], str | None] | None = None,
    ) -> None:
        self._entry = entry
        self._dial = dial
        self._open = agent
        self._met = met
        self._kit = kit
        self._wishes = wishes
        self._ask = password
        self._password: str | None = None
        self._device: Agents | None = None
        self.proof = ""
        self.unproved = ""

    @property
    def entry(self) -> DeviceEntry:
        return self._device.entry if self._device is not None else self._entry

    @property
    def link(self) -> str:
        return self._device.link if self._device is not None else "bare"

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
        self._device = None

    def _now(self, deadline: Deadline) -> Agents:
        if self._device is None:
            self._device = self._open(deadline)
        return self._device

    def hello(self, deadline: Deadline) -> Hello:
        return self._now(deadline).hello(deadline)

    def resources(self, deadline: Deadline) -> Resources:
        return self._now(deadline).resources(deadline)

    def models(self, deadline: Deadline) -> ModelsReport:
        return self._now(deadline).models(deadline)

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        return self._now(deadline).drift(deadline, model)

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        return self._now(deadline).journal(after, deadline)

    def trust(self, deadline: Deadline) -> TrustStatus:
        return self._now(deadline).trust(deadline)

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        return self._now(deadline).logs(lines, deadline)

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        return self._now(deadline).record(step_id, deadline)

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        tell = progress or _silent
        match step:
            case Enrol() if self._kit is not None:
                return self._enrol(self._kit, grant, step, deadline, tell)
            case Unenrol():
                return self._unenrol(grant, step, deadline, tell)
            case _:
                return self._now(deadline).apply(grant, step, deadline, payload=payload, progress=progress)

    # --- there -----------------------------------------------------------------------------------------------------------

    def _enrol(self, kit: KitFolder, grant: Grant, step: Enrol, deadline: Deadline, tell: OnProgress) -> StepRecord:
        self.close()
        link = self._dial(deadline)
        try:
            found = survey(link, kit.kit.python, deadline, sudo=self._wishes.sudo)
            self._entry = replace(self._entry, id=self._entry.id or DeviceId(key_id(link.host_key[1])))
            _install(link, kit, found, self._wishes, self._sudo(link, found), deadline, tell)
        finally:
            link.close()
        device = self._awaited(deadline)
        self._met(device.hello(deadline))
        record = device.apply(grant, step, deadline, progress=tell)
        if record.state != "done":
            return record
        self._prove(kit, found, device.hello(deadline).device, deadline, tell)
        said = self.proof or f"NOT PROVED that it comes back: {self.unproved}"
        return with_(record, message=f"{record.message}; {said}")

    def _awaited(self, deadline: Deadline) -> AgentDevice:
        """The agent over a login of its own. Raises DeviceCannot when there is none."""
        self.close()
        device = self._now(deadline)
        if isinstance(device, BareDevice):
            raise _cannot(self._entry, "its agent was installed, but this login does not find it", "no_agent")
        return device

    def _prove(self, kit: KitFolder, found: Survey, device: str, deadline: Deadline, tell: OnProgress) -> None:
        """After the login ended, and after a restart of the service. A failure is told, and leaves the device unproved."""
        try:
            tell(Progress("proof: another login", 0, 2))
            if self._awaited(deadline).hello(deadline).device != device:
                self.unproved = "another device answered the second login"
                return
            self.close()
            tell(Progress("proof: a restart", 1, 2))
            link = self._dial(deadline)
            try:
                restart = ["sh", "-c", install_script.RESTART, "sh", *found.words]
                done = link.run(restart, deadline.within(RESTART_S), sudo=self._sudo(link, found))
                if done.rc != 0:
                    self.unproved = f"it did not answer after a restart of {HOW[found.mode]}"
                    return
                proof = json.dumps(
                    {"service": found.mode, "kit": kit.id, "processes": done.out.decode("ascii", "replace").split()}
                )
                _must(link, install_script.PROVED, [found.base, proof], deadline, self._entry)
            finally:
                link.close()
            if self._awaited(deadline).hello(deadline).device != device:
                self.unproved = "another device answered after the restart"
                return
        except (LinkFault, DeviceCannot) as error:
            self.unproved = error.message
            return
        tell(Progress("proof", 2, 2))
        boot = (
            "" if found.mode != "supervised" or found.cron else "; nothing starts it after a reboot there (no systemd, no cron)"
        )
        self.proof = f"it answers after logout and after a restart of {HOW[found.mode]}{boot}"

    def _sudo(self, link: SshLink, found: Survey) -> Sudo | None:
        """None: root's rights are not needed, or the login is root."""
        if not found.login:
            return None

        def password() -> str | None:
            if self._password is None and self._ask is not None:
                self._password = self._ask(link)
            return self._password

        return Sudo(password)

    # --- away ------------------------------------------------------------------------------------------------------------

    def _unenrol(self, grant: Grant, step: Unenrol, deadline: Deadline, tell: OnProgress) -> StepRecord:
        record = StepRecord(step_id=grant.step_id, kind=kind_of(step), state="done", message="no agent answered")
        device = self._now(deadline)
        if isinstance(device, AgentDevice):
            self._met(device.hello(deadline))
            try:
                record = device.apply(grant, step, deadline, progress=tell)
            except LinkFault as error:
                if error.reason != "not_enrolled":
                    raise
        if record.state != "done":
            return record
        self.close()
        tell(Progress("removing", 0, None))
        link = self._dial(deadline)
        try:
            found = survey(link, "3", deadline)
            _must(link, install_script.RETIRE, found.words, deadline, self._entry, sudo=self._sudo(link, found))
            _must(link, install_script.ERASE, [found.base], deadline, self._entry)
        finally:
            link.close()
        return with_(record, message=f"{record.message}; the agent and its folder are gone")


def _silent(_: Progress) -> None:
    pass


def _cannot(entry: DeviceEntry | None, message: str, reason: str, next_step: str = "") -> DeviceCannot:
    name = entry.name if entry is not None else None
    return DeviceCannot(
        message, reason=reason, next_step=next_step or "see `When it fails` in docs/links.md, then enrol again", device=name
    )


def survey(link: SshLink, python: str, deadline: Deadline, *, sudo: bool = False) -> Survey:
    """Raises MalformedReply, DeviceCannot for a home folder that cannot be used, or no systemd where sudo is wished for."""
    words = [install_script.SURVEY, "sh", python, "sudo" if sudo else ""]
    done = link.run(["sh", "-c", *words], deadline.within(QUICK_S))
    lines = [line.partition("=") for line in done.out.decode("utf-8", "replace").splitlines()]
    said = {key: value for key, _, value in lines if key != "python"}
    if said.get("end") != "1" or said.get("mode") not in HOW:
        raise MalformedReply(
            "the survey is not complete", next_step="check that the login's shell is a POSIX shell", device=link.device
        )
    if not _PLAIN.fullmatch(said.get("base", "")) or ".." in PurePosixPath(said["base"]).parts:
        raise DeviceCannot(
            f"the agent cannot live in {said.get('base', '')[:120]!r}: too long, or other than letters, digits, `/._+-`",
            reason="bad_home",
            next_step="set FIELDOPS_AGENT_HOME for this login to a plain, short path",
            device=link.device,
        )
    if sudo and said["mode"] != "system":
        raise DeviceCannot(
            "no systemd runs there that could keep a service of the system",
            reason="no_systemd",
            next_step="enrol without --sudo",
            device=link.device,
        )
    pythons = [value.split() for key, _, value in lines if key == "python"]
    return Survey(
        base=said["base"],
        mode=said["mode"],
        machine=said.get("machine", ""),
        free_bytes=int(said["free"]) * 1024 if said.get("free", "").isdigit() else 0,
        pythons=tuple((w[0], w[1], w[2], w[3], int(w[4])) for w in pythons if len(w) == 5 and w[4].isdigit()),
        software=said.get("software", "") if said.get("whole") == "1" else "",
        cron=said.get("cron") == "1",
        version=said.get("version", ""),
        login=said.get("login", ""),
    )


def _install(
    link: SshLink, kit: KitFolder, found: Survey, wishes: Wishes, sudo: Sudo | None, deadline: Deadline, tell: OnProgress
) -> None:
    _check_not_older(kit, found, link.device)
    python = _fitting(link, kit, found)
    _must(link, install_script.PREPARE, [found.base], deadline, None)
    if found.software != kit.id:
        _push(link, kit, found, deadline, tell)
        tell(Progress("installing", 0, None))
        _must(link, install_script.INSTALL, [found.base, kit.id, python], deadline.within(INSTALL_S), None)
    if wishes.foreign is not None:
        script = 'umask 077; mkdir -p "$1/foreign" && cp -f "$2" "$1/foreign/"'
        _must(link, script, [found.base, wishes.foreign[1]], deadline, None)
    tell(Progress(f"starting: {HOW[found.mode]}", 0, None))
    kept = (
        install_script.supervisor(found.base)
        if found.mode == "supervised"
        else install_script.unit(found.base, found.mode, found.login)
    )
    words = [*found.words, kit.id, _agent_toml(found, wishes), kept, "1" if found.cron else ""]
    _must(link, install_script.SWITCH, words, deadline.within(RESTART_S), None, sudo=sudo)


def _check_not_older(kit: KitFolder, found: Survey, device: str) -> None:
    """What runs there has kept things that an older agent may not read. Raises DeviceCannot (older_agent)."""
    if found.version and agent_version(kit.kit.version) < agent_version(found.version):
        raise DeviceCannot(
            f"the kit's agent is {kit.kit.version}, and {found.version} is installed there",
            reason="older_agent",
            next_step="use a newer kit; an older one takes `device enrol --remove` first, which forgets models and keys",
            device=device,
        )


def _fitting(link: SshLink, kit: KitFolder, found: Survey) -> str:
    """The Python there that this kit is for. Raises DeviceCannot with all that is wrong."""
    wanted = kit.kit
    named = ", ".join(f"{version} {libc} {bits}-bit" for _, version, libc, _, bits in found.pythons) or "none"
    libc = "musl" if wanted.platform.startswith("musl") else "glibc"
    usable = [python for python in found.pythons if python[1] == wanted.python and python[2] == libc]
    faults = [] if found.machine == wanted.machine else [f"the kit is for {wanted.machine}, the device is {found.machine}"]
    if not usable:
        faults.append(f"the kit is for Python {wanted.python} with {libc}; there: {named}")
    if 0 < found.free_bytes < kit.kit.size_bytes * SPACE:
        faults.append(f"{found.free_bytes / 1e6:.0f} MB are free; it takes about {kit.kit.size_bytes * SPACE / 1e6:.0f}")
    if faults:
        raise DeviceCannot(
            "; ".join(faults),
            reason="wrong_kit",
            next_step="build the kit that `fieldops device show` names for this device",
            device=link.device,
        )
    return usable[0][0]


def _push(link: SshLink, kit: KitFolder, found: Survey, deadline: Deadline, tell: OnProgress) -> None:
    files = kit.files()
    total, before = sum(path.stat().st_size for path in files), 0
    for path in files:

        def moved(progress: Progress, before: int = before) -> None:
            tell(Progress("kit", before + progress.done, total))

        link.upload(path, f"{found.base}/kit/{path.name}", deadline, moved)
        before += path.stat().st_size


def _agent_toml(found: Survey, wishes: Wishes) -> str:
    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    lines = [f"class = {quoted(wishes.device_class)}", f"label = {quoted(wishes.label)}", "[service]", f'kind = "{found.mode}"']
    if found.mode != "system" or found.login:
        lines += ["[runtime]", f"folder = {quoted(found.base + '/run')}"]
    if wishes.lan:
        lines += ["[lan]", f"listen = {quoted(wishes.lan)}"]
    if wishes.foreign is not None:
        model, path = wishes.foreign
        lines += ["[foreign]", f"model = {quoted(model)}", f"file = {quoted(PurePosixPath(path).name)}"]
    return "".join(f"{line}\n" for line in lines)


def _must(
    link: SshLink, script: str, words: list[str], deadline: Deadline, entry: DeviceEntry | None, *, sudo: Sudo | None = None
) -> None:
    done = link.run(["sh", "-c", script, "sh", *words], deadline, sudo=sudo)
    if done.rc == 0:
        return
    said = (done.err or done.out).decode("utf-8", "replace")
    clean = "".join(char if char.isprintable() else " " for char in said).strip()[-400:]
    raise DeviceCannot(
        f"the installation ended with {done.rc}: {clean or 'it said nothing'}",
        reason="install_failed",
        next_step="see `When it fails` in docs/links.md, then enrol again: it goes on where it can",
        device=entry.name if entry else link.device,
    )

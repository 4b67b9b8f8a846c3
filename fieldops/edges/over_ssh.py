"""A device over SSH: its agent where one runs, else bare, to be looked at and not changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from fieldops.bundles.support import Support
from fieldops.deadline import Deadline
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.agent_requests import Pipe
from fieldops.edges.boards import resources_of, support_of_facts
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.probe import Facts, find_agent, read_facts
from fieldops.edges.ssh import SshLink, Terms, connect
from fieldops.errors import DeviceCannot, Unreachable
from fieldops.fleet import DeviceEntry, DeviceId, Resources, key_id
from fieldops.ports import UNVERIFIED, Grant, OnProgress, Payload
from fieldops.steps import Step
from fieldops.wire import DriftReports, Hello, JournalPage, ModelsReport, StepRecord, TrustStatus, b64


def ssh_device(
    entry: DeviceEntry,
    *,
    known_hosts: KnownHosts,
    identities: Sequence[Path],
    deadline: Deadline,
    terms: Terms | None = None,
    met: Callable[[SshLink], None] | None = None,
) -> AgentDevice | BareDevice:
    """The device over SSH: its agent where one runs, else bare. A lost link is made anew while a change is under way.

    met: called with each link before anything is read over it.
    """

    def open_pipe(until: Deadline) -> tuple[SshLink, Pipe | None]:
        link = connect(entry, known_hosts=known_hosts, identities=identities, deadline=until, terms=terms)
        try:
            if met is not None:
                met(link)
            place = find_agent(link, until)
        except BaseException:
            link.close()
            raise
        return link, Pipe(link.http(place.socket, program=place.program), link.close, link.is_alive) if place else None

    def reconnect(until: Deadline) -> Pipe:
        link, pipe = open_pipe(until)
        if pipe is None:
            link.close()
            raise Unreachable(  # it may be starting again: asked until the deadline
                "its agent is not running any more",
                phase="open",
                next_step="look at the device: fieldops-agent status",
                device=entry.name,
            )
        return pipe

    link, pipe = open_pipe(deadline)
    if pipe is None:
        return BareDevice(entry, link)
    return AgentDevice(
        entry,
        "ssh",
        pipe.client,
        pipe.close,
        also=frozenset({key_id(link.host_key[1])}),
        reconnect=reconnect,
        unverified=link.unverified,
        alive=link.is_alive,
    )


class BareDevice:
    """Implements ports.Device for a device without an agent: it can be looked at, not changed."""

    def __init__(self, entry: DeviceEntry, link: SshLink) -> None:
        self._entry = entry if entry.id else replace(entry, id=DeviceId(key_id(link.host_key[1])))
        self._ssh = link
        self._last: Facts | None = None

    @property
    def entry(self) -> DeviceEntry:
        return self._entry

    @property
    def link(self) -> str:
        return "bare" if self._ssh.unverified is None else f"bare {UNVERIFIED}"

    @property
    def alive(self) -> bool:
        """Whether it may be kept: the link stands, and no agent came since it was called bare."""
        return self._ssh.alive and not (self._last is not None and self._last.text("socket"))

    def close(self) -> None:
        self._ssh.close()

    def hello(self, deadline: Deadline) -> Hello:
        """Its id is its host key's; versions (0, 0) say that no agent answered."""
        facts = read_facts(self._ssh, deadline)
        blob = self._ssh.host_key[1]
        return Hello(
            device=key_id(blob),
            public_key=b64(blob),
            versions=(0, 0),
            agent="",
            enrolled=False,
            boot_id=facts.text("boot_id"),
            time=facts.number("time") or 0.0,
            device_class=self._entry.device_class,
            label=facts.text("host"),
        )

    def support(self, deadline: Deadline) -> Support:
        """What could be installed here, and why not more."""
        return support_of_facts(read_facts(self._ssh, deadline, support=True))

    def resources(self, deadline: Deadline) -> Resources:
        facts = read_facts(self._ssh, deadline)
        before, self._last = self._last, facts
        return resources_of(facts, before)

    def models(self, deadline: Deadline) -> ModelsReport:  # noqa: ARG002 - the port's signature, as all below
        self._no_agent("models")

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:  # noqa: ARG002
        self._no_agent("drift")

    def journal(self, after: int, deadline: Deadline) -> JournalPage:  # noqa: ARG002
        self._no_agent("journal")

    def trust(self, deadline: Deadline) -> TrustStatus:  # noqa: ARG002
        self._no_agent("trust")

    def logs(self, lines: int, deadline: Deadline) -> list[str]:  # noqa: ARG002
        self._no_agent("log")

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:  # noqa: ARG002
        self._no_agent("records of changes")

    def apply(
        self,
        grant: Grant,  # noqa: ARG002
        step: Step,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
        *,
        payload: Payload | None = None,  # noqa: ARG002
        progress: OnProgress | None = None,  # noqa: ARG002
    ) -> StepRecord:
        if self._ssh.unverified is not None:
            raise self._ssh.unverified
        self._no_agent("")

    def _no_agent(self, what: str) -> NoReturn:
        """what: that it cannot tell of; "": it was to be changed."""
        raise DeviceCannot(
            f"no agent runs there, so {f'nothing tells of its {what}' if what else 'nothing can be changed'}",
            reason="no_agent",
            next_step=f"bring the agent along: fieldops device enrol {self._entry.name} --kit DIR (made by `fieldops kit build`)",
            device=self._entry.name,
        )
